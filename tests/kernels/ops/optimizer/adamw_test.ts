import assert from "node:assert/strict";
import { adamw } from "../../../../kernels/ops/optimizer/adamw.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { sumOfSquares, sumOfSquaresSlots } from "../../../../kernels/ops/optimizer/grad_norm.ts";
import {
  initialGradScaler,
  updateGradScaler,
} from "../../../../kernels/ops/optimizer/loss_scale.ts";
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

const OPTIONS = { learningRate: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.1 };
type Options = typeof OPTIONS;

/** torch.optim.AdamW in float64. */
class Reference {
  readonly m: Float64Array;
  readonly v: Float64Array;
  steps = 0;

  constructor(readonly w: Float64Array) {
    this.m = new Float64Array(w.length);
    this.v = new Float64Array(w.length);
  }

  step(grad: Float64Array, { learningRate, beta1, beta2, eps, weightDecay }: Options): void {
    this.steps++;
    const c1 = 1 - beta1 ** this.steps, c2 = 1 - beta2 ** this.steps;
    grad.forEach((g, i) => {
      this.w[i] *= 1 - learningRate * weightDecay;
      this.m[i] = beta1 * this.m[i] + (1 - beta1) * g;
      this.v[i] = beta2 * this.v[i] + (1 - beta2) * g * g;
      this.w[i] -= learningRate / c1 * this.m[i] / (Math.sqrt(this.v[i] / c2) + eps);
    });
  }
}

/** Steps through overflow, clipping and growth of the loss scale, comparing after each step. */
async function test(gpu: Gpu, shape: number[], options: Options, copy: boolean) {
  const count = shape.reduce((a, b) => a * b), maxGradNorm = 0.5;
  const start = quantize(randomArray(count, 1), "f32");
  const reference = new Reference(start.slice());
  const master = upload(gpu, start, "f32", shape);
  const m = upload(gpu, reference.m, "f32", shape), v = upload(gpu, reference.v, "f32", shape);
  const value = copy ? poisoned(gpu, "f16", shape) : undefined;
  const gradScaler = upload(gpu, initialGradScaler(1024), "f32", [16]);
  const partials = poisoned(gpu, "f32", [sumOfSquaresSlots(count, gpu.maxBinding)]);
  let scale = 1024;
  for (let step = 0; step < 6; step++) {
    const overflow = step === 2;
    // Below and above the clipping norm.
    const size = step % 2 === 0 ? 0.01 / Math.sqrt(count) : 3;
    const gradient = quantize(randomArray(count, 10 + step, size * scale), "f32");
    gradient[0] = 0;
    if (overflow) gradient[count - 1] = Infinity;
    const grad = upload(gpu, gradient, "f32", shape);
    const before = value && await download(gpu, value);
    const slots = sumOfSquares(gpu, { x: grad, partials, slot: 0, gradScaler });
    updateGradScaler(gpu, {
      partials,
      count: slots,
      gradScaler,
      dynamic: true,
      maxGradNorm,
      growthInterval: 2,
    });
    adamw(gpu, { master, grad, m, v, value, gradScaler, ...options });
    if (!overflow) {
      const norm = Math.sqrt(gradient.reduce((a, g) => a + (g / scale) ** 2, 0));
      const clip = Math.min(1, maxGradNorm / (norm + 1e-6));
      reference.step(gradient.map((g) => g / scale * clip), options);
    }
    const what = `step ${step}`;
    const weights = await download(gpu, master);
    assertClose(weights, reference.w, { atol: 2e-6, rtol: 1e-6, what: `${what} master` });
    assertClose(await download(gpu, m), reference.m, { atol: 1e-12, rtol: 1e-4, what });
    assertClose(await download(gpu, v), reference.v, { atol: 1e-12, rtol: 1e-4, what });
    if (value !== undefined) {
      const halves = await download(gpu, value);
      assert.deepEqual([...halves], [...overflow ? before! : quantize(weights, "f16")]);
    }
    scale = (await download(gpu, gradScaler))[0];
  }
  assert.equal(reference.steps, 5);
  assert.equal(scale, 2048, "the scale has gone 1024, 2048, 1024, 1024, 2048, 2048");
}

gpuTest("adamw follows the reference through skipped and clipped steps", async (gpu) => {
  for (const width of AWKWARD4) await test(gpu, [3, width], OPTIONS, true);
  await test(gpu, [36], OPTIONS, false);
  await test(gpu, [36], { ...OPTIONS, weightDecay: 0, beta1: 0, beta2: 0.5 }, false);
  await withMaxBinding(1024, (small) => test(small, [33, 36], OPTIONS, true));
});

gpuTest("adamw's bias corrections hold at every step count", async (gpu) => {
  for (const steps of [1, 2, 4, 5, 10, 100, 499, 500, 501, 10000, 1000000]) {
    for (const [beta1, beta2] of [[0.9, 0.999], [0.99, 0.9999], [0.5, 0.95]]) {
      const gradScaler = initialGradScaler(1);
      gradScaler[3] = steps;
      const one = (value: number) => upload(gpu, [value, value, value, value], "f32", [4]);
      const master = one(0), m = one(0.25), v = one(0.5);
      adamw(gpu, {
        master,
        grad: one(0),
        m,
        v,
        gradScaler: upload(gpu, gradScaler, "f32", [16]),
        ...OPTIONS,
        beta1,
        beta2,
      });
      const expected = -OPTIONS.learningRate / (1 - beta1 ** steps) * 0.25 * beta1 /
        Math.sqrt(0.5 * beta2 / (1 - beta2 ** steps));
      const [actual] = await download(gpu, master);
      assertClose([actual], [expected], { atol: 0, rtol: 2e-6, what: `${steps} steps, ${beta2}` });
    }
  }
});
