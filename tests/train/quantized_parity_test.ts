/** Training on a quantised base beside PyTorch, which trains on the values that the codes stand for. */
import assert from "node:assert/strict";
import { readAdapter } from "../../model/adapter/adapter_folder.ts";
import { loadAdapter } from "../../model/checkpoint/load.ts";
import { fixturePath, readFixture, tokenizedSamples } from "../fixtures.ts";
import { assertClose, gpuTest } from "../kernels/harness.ts";
import { standingValues } from "../quantized_model.ts";
import { openRun, runSteps } from "./quantized.ts";

const { learning_rate: learningRate, samples, cases } = readFixture("quantized/cases.json");
const EVERY = 2;
const WINDOWS = Array.from(
  { length: samples.length / EVERY },
  (_, step) =>
    tokenizedSamples(samples.slice(step * EVERY, (step + 1) * EVERY)).map((sample) => [sample]),
);

for (const { model, quantization, double_quantization, steps, unquantized_loss } of cases) {
  const kind = quantization === "nf4" && !double_quantization ? "nf4_f32" : quantization;
  gpuTest(`training on a base in ${kind} equals PyTorch's on its values`, async (gpu) => {
    const folder = `quantized/${model}`;
    const trainer = await openRun(gpu, folder, WINDOWS, [
      ...["--quantization", quantization, "--double-quantization", `${double_quantization}`],
      ...["--lora.rank", "4", "--lora.alpha", "8", "--lora.targets", "q_proj,v_proj,down_proj"],
      ...["--gradient-accumulation-steps", `${EVERY}`],
    ]);
    loadAdapter(gpu, trainer.model, readAdapter(fixturePath(`${folder}/adapter`)));
    const held = await standingValues(gpu, trainer.model);
    assert.equal(held.size, 7 * trainer.model.config.num_hidden_layers);
    const results = await runSteps(gpu, trainer, WINDOWS, { learningRate });
    for (const [i, { losses, gradNorm }] of results.entries()) {
      const expected = steps[i], what = `step ${i + 1}`;
      assertClose(losses, expected.losses, { atol: 0, rtol: 1e-4, what: `${what} losses` });
      assertClose([gradNorm], [expected.grad_norm], { atol: 0, rtol: 1e-3, what: `${what} norm` });
    }
    // The same without quantisation is far away.
    assert.ok(Math.abs(results[0].losses[0] / unquantized_loss - 1) > 1e-3);
  });
}
