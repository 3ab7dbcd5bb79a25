/** What a run compiles before its first step: all that its steps launch, though few of its blocks are looked at. */
import assert from "node:assert/strict";
import { openGpu } from "../../kernels/gpu/gpu.ts";
import { gpuTest } from "../kernels/harness.ts";
import { openTrainer, randomSamples, randomSubject, type Settings, SMALL_CONFIG } from "./runs.ts";

const DEEP = { ...SMALL_CONFIG, num_hidden_layers: 7 };
const LORA = { rank: 4, alpha: 8, targets: ["q_proj", "v_proj"] } as const;

/** Runs, and whether most blocks do nothing but what another does. */
const RUNS: Record<string, { settings?: Settings; alike: boolean }> = {
  "LoRA": { alike: true },
  "LoRA in mixed precision": { settings: { precision: "mixed" }, alike: true },
  "LoRA with every block computed again": { settings: { checkpointing: "block" }, alike: false },
};

for (const [name, { settings = {}, alike }] of Object.entries(RUNS)) {
  gpuTest(`precompiling has the programs of all blocks: ${name}`, async () => {
    await using gpu = await openGpu();
    const subject = randomSubject(DEEP, LORA);
    const windows = randomSamples(DEEP, [9, 33, 70]).map((sample) => [[sample]]);
    const trainer = openTrainer(gpu, subject, windows, settings);
    let launches = 0;
    const { run } = gpu;
    gpu.run = (...given) => {
      launches++;
      run.apply(gpu, given);
    };
    await trainer.precompile(gpu, windows);
    const listed = launches, built = gpu.pipelines.count;
    launches = 0;
    for (const window of windows) {
      await trainer.step(gpu, window, { learningRate: 0.01, firstMicroBatch: 0 });
    }
    assert.equal(gpu.pipelines.count, built);
    assert.equal(listed < 0.7 * launches, alike, `${listed} launches listed of ${launches}`);
  });
}
