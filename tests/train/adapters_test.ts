/** Adapters of every kind trained on, three steps beside PEFT's: losses and gradient norms, with LoRA+ too. */
import assert from "node:assert/strict";
import type { Gpu } from "../../kernels/gpu.ts";
import { type Adapter, readAdapter } from "../../model/files/adapter.ts";
import { loadAdapter, loadWeights } from "../../model/load.ts";
import { openModel } from "../../model/source.ts";
import { settingsFrom } from "../../train/adapter_settings.ts";
import { parseTrainArguments, type TrainConfig } from "../../train/config.ts";
import { runSizes, Trainer, type Window } from "../../train/trainer.ts";
import { fixturePath, type PeftCase, readFixture } from "../fixtures.ts";
import { assertClose, gpuTest } from "../kernels/harness.ts";

/** A trainer that starts from an adapter, as `train --adapter` makes it. */
async function open(
  gpu: Gpu,
  { model: base, name }: Pick<PeftCase, "model" | "name">,
  settings: Partial<TrainConfig> & { plusRatio?: number },
  window: Window,
): Promise<Trainer> {
  const { plusRatio = 1, ...given } = settings;
  const source = openModel(fixturePath(base)), folder = fixturePath(`peft/${name}`);
  const adapter: Adapter = readAdapter(folder);
  const defaults = parseTrainArguments(["--model", "unused", "--output", "unused"]);
  assert.ok(defaults.lora);
  const lora = settingsFrom(
    { ...defaults.lora, plus_ratio: plusRatio },
    adapter.config,
    { given: new Set(), model: source.config, what: folder },
  );
  const config: TrainConfig = { ...defaults, ...given, precision: "fp32", lora };
  const trainer = new Trainer(
    gpu.memory,
    source.config,
    config,
    runSizes([window], config),
    gpu.maxBinding,
  );
  trainer.model.initialize(gpu);
  await loadWeights(gpu, trainer.model, source, { seed: 0 });
  loadAdapter(gpu, trainer.model, adapter);
  return trainer;
}

for (const c of readFixture("peft.json")) {
  gpuTest(`adapters: three steps equal PEFT's, with LoRA+ too: ${c.name}`, async (gpu) => {
    const window = [
      c.samples.map((sample) => ({
        ...sample,
        ids: Uint32Array.from(sample.ids),
        truncated: false,
      })),
    ];
    const { learning_rate, plus_ratio, steps, plus_steps } = c.training;
    for (const [plusRatio, expected] of [[1, steps], [plus_ratio, plus_steps]] as const) {
      const settings = { learning_rate, plusRatio, loss_normalization: "token" } as const;
      const trainer = await open(gpu, c, settings, window);
      for (const [step, { loss, grad_norm }] of expected.entries()) {
        const result = await trainer.step(gpu, window, {
          learningRate: learning_rate,
          firstMicroBatch: step,
        });
        const what = `${c.name} ×${plusRatio} step ${step}`;
        assertClose([result.loss], [loss], { atol: 0, rtol: 1e-4, what: `${what} loss` });
        assertClose([result.gradNorm], [grad_norm], { atol: 0, rtol: 1e-3, what: `${what} norm` });
      }
    }
  });
}
