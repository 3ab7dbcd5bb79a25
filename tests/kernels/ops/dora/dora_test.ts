import assert from "node:assert/strict";
import { doraFactors, magnitudeGradient, scaleColumns } from "../../../../kernels/ops/dora/dora.ts";
import { addDropped, dropoutCopy } from "../../../../kernels/ops/lora/dropout_copy.ts";
import { dropoutMask } from "../../../../kernels/wgsl/dropout.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { type Dtype, Tensor } from "../../../../kernels/gpu/tensor.ts";
import { withHardwarePrograms } from "../../hardware_programs.ts";
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
import { withMaxBinding } from "../../small_binding.ts";

/** A layer's sizes, and how W and s·B·A lie to each other. */
interface Layer {
  outputs: number;
  inputs: number;
  rank: number;
  dtype: Dtype;
  scale: number;
}

const LAYER: Layer = { outputs: 28, inputs: 36, rank: 8, dtype: "f32", scale: 0.75 };

/** Norms of the rows of W + s·B·A in float64. */
function rowNorms(
  { outputs, inputs, rank, scale }: Layer,
  [w, a, b]: [Float64Array, Float64Array, Float64Array],
): Float64Array {
  return Float64Array.from({ length: outputs }, (_, i) => {
    let squares = 0;
    for (let j = 0; j < inputs; j++) {
      let value = w[i * inputs + j];
      for (let k = 0; k < rank; k++) value += scale * b[i * rank + k] * a[k * inputs + j];
      squares += value ** 2;
    }
    return Math.sqrt(squares);
  });
}

/** W, A and B of a layer, as the test wants them. */
type Values = (layer: Layer) => { w: Float64Array; a: Float64Array; b: Float64Array };

const RANDOM: Values = ({ outputs, inputs, rank, dtype }) => ({
  w: quantize(randomArray(outputs * inputs, 3), dtype),
  a: quantize(randomArray(rank * inputs, 1), "f32"),
  b: quantize(randomArray(outputs * rank, 2), "f32"),
});

async function testFactors(
  gpu: Gpu,
  change: Partial<Layer>,
  values = RANDOM,
): Promise<Float64Array> {
  const layer = { ...LAYER, ...change }, { outputs, inputs, rank, dtype, scale } = layer;
  const { w, a, b } = values(layer), m = quantize(randomArray(outputs, 4, 9), "f32");
  const norm = poisoned(gpu, "f32", [outputs]), factor = poisoned(gpu, "f32", [outputs]);
  doraFactors(gpu, {
    weight: upload(gpu, w, dtype, [outputs, inputs]),
    a: upload(gpu, a, "f32", [rank, inputs]),
    b: upload(gpu, b, "f32", [outputs, rank]),
    magnitude: upload(gpu, m, "f32", [outputs]),
    scale,
    norm,
    factor,
  });
  const expected = rowNorms(layer, [w, a, b]), what = JSON.stringify(change);
  const close = { atol: 0, rtol: 3e-6 };
  assertClose(await download(gpu, norm), expected, { ...close, what: `${what} norm` });
  const factors = expected.map((n, i) => n > 0 ? m[i] / n : 0);
  const actual = await download(gpu, factor);
  assertClose(actual, factors, { ...close, what: `${what} factor` });
  return actual;
}

gpuTest("DoRA's factors are m over the lengths of the rows of W + s·B·A", async (gpu) => {
  for (const outputs of AWKWARD) await testFactors(gpu, { outputs });
  for (const inputs of AWKWARD4) await testFactors(gpu, { inputs });
  for (const rank of [4, 12, 64, 256]) await testFactors(gpu, { rank });
  await testFactors(gpu, { dtype: "f16", outputs: 33, inputs: 132 });
});

gpuTest("DoRA's lengths are right where B·A all but cancels W", async (gpu) => {
  // All numbers are short enough that f32 holds every sum; ‖W + s·B·A‖² is some 1e-8 of ‖W‖².
  const short = (count: number, seed: number, unit: number) =>
    randomArray(count, seed, 8).map((v) => Math.round(v) * unit);
  await testFactors(gpu, { scale: 0.5 }, ({ outputs, inputs, rank, scale }) => {
    const a = short(rank * inputs, 1, 1 / 8), b = short(outputs * rank, 2, 1 / 8);
    const w = short(outputs * inputs, 3, 2 ** -16).map((rest, at) => {
      const i = Math.floor(at / inputs), j = at % inputs;
      for (let k = 0; k < rank; k++) rest -= scale * b[i * rank + k] * a[k * inputs + j];
      return rest;
    });
    return { w, a, b };
  });
});

gpuTest("DoRA's factor of a row of zeros is 0", async (gpu) => {
  const factor = await testFactors(gpu, { outputs: 7 }, (layer) => {
    const { w, a, b } = RANDOM(layer);
    w.fill(0, 5 * layer.inputs, 6 * layer.inputs);
    b.fill(0, 5 * layer.rank, 6 * layer.rank);
    return { w, a, b };
  });
  assert.deepEqual(
    Array.from(factor, (g) => g === 0),
    Array.from({ length: 7 }, (_, i) => i === 5),
  );
});

gpuTest("DoRA's factors are the same of a weight split by the binding limit", async (gpu) => {
  const change = { outputs: 132, inputs: 64, rank: 4 };
  const whole = await testFactors(gpu, change);
  await withMaxBinding(9000, async (small) => {
    assert.deepEqual(await testFactors(small, change), whole);
    await testFactors(small, { ...change, dtype: "f16" });
  });
});

gpuTest(
  "DoRA's kernels agree with the reference in programs for GPUs",
  (gpu) =>
    withHardwarePrograms(gpu, async (gpu) => {
      for (const outputs of [1, 9, 33]) await testFactors(gpu, { outputs });
      for (const inputs of [4, 1028]) await testFactors(gpu, { inputs, dtype: "f16" });
      for (const rows of [1, 33]) await testColumns(gpu, { rows });
    }),
);

Deno.test("a DoRA adapter of other sizes than its layer is refused", () => {
  const planned = (...shape: number[]) => new Tensor("t", "f32", shape, undefined);
  const [weight, a, b] = [planned(12, 8), planned(4, 8), planned(12, 4)];
  const vectors = { magnitude: planned(12), norm: planned(12), factor: planned(12) };
  const run = (change: Partial<Record<"a" | "b" | "magnitude" | "norm", Tensor>>) =>
    doraFactors({} as Gpu, { weight, a, b, scale: 1, ...vectors, ...change });
  for (
    const change of [
      { a: planned(4, 12) },
      { b: planned(8, 4) },
      { b: planned(12, 8) },
      { magnitude: planned(8) },
      { norm: planned(16) },
    ]
  ) assert.throws(() => run(change), /do not fit/);
});

/** One layer's columns between those of others. */
interface Columns {
  rows: number;
  width: number;
  before: number;
  after: number;
  x: Dtype;
  y: Dtype;
}

const COLUMNS: Columns = { rows: 5, width: 28, before: 8, after: 4, x: "f32", y: "f32" };

async function testColumns(gpu: Gpu, change: Partial<Columns>): Promise<void> {
  const c = { ...COLUMNS, ...change }, { rows, width, before, after } = c;
  const all = before + width + after, from = before, size = (rows + 1) * all;
  const what = JSON.stringify(change);
  const inside = (i: number) => i < rows * all && i % all >= from && i % all < from + width;
  const g = quantize(randomArray(width, 1, 2), "f32");
  const x = quantize(randomArray(size, 2), c.x), y = quantize(randomArray(size, 3), c.y);
  const factor = upload(gpu, g, "f32", [width]);
  const X = upload(gpu, x, c.x, [rows + 1, all]), shape = [rows + 1, all];
  const scaled = (of: Float64Array, less: number) =>
    of.map((v, i) => inside(i) ? (g[i % all - from] - less) * v : NaN);

  const copy = poisoned(gpu, c.y, shape), half = tolerance(c.y);
  scaleColumns(gpu, { x: X, factor, y: copy, from, rows });
  assertClose(await download(gpu, copy), scaled(x, 0), { ...half, what: `${what} copy` });
  scaleColumns(gpu, { x: X, factor, y: copy, from, rows, less: 1 });
  assertClose(await download(gpu, copy), scaled(x, 1), { ...half, what: `${what} less 1` });
  const sum = upload(gpu, y, c.y, shape);
  scaleColumns(gpu, { x: X, factor, y: sum, from, rows, accumulate: true });
  const sums = y.map((v, i) => inside(i) ? v + g[i % all - from] * x[i] : v);
  assertClose(await download(gpu, sum), sums, { ...half, what: `${what} sum` });
  const place = upload(gpu, y, c.y, shape);
  scaleColumns(gpu, { x: place, factor, y: place, from, rows });
  const inPlace = y.map((v, i) => inside(i) ? g[i % all - from] * v : v);
  assertClose(await download(gpu, place), inPlace, { ...half, what: `${what} in place` });
  assert.throws(
    () => scaleColumns(gpu, { x: place, factor, y: place, from, rows, accumulate: true }),
    /added to itself/,
  );

  // What lies outside is poison; a column without length has no gradient.
  const poison = (of: Float64Array) => of.map((v, i) => inside(i) ? v : NaN);
  const dy = upload(gpu, poison(x), c.x, shape), z = upload(gpu, poison(y), c.y, shape);
  const n = quantize(randomArray(width, 4).map((v, i) => i === 2 ? 0 : v + 2), "f32");
  const start = quantize(randomArray(width, 5), "f32"), norm = upload(gpu, n, "f32", [width]);
  const expected = start.map((value, i) => {
    let sum = 0;
    for (let t = 0; t < rows; t++) sum += x[t * all + from + i] * y[t * all + from + i];
    return n[i] > 0 ? value + sum / n[i] : value;
  });
  for (const lanes of [1, 16]) {
    const grad = upload(gpu, start, "f32", [width]);
    magnitudeGradient(gpu, { dy, z, norm, grad, from, rows, lanes });
    const by = `${what} magnitude by ${lanes}`;
    assertClose(await download(gpu, grad), expected, { ...tolerance("f32"), what: by });
  }
}

gpuTest("a layer's columns are scaled, and DoRA's magnitude gets its gradient", async (gpu) => {
  for (const rows of AWKWARD) await testColumns(gpu, { rows });
  for (const width of AWKWARD4) await testColumns(gpu, { width });
  for (const x of ["f32", "f16"] as const) await testColumns(gpu, { x, y: "f16", rows: 33 });
  await testColumns(gpu, { x: "f16", before: 0, after: 0 });
});

gpuTest("dropout's copy and what is left of x are two parts of it", async (gpu) => {
  const mask = { p: 0.3, seed: 0xdeadbeef, step: 7, subsequence: 31 };
  for (const [n, rows] of AWKWARD.entries()) {
    for (const [from, to] of [["f32", "f32"], ["f32", "f16"], ["f16", "f32"]] as const) {
      const width = AWKWARD4[n % AWKWARD4.length], size = rows * width, what = `${rows}×${width}`;
      const x = quantize(randomArray(size + width, 1), from), shape = [rows + 1, width];
      const dx = quantize(randomArray(size + width, 2), to);
      const kept = Float64Array.from(dropoutMask(size, mask), (bit) => bit / (1 - mask.p));
      const within = (values: (i: number) => number, beyond: (i: number) => number) =>
        x.map((_, i) => i < size ? values(i) : beyond(i));
      const X = upload(gpu, x, from, shape), limits = { ...tolerance(to), what };
      const y = poisoned(gpu, to, shape);
      dropoutCopy(gpu, { x: X, y, rows, mask });
      assertClose(await download(gpu, y), within((i) => kept[i] * x[i], () => NaN), limits);
      dropoutCopy(gpu, { x: X, y, rows, mask, rest: true });
      assertClose(await download(gpu, y), within((i) => (1 - kept[i]) * x[i], () => NaN), limits);
      const sum = upload(gpu, dx, to, shape);
      addDropped(gpu, { d: X, dx: sum, rows, mask });
      const sums = within((i) => dx[i] + kept[i] * x[i], (i) => dx[i]);
      assertClose(await download(gpu, sum), sums, limits);
    }
  }
});
