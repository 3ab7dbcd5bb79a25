import { rmsnorm, rmsnormBackward } from "../../kernels/rmsnorm.ts";
import type { Dtype } from "../../kernels/tensor.ts";
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
} from "./harness.ts";

/** y, rstd and the gradients in float64. */
function reference(x: Float64Array, w: Float64Array, dy: Float64Array, rows: number, eps: number) {
  const width = w.length;
  const y = new Float64Array(x.length), dx = new Float64Array(x.length);
  const rstd = new Float64Array(rows), dw = new Float64Array(width);
  for (let t = 0; t < rows; t++) {
    const row = t * width;
    let squares = 0, products = 0;
    for (let i = 0; i < width; i++) {
      squares += x[row + i] ** 2;
      products += dy[row + i] * w[i] * x[row + i];
    }
    rstd[t] = 1 / Math.sqrt(squares / width + eps);
    for (let i = 0; i < width; i++) {
      y[row + i] = x[row + i] * rstd[t] * w[i];
      dw[i] += dy[row + i] * x[row + i] * rstd[t];
      dx[row + i] = rstd[t] *
        (dy[row + i] * w[i] - x[row + i] * rstd[t] ** 2 * products / width);
    }
  }
  return { y, rstd, dx, dw };
}

for (const dtype of ["f32", "f16"] as Dtype[]) {
  gpuTest(`rmsnorm and its backward agree with the reference (${dtype})`, async (gpu) => {
    for (const width of AWKWARD4) {
      const rows = 5, eps = 1e-5;
      const x = quantize(randomArray(rows * width, width, 3), "f32");
      const w = quantize(randomArray(width, 2), dtype);
      const dy = quantize(randomArray(rows * width, 3), dtype);
      const expected = reference(x, w, dy, rows, eps);
      const X = upload(gpu, x, "f32", [rows, width]), W = upload(gpu, w, dtype, [width]);
      const Y = poisoned(gpu, dtype, [rows, width]), rstd = poisoned(gpu, "f32", [rows]);
      rmsnorm(gpu, { x: X, w: W, y: Y, rstd, rows, eps });
      assertClose(await download(gpu, Y), expected.y, { ...tolerance(dtype), what: "y" });
      assertClose(await download(gpu, rstd), expected.rstd, tolerance("f32"));

      const before = randomArray(rows * width, 4), beforeW = randomArray(width, 5);
      const dx = upload(gpu, before, "f32", [rows, width]),
        dw = upload(gpu, beforeW, "f32", [width]);
      const DY = upload(gpu, dy, dtype, [rows, width]);
      rmsnormBackward(gpu, { dy: DY, x: X, w: W, rstd, dx, dw, rows });
      const sum = (a: Float64Array, b: Float64Array) => a.map((v, i) => v + b[i]);
      const limits = { atol: 1e-4, rtol: 1e-4 };
      assertClose(await download(gpu, dx), sum(expected.dx, before), { ...limits, what: "dx" });
      assertClose(await download(gpu, dw), sum(expected.dw, beforeW), { ...limits, what: "dw" });
    }
  });
}
