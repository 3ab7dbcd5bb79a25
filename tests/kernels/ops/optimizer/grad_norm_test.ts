import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { clear } from "../../../../kernels/ops/elements/bytes.ts";
import { sumOfSquares, sumOfSquaresSlots } from "../../../../kernels/ops/optimizer/grad_norm.ts";
import { initialGradScaler } from "../../../../kernels/ops/optimizer/loss_scale.ts";
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

Deno.test("sumOfSquaresSlots counts up to 256 slots a part", () => {
  assert.equal(sumOfSquaresSlots(4, 1 << 27), 1);
  assert.equal(sumOfSquaresSlots(4096, 1 << 27), 1);
  assert.equal(sumOfSquaresSlots(4100, 1 << 27), 2);
  assert.equal(sumOfSquaresSlots(1 << 25, 1 << 27), 256);
  assert.equal(sumOfSquaresSlots((1 << 25) + 4, 1 << 27), 257);
  assert.equal(sumOfSquaresSlots(32000 * 8192, 2 ** 31 - 4), 256);
  assert.equal(sumOfSquaresSlots(32000 * 8192, 2 ** 27), 2048);
});

/** Fills slots from 3 on and checks their sum, their number, and their neighbours. */
async function test(gpu: Gpu, values: Float64Array, shape: number[], scale: number) {
  const slots = sumOfSquaresSlots(values.length, gpu.maxBinding);
  const partials = poisoned(gpu, "f32", [slots + 5]);
  const gradScaler = upload(gpu, initialGradScaler(scale), "f32", [16]);
  const x = upload(gpu, values, "f32", shape);
  assert.equal(sumOfSquares(gpu, { x, partials, slot: 3, gradScaler }), slots);
  const sums = await download(gpu, partials);
  const total = sums.subarray(3, 3 + slots).reduce((a, b) => a + b, 0);
  const expected = values.reduce((a, v) => a + (v / scale) ** 2, 0);
  assertClose([total], [expected], { atol: 0, rtol: 1e-5 });
  const outside = [...sums.subarray(0, 3), ...sums.subarray(3 + slots)];
  assert.ok(outside.length === 5 && outside.every(Number.isNaN));
}

gpuTest("sumOfSquares agrees with the reference, split or not", async (gpu) => {
  for (const width of AWKWARD4) {
    for (const rows of [1, 33, 129]) {
      const values = quantize(randomArray(rows * width, width, 3), "f32");
      await test(gpu, values, [rows, width], 1);
    }
  }
  const values = quantize(randomArray(40 * 260, 1), "f32");
  await withMaxBinding(2048, (small) => test(small, values, [40, 260], 16));
  await test(gpu, quantize(randomArray(1030, 2), "f32").subarray(0, 1028), [1028], 4);
});

gpuTest("squares of gradients times a large loss scale don't overflow", async (gpu) => {
  const scale = 2 ** 24;
  const values = quantize(randomArray(400, 1, 1e10 * scale), "f32");
  assert.ok(Math.max(...values) ** 2 > 1e33);
  await test(gpu, values, [400], scale);
  await test(gpu, values.map((v) => v * 64), [400], scale);
});

gpuTest("one infinity or NaN makes the sum not finite", async (gpu) => {
  for (const bad of [Infinity, -Infinity, NaN]) {
    const values = randomArray(6000, 1);
    values[4711] = bad;
    const partials = poisoned(gpu, "f32", [2]);
    clear(gpu, partials);
    const gradScaler = upload(gpu, initialGradScaler(65536), "f32", [16]);
    sumOfSquares(gpu, { x: upload(gpu, values, "f32", [6000]), partials, slot: 0, gradScaler });
    const [first, second] = await download(gpu, partials);
    assert.ok(!Number.isFinite(first + second));
  }
});
