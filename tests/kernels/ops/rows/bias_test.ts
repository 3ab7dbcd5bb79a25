import { addBias, biasBackward } from "../../../../kernels/ops/rows/bias.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import {
  assertClose,
  AWKWARD,
  AWKWARD4,
  download,
  gpuTest,
  quantize,
  randomArray,
  tolerance,
  upload,
} from "../../harness.ts";

/** y_t + b in float64; rows from `rows` on as they were. */
function added(y: Float64Array, b: Float64Array, rows: number): Float64Array {
  return y.map((value, i) => i < rows * b.length ? value + b[i % b.length] : value);
}

/** db + Σ_t dy_t in float64. */
function columnSums(dy: Float64Array, db: Float64Array, rows: number): Float64Array {
  const sums = db.slice();
  for (let i = 0; i < rows * db.length; i++) sums[i % db.length] += dy[i];
  return sums;
}

for (const dtype of ["f32", "f16"] as Dtype[]) {
  gpuTest(`bias adds b to every row and to no other (${dtype})`, async (gpu) => {
    for (const [n, rows] of AWKWARD.entries()) {
      const width = AWKWARD4[n % AWKWARD4.length], allocated = rows + 2;
      const y = quantize(randomArray(allocated * width, rows), dtype);
      y.fill(NaN, rows * width);
      const b = quantize(randomArray(width, width), dtype);
      const Y = upload(gpu, y, dtype, [allocated, width]);
      addBias(gpu, { y: Y, b: upload(gpu, b, dtype, [width]), rows });
      const what = `${rows}×${width}`;
      assertClose(await download(gpu, Y), added(y, b, rows), { ...tolerance(dtype), what });
    }
  });

  gpuTest(`bias's gradient is dy's column sums, added to what is there (${dtype})`, async (gpu) => {
    for (const [n, rows] of AWKWARD.entries()) {
      const width = AWKWARD4[n % AWKWARD4.length], allocated = rows + 2;
      const dy = quantize(randomArray(allocated * width, rows), dtype);
      // What lies behind the rows, poison included, is not summed.
      dy.fill(NaN, rows * width);
      const before = quantize(randomArray(width, 9), "f32");
      const DY = upload(gpu, dy, dtype, [allocated, width]);
      const expected = columnSums(dy, before, rows);
      for (const lanes of [1, 8]) {
        const db = upload(gpu, before, "f32", [width]);
        biasBackward(gpu, { dy: DY, db, rows, lanes });
        const what = `${rows}×${width} by ${lanes}`;
        // Sums are f32 whatever dy is.
        assertClose(await download(gpu, db), expected, { ...tolerance("f32"), what });
      }
    }
  });
}

gpuTest("bias's sums do not lose small terms to f16", async (gpu) => {
  const rows = 4097, width = 4;
  const dy = new Float64Array(rows * width).fill(1);
  const db = upload(gpu, new Float64Array(width), "f32", [width]);
  biasBackward(gpu, { dy: upload(gpu, dy, "f16", [rows, width]), db, rows });
  // f16 knows no odd numbers above 2048.
  assertClose(await download(gpu, db), new Float64Array(width).fill(rows), { atol: 0, rtol: 0 });
});

gpuTest("bias is that of some columns, and leaves the others alone", async (gpu) => {
  const rows = 33, width = 60, from = 20, n = 28;
  const inside = (i: number) => i % width >= from && i % width < from + n;
  const y = quantize(randomArray(rows * width, 1), "f32");
  const b = quantize(randomArray(n, 2), "f32");
  const Y = upload(gpu, y, "f32", [rows, width]), B = upload(gpu, b, "f32", [n]);
  biasBackward(gpu, { dy: Y, db: B, from, rows });
  const sums = b.map((value, column) =>
    Array.from({ length: rows }, (_, row) => y[row * width + from + column])
      .reduce((sum, dy) => sum + dy, value)
  );
  assertClose(await download(gpu, B), sums, tolerance("f32"));
  addBias(gpu, { y: Y, b: upload(gpu, b, "f32", [n]), from, rows });
  const expected = y.map((value, i) => inside(i) ? value + b[i % width - from] : value);
  assertClose(await download(gpu, Y), expected, tolerance("f32"));
});

gpuTest("an adapter's bias is multiplied by its scale, and so is its gradient", async (gpu) => {
  const rows = 31, width = 36, scale = -2.5;
  const y = quantize(randomArray(rows * width, 3), "f32");
  const b = quantize(randomArray(width, 4), "f32");
  const Y = upload(gpu, y, "f32", [rows, width]), B = upload(gpu, b, "f32", [width]);
  biasBackward(gpu, { dy: Y, db: B, rows, scale });
  const scaled = y.map((value) => scale * value);
  assertClose(await download(gpu, B), columnSums(scaled, b, rows), tolerance("f32"));
  addBias(gpu, { y: Y, b: upload(gpu, b, "f32", [width]), rows, scale });
  const expected = added(y, b.map((value) => scale * value), rows);
  assertClose(await download(gpu, Y), expected, tolerance("f32"));
});
