import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { swiglu, swigluBackward } from "../../../../kernels/ops/activation/swiglu.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import type { Activation } from "../../../../kernels/wgsl/activations.ts";
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
/** As PyTorch has it. */
const gelu = (g: number) =>
  g / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (g + 0.044715 * g ** 3)));
const FUNCTIONS = { silu, gelu_pytorch_tanh: gelu };

interface Case {
  activation: Activation;
  /** Dtypes of gateUp and y, and of dy. */
  act: Dtype;
  grad: Dtype;
}

/** Rows of `width` gates and as many ups, with one row more allocated than used. */
async function test(gpu: Gpu, { activation, act, grad }: Case, rows: number, width: number) {
  const f = FUNCTIONS[activation];
  /** By central difference, so that it shares no formula with the kernel. */
  const slope = (g: number) => (f(g + 1e-5) - f(g - 1e-5)) / 2e-5;
  const count = rows * width, allocated = count + width;
  const both = quantize(randomArray(2 * allocated, rows, 6), act);
  const at = (i: number) => Math.floor(i / width) * 2 * width + i % width;
  const g = (i: number) => both[at(i)], up = (i: number) => both[at(i) + width];
  const dy = quantize(randomArray(allocated, 3), grad);
  const gateUp = upload(gpu, both, act, [rows + 1, 2 * width]);
  const y = poisoned(gpu, act, [rows + 1, width]);
  swiglu(gpu, { activation, gateUp, y, rows });
  const limits = act === "f16" ? tolerance("f16") : { atol: 5e-6, rtol: 5e-6 };
  const actual = await download(gpu, y);
  const expected = Float64Array.from({ length: count }, (_, i) => f(g(i)) * up(i));
  assertClose(actual.subarray(0, count), expected, { ...limits, what: "y" });
  assert.ok(actual.subarray(count).every(Number.isNaN), "y: wrote beyond its rows");

  const dY = upload(gpu, dy, grad, [rows + 1, width]);
  swigluBackward(gpu, { activation, dy: dY, gateUp, rows });
  const gradients = both.slice();
  for (let i = 0; i < count; i++) {
    gradients[at(i)] = dy[i] * up(i) * slope(g(i));
    gradients[at(i) + width] = dy[i] * f(g(i));
  }
  // The row beyond stays as it was.
  assertClose(await download(gpu, gateUp), gradients, { ...limits, what: "gradients" });
}

for (
  const [act, grad] of [["f32", "f32"], ["f16", "f16"], ["f16", "f32"], ["f32", "f16"]] as const
) {
  gpuTest(`swiglu and its backward agree with the reference (${act}, dy ${grad})`, async (gpu) => {
    const same = { activation: "silu", act, grad } as const;
    for (const width of AWKWARD4) await test(gpu, same, 3, width);
    for (const rows of AWKWARD) await test(gpu, same, rows, 12);
  });
}

gpuTest("swiglu with another activation than silu, and its backward", async (gpu) => {
  const activation = "gelu_pytorch_tanh";
  await test(gpu, { activation, act: "f32", grad: "f32" }, 33, 36);
  await test(gpu, { activation, act: "f16", grad: "f16" }, 7, 124);
});

gpuTest("gelu's far ends are 0 and the gate itself", async (gpu) => {
  const g = [12, -12, 1e4, -1e4, 0, -0, 5, -5], activation = "gelu_pytorch_tanh";
  const gateUp = upload(gpu, [...g, ...g.map(() => 1)], "f32", [1, 2 * g.length]);
  const y = poisoned(gpu, "f32", [1, g.length]);
  swiglu(gpu, { activation, gateUp, y, rows: 1 });
  const limits = { atol: 1e-9, rtol: 1e-6 };
  assertClose(await download(gpu, y), [12, 0, 1e4, 0, 0, 0, gelu(5), gelu(-5)], limits);
  const dy = upload(gpu, g.map(() => 1), "f32", [1, g.length]);
  swigluBackward(gpu, { activation, dy, gateUp, rows: 1 });
  const slopes = (await download(gpu, gateUp)).subarray(0, 6);
  assertClose(slopes, [1, 0, 1, 0, 0.5, 0.5], limits);
});

gpuTest("swiglu keeps its head at the extremes, and passes on infinity and NaN", async (gpu) => {
  const g = [100, -100, 3e38, -3e38, 89, -89, 0, -0, Infinity, NaN, 1, 1];
  const up = [2, 2, 1, 2, 2, 2, 3, 3, 1, 1, Infinity, NaN];
  const gateUp = upload(gpu, [...g, ...up], "f32", [1, 2 * g.length]);
  const dy = upload(gpu, g.map(() => 1), "f32", [1, g.length]);
  const y = poisoned(gpu, "f32", [1, g.length]);
  swiglu(gpu, { activation: "silu", gateUp, y, rows: 1 });
  swigluBackward(gpu, { activation: "silu", dy, gateUp, rows: 1 });
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
