import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { swiglu, swigluBackward } from "../../../../kernels/ops/activation/swiglu.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import {
  assertClose,
  AWKWARD,
  AWKWARD4,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  tolerance,
  upload,
} from "../../harness.ts";

const silu = (g: number) => g / (1 + Math.exp(-g));
/** By central difference, so that it shares no formula with the kernel. */
const siluSlope = (g: number) => (silu(g + 1e-5) - silu(g - 1e-5)) / 2e-5;

/** Rows of `width` gates and as many ups, with one row more allocated than used. */
async function test(gpu: Gpu, act: Dtype, grad: Dtype, rows: number, width: number) {
  const count = rows * width, allocated = count + width;
  const both = quantize(randomArray(2 * allocated, rows, 6), act);
  const at = (i: number) => Math.floor(i / width) * 2 * width + i % width;
  const g = (i: number) => both[at(i)], up = (i: number) => both[at(i) + width];
  const dy = quantize(randomArray(allocated, 3), grad);
  const gateUp = upload(gpu, both, act, [rows + 1, 2 * width]);
  const y = poisoned(gpu, act, [rows + 1, width]);
  swiglu(gpu, { gateUp, y, rows });
  const limits = act === "f16" ? tolerance("f16") : { atol: 5e-6, rtol: 5e-6 };
  const actual = await download(gpu, y);
  const expected = Float64Array.from({ length: count }, (_, i) => silu(g(i)) * up(i));
  assertClose(actual.subarray(0, count), expected, { ...limits, what: "y" });
  assert.ok(actual.subarray(count).every(Number.isNaN), "y: wrote beyond its rows");

  swigluBackward(gpu, { dy: upload(gpu, dy, grad, [rows + 1, width]), gateUp, rows });
  const gradients = both.slice();
  for (let i = 0; i < count; i++) {
    gradients[at(i)] = dy[i] * up(i) * siluSlope(g(i));
    gradients[at(i) + width] = dy[i] * silu(g(i));
  }
  // The row beyond stays as it was.
  assertClose(await download(gpu, gateUp), gradients, { ...limits, what: "gradients" });
}

for (const [act, grad] of [["f32", "f32"], ["f16", "f16"], ["f16", "f32"], ["f32", "f16"]]) {
  gpuTest(`swiglu and its backward agree with the reference (${act}, dy ${grad})`, async (gpu) => {
    for (const width of AWKWARD4) await test(gpu, act as Dtype, grad as Dtype, 3, width);
    for (const rows of AWKWARD) await test(gpu, act as Dtype, grad as Dtype, rows, 12);
  });
}

gpuTest("swiglu keeps its head at the extremes, and passes on infinity and NaN", async (gpu) => {
  const g = [100, -100, 3e38, -3e38, 89, -89, 0, -0, Infinity, NaN, 1, 1];
  const up = [2, 2, 1, 2, 2, 2, 3, 3, 1, 1, Infinity, NaN];
  const gateUp = upload(gpu, [...g, ...up], "f32", [1, 2 * g.length]);
  const dy = upload(gpu, g.map(() => 1), "f32", [1, g.length]);
  const y = poisoned(gpu, "f32", [1, g.length]);
  swiglu(gpu, { gateUp, y, rows: 1 });
  swigluBackward(gpu, { dy, gateUp, rows: 1 });
  const gradients = await download(gpu, gateUp);
  const limits = { atol: 1e-35, rtol: 1e-6 };
  const finite = [200, silu(-100) * 2, 3e38, -0, 178, 2 * silu(-89), 0, 0];
  assertClose((await download(gpu, y)).map(Math.abs), [
    ...finite.map(Math.abs),
    Infinity,
    NaN,
    Infinity,
    NaN,
  ], limits);
  const slopes = gradients.subarray(0, 8);
  // σ(g) (1 + g (1 − σ(g))) by the series at its ends.
  const low = (v: number) => Math.exp(v) * (1 + v);
  assertClose(slopes, [2, 2 * low(-100), 1, 0, 2, 2 * low(-89), 1.5, 1.5], limits);
  assertClose(gradients.map(Math.abs).subarray(g.length, g.length + 8), [
    100,
    -silu(-100),
    3e38,
    0,
    89,
    -silu(-89),
    0,
    0,
  ], limits);
});
