import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import {
  GRAD_SCALER,
  initialGradScaler,
  updateGradScaler,
} from "../../../../kernels/ops/optimizer/loss_scale.ts";
import type { Tensor } from "../../../../kernels/gpu/tensor.ts";
import {
  assertClose,
  AWKWARD,
  download,
  gpuTest,
  quantize,
  randomArray,
  upload,
} from "../../harness.ts";

type Fields = Record<keyof typeof GRAD_SCALER, number>;
const DYNAMIC = { dynamic: true, maxGradNorm: 0, growthInterval: 3 };

async function fields(gpu: Gpu, gradScaler: Tensor): Promise<Fields> {
  const values = await download(gpu, gradScaler);
  return Object.fromEntries(
    Object.entries(GRAD_SCALER).map(([name, index]) => [name, values[index]]),
  ) as Fields;
}

function startGradScaler(gpu: Gpu, scale: number): Tensor {
  return upload(gpu, initialGradScaler(scale), "f32", [16]);
}

gpuTest("the norm is that of any number of partial sums", async (gpu) => {
  for (const count of [...AWKWARD, 3000]) {
    const sums = quantize(randomArray(count + 1, count).map(Math.abs), "f32");
    sums[count] = NaN; // not counted
    const gradScaler = startGradScaler(gpu, 8);
    const partials = upload(gpu, sums, "f32", [count + 1]);
    updateGradScaler(gpu, { partials, count, gradScaler, ...DYNAMIC });
    const { gradNorm, multiplier, skip, steps } = await fields(gpu, gradScaler);
    const norm = Math.sqrt(sums.subarray(0, count).reduce((a, b) => a + b, 0));
    assertClose([gradNorm], [norm], { atol: 0, rtol: 1e-6 });
    assert.deepEqual([multiplier, skip, steps], [1 / 8, 0, 1]);
  }
});

gpuTest("overflow skips the step and halves a dynamic scale", async (gpu) => {
  for (const bad of [Infinity, NaN, -Infinity]) {
    for (const dynamic of [true, false]) {
      const gradScaler = startGradScaler(gpu, 1024);
      const good = upload(gpu, [4], "f32", [1]);
      const partials = upload(gpu, [1, bad, 2], "f32", [3]);
      updateGradScaler(gpu, { partials: good, count: 1, gradScaler, ...DYNAMIC, dynamic });
      updateGradScaler(gpu, { partials, count: 3, gradScaler, ...DYNAMIC, dynamic });
      const after = await fields(gpu, gradScaler);
      const { scale, growth, skipped, steps, skip } = after;
      assert.deepEqual(
        { scale, growth, skipped, steps, skip },
        { scale: dynamic ? 512 : 1024, growth: 0, skipped: 1, steps: 1, skip: 1 },
      );
      assert.ok(!Number.isFinite(after.gradNorm));
      updateGradScaler(gpu, { partials: good, count: 1, gradScaler, ...DYNAMIC, dynamic });
      const next = await fields(gpu, gradScaler);
      assert.deepEqual([next.skip, next.steps, next.skipped, next.growth], [0, 2, 1, 1]);
      assert.equal(next.multiplier, dynamic ? 1 / 512 : 1 / 1024);
    }
  }
});

gpuTest("finite partial sums whose total overflows skip the step too", async (gpu) => {
  const gradScaler = startGradScaler(gpu, 1);
  const partials = upload(gpu, [3e38, 3e38], "f32", [2]);
  updateGradScaler(gpu, { partials, count: 2, gradScaler, ...DYNAMIC });
  assert.equal((await fields(gpu, gradScaler)).skip, 1);
});

gpuTest("the scale grows after good steps, within 1 and 2^24", async (gpu) => {
  const good = upload(gpu, [1], "f32", [1]), bad = upload(gpu, [Infinity], "f32", [1]);
  const run = async (start: number, partials: Tensor, steps: number, dynamic = true) => {
    const gradScaler = startGradScaler(gpu, start);
    const seen: Fields[] = [];
    for (let i = 0; i < steps; i++) {
      updateGradScaler(gpu, { partials, count: 1, gradScaler, ...DYNAMIC, dynamic });
      seen.push(await fields(gpu, gradScaler));
    }
    return seen;
  };
  const growing = await run(16, good, 7);
  assert.deepEqual(growing.map((f) => f.scale), [16, 16, 32, 32, 32, 64, 64]);
  assert.deepEqual(growing.map((f) => f.growth), [1, 2, 0, 1, 2, 0, 1]);
  // The step that grows the scale still divides by the scale its gradients were made with.
  assert.deepEqual(growing.map((f) => 1 / f.multiplier), [16, 16, 16, 32, 32, 32, 64]);
  assert.equal((await run(2 ** 24, good, 3))[2].scale, 2 ** 24);
  assert.deepEqual((await run(2, bad, 3)).map((f) => f.scale), [1, 1, 1]);
  assert.deepEqual((await run(16, good, 4, false)).map((f) => f.scale), [16, 16, 16, 16]);
});

gpuTest("gradients are clipped as torch clips them", async (gpu) => {
  for (const [squares, maxGradNorm] of [[100, 1], [0.25, 1], [1, 1], [0, 0.5], [9, 0]]) {
    const gradScaler = startGradScaler(gpu, 64);
    const partials = upload(gpu, [squares], "f32", [1]);
    updateGradScaler(gpu, { partials, count: 1, gradScaler, ...DYNAMIC, maxGradNorm });
    const clip = maxGradNorm > 0 ? Math.min(1, maxGradNorm / (Math.sqrt(squares) + 1e-6)) : 1;
    const { multiplier, gradNorm } = await fields(gpu, gradScaler);
    assertClose([multiplier, gradNorm], [clip / 64, Math.sqrt(squares)], { atol: 0, rtol: 3e-7 });
  }
});
