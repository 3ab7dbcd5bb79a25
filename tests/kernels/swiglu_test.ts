import assert from "node:assert/strict";
import type { Gpu } from "../../kernels/gpu.ts";
import { swiglu, swigluBackward } from "../../kernels/swiglu.ts";
import type { Dtype } from "../../kernels/tensor.ts";
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
} from "./harness.ts";
import { withMaxBinding } from "./small_binding.ts";

const silu = (g: number) => g / (1 + Math.exp(-g));
/** By central difference, so that it shares no formula with the kernel. */
const siluSlope = (g: number) => (silu(g + 1e-5) - silu(g - 1e-5)) / 2e-5;

/** Rows of width `width` with one row more allocated than used. */
async function test(gpu: Gpu, act: Dtype, grad: Dtype, rows: number, width: number) {
  const shape = [rows + 1, width], count = rows * width, allocated = count + width;
  const g = quantize(randomArray(allocated, rows, 6), act);
  const up = quantize(randomArray(allocated, 2), act);
  const dy = quantize(randomArray(allocated, 3), grad);
  const gate = upload(gpu, g, act, shape), UP = upload(gpu, up, act, shape);
  const y = poisoned(gpu, act, shape), dgate = poisoned(gpu, act, shape);
  const dup = poisoned(gpu, act, shape);
  swiglu(gpu, { gate, up: UP, y, rows });
  const DY = upload(gpu, dy, grad, shape);
  swigluBackward(gpu, { dy: DY, gate, up: UP, dgate, dup, rows });
  const limits = act === "f16" ? tolerance("f16") : { atol: 5e-6, rtol: 5e-6 };
  const check = async (tensor: typeof y, what: string, value: (i: number) => number) => {
    const actual = await download(gpu, tensor);
    const expected = Float64Array.from({ length: count }, (_, i) => value(i));
    assertClose(actual.subarray(0, count), expected, { ...limits, what });
    assert.ok(actual.subarray(count).every(Number.isNaN), `${what}: wrote beyond its rows`);
  };
  await check(y, "y", (i) => silu(g[i]) * up[i]);
  await check(dgate, "dgate", (i) => dy[i] * up[i] * siluSlope(g[i]));
  await check(dup, "dup", (i) => dy[i] * silu(g[i]));
}

for (const [act, grad] of [["f32", "f32"], ["f16", "f16"], ["f16", "f32"], ["f32", "f16"]]) {
  gpuTest(`swiglu and its backward agree with the reference (${act}, dy ${grad})`, async (gpu) => {
    for (const width of AWKWARD4) await test(gpu, act as Dtype, grad as Dtype, 3, width);
    for (const rows of AWKWARD) await test(gpu, act as Dtype, grad as Dtype, rows, 12);
  });
}

gpuTest("swiglu splits what the binding limit does not hold", async () => {
  await withMaxBinding(2048, (gpu) => test(gpu, "f16", "f32", 33, 124));
});

gpuTest("swiglu keeps its head at the extremes, and passes on infinity and NaN", async (gpu) => {
  const g = [100, -100, 3e38, -3e38, 89, -89, 0, -0, Infinity, NaN, 1, 1];
  const up = [2, 2, 1, 2, 2, 2, 3, 3, 1, 1, Infinity, NaN];
  const shape = [1, g.length];
  const gate = upload(gpu, g, "f32", shape), UP = upload(gpu, up, "f32", shape);
  const dy = upload(gpu, g.map(() => 1), "f32", shape);
  const y = poisoned(gpu, "f32", shape), dgate = poisoned(gpu, "f32", shape);
  const dup = poisoned(gpu, "f32", shape);
  swiglu(gpu, { gate, up: UP, y, rows: 1 });
  swigluBackward(gpu, { dy, gate, up: UP, dgate, dup, rows: 1 });
  const limits = { atol: 1e-35, rtol: 1e-6 };
  const finite = [200, silu(-100) * 2, 3e38, -0, 178, 2 * silu(-89), 0, 0];
  assertClose((await download(gpu, y)).map(Math.abs), [
    ...finite.map(Math.abs),
    Infinity,
    NaN,
    Infinity,
    NaN,
  ], limits);
  const slopes = (await download(gpu, dgate)).subarray(0, 8);
  // σ(g) (1 + g (1 − σ(g))) by the series at its ends.
  const low = (v: number) => Math.exp(v) * (1 + v);
  assertClose(slopes, [2, 2 * low(-100), 1, 0, 2, 2 * low(-89), 1.5, 1.5], limits);
  assertClose((await download(gpu, dup)).map(Math.abs).subarray(0, 8), [
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
