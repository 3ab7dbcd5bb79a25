import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import { normInPlace, normInPlaceBackward } from "../../../../kernels/ops/norm/norm_in_place.ts";
import type { NormOffset } from "../../../../kernels/wgsl/rms.ts";
import { withHardwarePrograms } from "../../hardware_programs.ts";
import {
  assertClose,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  tolerance,
  upload,
} from "../../harness.ts";

const EPS = 1e-5, ROWS = 5;
/** Widths of a group, groups, columns before them and after. */
const SHAPES = [[4, 1, 0, 0], [8, 3, 4, 8], [36, 2, 0, 4], [128, 4, 128, 0], [260, 1, 8, 4]];

/** y and rstd of every group, and what backward makes of dy, in float64. */
function reference(x: Float64Array, w: Float64Array, dy: Float64Array) {
  const width = w.length, groups = x.length / width;
  const y = new Float64Array(x.length), dx = new Float64Array(x.length);
  const rstd = new Float64Array(groups), dw = new Float64Array(width);
  for (let g = 0; g < groups; g++) {
    const at = (i: number) => g * width + i;
    let squares = 0, products = 0;
    for (let i = 0; i < width; i++) {
      squares += x[at(i)] ** 2;
      products += dy[at(i)] * w[i] * x[at(i)];
    }
    const r = rstd[g] = 1 / Math.sqrt(squares / width + EPS);
    for (let i = 0; i < width; i++) {
      y[at(i)] = x[at(i)] * r * w[i];
      dw[i] += dy[at(i)] * x[at(i)] * r;
      dx[at(i)] = r * (dy[at(i)] * w[i] - x[at(i)] * r ** 2 * products / width);
    }
  }
  return { y, rstd, dx, dw };
}

async function test(
  gpu: Gpu,
  [width, groups, before, after]: number[],
  { dtype, offset }: { dtype: Dtype; offset: NormOffset },
) {
  const stride = before + groups * width + after, part = groups * width;
  const random = (seed: number) => quantize(randomArray(ROWS * stride, seed, 2), dtype);
  /** The columns that take part, row after row. */
  const columnsOf = (all: Float64Array) =>
    Float64Array.from(
      { length: ROWS * part },
      (_, i) => all[Math.floor(i / part) * stride + before + i % part],
    );
  const x = random(1), dy = random(2), w = quantize(randomArray(width, 3), dtype);
  const expected = reference(columnsOf(x), w.map((value) => value + offset), columnsOf(dy));
  const W = upload(gpu, w, dtype, [width]), columns = { from: before, groups };
  const limits = tolerance(dtype);
  /** The columns in question are as expected, and all others as they were. */
  const assertColumns = (actual: Float64Array, was: Float64Array, right: Float64Array) => {
    assertClose(columnsOf(actual), right, { ...limits, what: `width ${width}` });
    actual.forEach((value, i) => {
      const column = i % stride - before;
      if (column < 0 || column >= part) assert.equal(value, was[i]);
    });
  };
  const plain = upload(gpu, x, dtype, [ROWS, stride]);
  normInPlace(gpu, { x: plain, w: W, offset, columns, rows: ROWS, eps: EPS });
  assertColumns(await download(gpu, plain), x, expected.y);

  const inputs = {
    input: poisoned(gpu, dtype, [ROWS, part + 4]),
    inputFrom: 4,
    rstd: poisoned(gpu, "f32", [ROWS, groups + 1]),
    rstdFrom: 1,
  };
  const X = upload(gpu, x, dtype, [ROWS, stride]);
  normInPlace(gpu, { x: X, w: W, offset, columns, rows: ROWS, eps: EPS, keep: inputs });
  assertColumns(await download(gpu, X), x, expected.y);
  const rstd = await download(gpu, inputs.rstd);
  const own = rstd.filter((_, i) => i % (groups + 1) > 0);
  assertClose(own, expected.rstd, tolerance("f32"));
  assert.ok(rstd.every((value, i) => i % (groups + 1) > 0 || Number.isNaN(value)));

  const DX = upload(gpu, dy, dtype, [ROWS, stride]);
  const DW = upload(gpu, new Float64Array(width).fill(1), "f32", [width]);
  normInPlaceBackward(gpu, { dx: DX, w: W, offset, dw: DW, columns, rows: ROWS, inputs });
  assertColumns(await download(gpu, DX), dy, expected.dx);
  const dw = expected.dw.map((value) => value + 1);
  assertClose(await download(gpu, DW), dw, { atol: 1e-4, rtol: 1e-4, what: "dw" });
}

for (const dtype of ["f32", "f16"] as const) {
  gpuTest(`normInPlace: groups of columns alone, forward and backward, ${dtype}`, async (gpu) => {
    for (const shape of SHAPES) {
      await withHardwarePrograms(gpu, (device) => test(device, shape, { dtype, offset: 0 }));
    }
  });
}

gpuTest(
  "normInPlace: weights that are their distance from one",
  (gpu) => test(gpu, [36, 2, 0, 4], { dtype: "f32", offset: 1 }),
);
