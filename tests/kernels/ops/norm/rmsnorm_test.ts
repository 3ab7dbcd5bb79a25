import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { addSplitK, rmsnorm, rmsnormBackward } from "../../../../kernels/ops/norm/rmsnorm.ts";
import { rowShare } from "../../../../kernels/ops/norm/row_passes.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import type { NormOffset } from "../../../../kernels/wgsl/rms.ts";
import { withHardwarePrograms } from "../../hardware_programs.ts";
import {
  assertClose,
  AWKWARD4,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  tolerance,
  upload,
} from "../../harness.ts";
import { ROWS, splitKSums } from "../matmul/split_k_sums.ts";

const EPS = 1e-5;
/** 4100: several vectors a thread; 16400: more than a thread's registers hold. */
const WIDTHS = [...AWKWARD4, 4100, 16400];
const LIMITS = { atol: 1e-4, rtol: 1e-4 };

const sum = (a: Float64Array, b: Float64Array) => a.map((v, i) => v + b[i]);

interface Case {
  dtype: Dtype;
  width: number;
  /** Of the weight. */
  offset?: NormOffset;
}

/** y, rstd and the gradients in float64. */
function reference(x: Float64Array, weight: Float64Array, dy: Float64Array, offset: NormOffset) {
  const width = weight.length, w = weight.map((value) => value + offset);
  const y = new Float64Array(x.length), dx = new Float64Array(x.length);
  const rstd = new Float64Array(ROWS), dw = new Float64Array(width);
  for (let t = 0; t < ROWS; t++) {
    const row = t * width;
    let squares = 0, products = 0;
    for (let i = 0; i < width; i++) {
      squares += x[row + i] ** 2;
      products += dy[row + i] * w[i] * x[row + i];
    }
    rstd[t] = 1 / Math.sqrt(squares / width + EPS);
    for (let i = 0; i < width; i++) {
      y[row + i] = x[row + i] * rstd[t] * w[i];
      dw[i] += dy[row + i] * x[row + i] * rstd[t];
      dx[row + i] = rstd[t] *
        (dy[row + i] * w[i] - x[row + i] * rstd[t] ** 2 * products / width);
    }
  }
  return { y, rstd, dx, dw };
}

async function testForward(gpu: Gpu, { dtype, width, offset = 0 }: Case) {
  const x = quantize(randomArray(ROWS * width, width, 3), "f32");
  const w = quantize(randomArray(width, 2), dtype);
  const expected = reference(x, w, new Float64Array(x.length), offset);
  const X = upload(gpu, x, "f32", [ROWS, width]), W = upload(gpu, w, dtype, [width]);
  const rstd = poisoned(gpu, "f32", [ROWS + 1]);
  for (const scale of [rstd, undefined]) {
    const y = poisoned(gpu, dtype, [ROWS + 1, width]);
    rmsnorm(gpu, { x: X, w: W, offset, y, rstd: scale, rows: ROWS, eps: EPS });
    const actual = await download(gpu, y), what = `y, width ${width}`;
    assertClose(actual.subarray(0, x.length), expected.y, { ...tolerance(dtype), what });
    assert.ok(actual.subarray(x.length).every(Number.isNaN));
  }
  const actual = await download(gpu, rstd);
  assertClose(actual.subarray(0, ROWS), expected.rstd, tolerance("f32"));
  assert.ok(Number.isNaN(actual[ROWS]));
}

async function testAdd(gpu: Gpu, { dtype, width, offset = 0 }: Case, splits: number) {
  const x = quantize(randomArray(ROWS * width, width, 3), "f32");
  const w = quantize(randomArray(width, 2), dtype);
  const { splitK: d, total } = splitKSums(gpu, splits, width);
  const added = sum(x, total), expected = reference(added, w, total, offset);
  const W = upload(gpu, w, dtype, [width]);
  for (const inPlace of [false, true]) {
    for (const outputs of ["nothing", "norm", "norm and rstd"]) {
      const what = `${splits} splits of ${width}, ${outputs}`;
      const X = upload(gpu, x, "f32", [ROWS, width]);
      const y = inPlace ? X : poisoned(gpu, "f32", [ROWS, width]);
      const n = poisoned(gpu, dtype, [ROWS, width]), rstd = poisoned(gpu, "f32", [ROWS]);
      const norm = outputs === "nothing"
        ? undefined
        : { w: W, offset, n, rstd: outputs === "norm" ? undefined : rstd, eps: EPS };
      addSplitK(gpu, { x: X, d, y, rows: ROWS, norm });
      assertClose(await download(gpu, y), added, { ...tolerance("f32"), what: `${what}: y` });
      if (!inPlace) assertClose(await download(gpu, X), x, { atol: 0, rtol: 0, what });
      const [actual, scale] = [await download(gpu, n), await download(gpu, rstd)];
      if (outputs === "nothing") assert.ok(actual.every(Number.isNaN), what);
      else assertClose(actual, expected.y, { ...tolerance(dtype), what: `${what}: n` });
      if (outputs !== "norm and rstd") assert.ok(scale.every(Number.isNaN), what);
      else assertClose(scale, expected.rstd, { ...tolerance("f32"), what: `${what}: rstd` });
    }
  }
}

async function testBackward(gpu: Gpu, { dtype, width, offset = 0 }: Case, splits: number) {
  const x = quantize(randomArray(ROWS * width, width, 3), "f32");
  const w = quantize(randomArray(width, 2), dtype);
  const X = upload(gpu, x, "f32", [ROWS, width]), W = upload(gpu, w, dtype, [width]);
  const whole = quantize(randomArray(x.length, 3), dtype);
  const { splitK, total } = splitKSums(gpu, splits, width);
  for (const isSplit of [false, true]) {
    const what = `${isSplit ? `${splits} splits` : dtype}, width ${width}`;
    const expected = reference(x, w, isSplit ? total : whole, offset);
    const rstd = upload(gpu, expected.rstd, "f32", [ROWS]);
    const before = randomArray(x.length, 4), beforeW = randomArray(width, 5);
    const dx = upload(gpu, before, "f32", [ROWS, width]), dw = upload(gpu, beforeW, "f32", [width]);
    const dy = isSplit ? splitK : upload(gpu, whole, dtype, [ROWS, width]);
    const run = { dy, x: X, w: W, offset, rstd, dx, rows: ROWS };
    rmsnormBackward(gpu, run);
    const once = sum(expected.dx, before);
    assertClose(await download(gpu, dx), once, { ...LIMITS, what: `${what}: dx` });
    const rounded = poisoned(gpu, "f16", [ROWS, width]);
    rmsnormBackward(gpu, { ...run, dw, rounded });
    const twice = sum(expected.dx, once);
    assertClose(await download(gpu, dx), twice, { ...LIMITS, what: `${what}: dx again` });
    const exact = { atol: 0, rtol: 0, what: `${what}: dx rounded` };
    assertClose(await download(gpu, rounded), quantize(await download(gpu, dx), "f16"), exact);
    const weights = sum(expected.dw, beforeW);
    assertClose(await download(gpu, dw), weights, { ...LIMITS, what: `${what}: dw` });
  }
}

for (const dtype of ["f32", "f16"] as Dtype[]) {
  gpuTest(
    `rmsnorm agrees with the reference (${dtype})`,
    (gpu) =>
      withHardwarePrograms(gpu, async (gpu) => {
        for (const width of WIDTHS) await testForward(gpu, { dtype, width });
      }),
  );

  gpuTest(
    `addSplitK adds, and norms the sum (${dtype})`,
    (gpu) =>
      withHardwarePrograms(gpu, async (gpu) => {
        for (const width of [4, 260, 4100, 16400]) {
          await testAdd(gpu, { dtype, width }, 3);
        }
        for (const splits of [1, 2, 4, 5, 9]) await testAdd(gpu, { dtype, width: 36 }, splits);
      }),
  );

  gpuTest(
    `rmsnormBackward agrees with the reference (${dtype})`,
    (gpu) =>
      withHardwarePrograms(gpu, async (gpu) => {
        for (const width of WIDTHS) await testBackward(gpu, { dtype, width }, 3);
        for (const splits of [1, 6]) await testBackward(gpu, { dtype, width: 36 }, splits);
      }),
  );
}

gpuTest("norms whose weights are their distance from one, and their backward", async (gpu) => {
  const same = { dtype: "f32", width: 132, offset: 1 } as const;
  await testForward(gpu, same);
  await testAdd(gpu, same, 3);
  await testBackward(gpu, same, 3);
});

Deno.test("rowShare gives every vector of a row to one thread", () => {
  const device = { limits: { maxComputeInvocationsPerWorkgroup: 256 } } as unknown as GPUDevice;
  for (const width of WIDTHS) {
    const { threads, perThread } = rowShare({ software: false, device }, width);
    assert.ok(threads <= 256 && Math.log2(threads) % 1 === 0);
    if (perThread > 0) {
      assert.ok(threads * perThread * 4 >= width && threads * (perThread - 1) * 4 < width);
    } else assert.equal(width, 16400);
  }
  assert.deepEqual(rowShare({ software: true, device }, 4096), { threads: 8, perThread: 0 });
});
