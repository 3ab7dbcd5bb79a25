import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { initialGradScaler } from "../../../../kernels/ops/optimizer/loss_scale.ts";
import { sgd } from "../../../../kernels/ops/optimizer/sgd.ts";
import {
  assertClose,
  AWKWARD4,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  upload,
} from "../../harness.ts";
import { withMaxBinding } from "../../small_binding.ts";

async function test(gpu: Gpu, shape: number[], copy: boolean, weightDecay: number) {
  const count = shape.reduce((a, b) => a * b), learningRate = 0.05;
  const expected = quantize(randomArray(count, 1), "f32");
  const master = upload(gpu, expected, "f32", shape);
  const value = copy ? poisoned(gpu, "f16", shape) : undefined;
  for (let step = 0; step < 4; step++) {
    const skip = step === 1, scale = 64 * (step + 1);
    const gradient = quantize(randomArray(count, 10 + step, scale), "f32");
    if (skip) gradient[0] = NaN;
    const before = value && await download(gpu, value);
    const fields = initialGradScaler(scale);
    fields[5] = skip ? 1 : 0;
    sgd(gpu, {
      master,
      grad: upload(gpu, gradient, "f32", shape),
      value,
      gradScaler: upload(gpu, fields, "f32", [16]),
      learningRate,
      weightDecay,
    });
    if (!skip) {
      gradient.forEach((g, i) => {
        expected[i] -= learningRate * (g / scale + weightDecay * expected[i]);
      });
    }
    const weights = await download(gpu, master);
    assertClose(weights, expected, { atol: 1e-6, rtol: 1e-6, what: `step ${step}` });
    if (value !== undefined) {
      const halves = await download(gpu, value);
      assert.deepEqual([...halves], [...skip ? before! : quantize(weights, "f16")]);
    }
  }
}

gpuTest("sgd follows the reference and skips", async (gpu) => {
  for (const width of AWKWARD4) await test(gpu, [3, width], true, 0.1);
  await test(gpu, [36], false, 0);
  await withMaxBinding(1024, (small) => test(small, [33, 36], true, 0.1));
});
