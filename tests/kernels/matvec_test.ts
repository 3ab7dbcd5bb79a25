import { matvec, MATVEC_ROWS, matvecJoined, matvecSwiglu } from "../../kernels/matvec.ts";
import type { Dtype } from "../../kernels/tensor.ts";
import {
  assertClose,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  tolerance,
  upload,
} from "./harness.ts";

/** A·Bᵀ in float64. */
function product(a: Float64Array, b: Float64Array, m: number, n: number, k: number): Float64Array {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      for (let l = 0; l < k; l++) c[i * n + j] += a[i * k + l] * b[j * k + l];
    }
  }
  return c;
}

/** [n, k]: shorter than a workgroup's threads, and not a whole number of its steps. */
const SIZES = [[4, 4], [28, 36], [132, 260], [36, 1028], [4, 2052]];

for (const dtype of ["f32", "f16"] as Dtype[]) {
  gpuTest(`matvec: one to ${MATVEC_ROWS} rows agree with the reference (${dtype})`, async (gpu) => {
    for (let m = 1; m <= MATVEC_ROWS; m++) {
      for (const [n, k] of m === 1 || m === MATVEC_ROWS ? SIZES : SIZES.slice(0, 3)) {
        const a = quantize(randomArray(m * k, m), dtype),
          b = quantize(randomArray(n * k, n), dtype);
        const A = upload(gpu, a, dtype, [m, k]), B = upload(gpu, b, dtype, [n, k]);
        const expected = product(a, b, m, n, k);
        const places = { aOffset: 0, aStride: k, cOffset: 0, cStride: n };
        const sizes = { a: A, b: B, m, n, k, ...places };
        const C = poisoned(gpu, dtype, [m, n]);
        matvec(gpu, { ...sizes, c: C, alpha: 0.5, accumulate: false });
        const limits = { ...tolerance(dtype), what: `${m}×${n}×${k}` };
        if (dtype === "f16") limits.atol = 2e-2;
        assertClose(await download(gpu, C), expected.map((v) => v * 0.5), limits);

        const before = quantize(randomArray(m * n, 5), "f32");
        const sum = upload(gpu, before, "f32", [m, n]);
        matvec(gpu, { ...sizes, c: sum, alpha: 1, accumulate: true });
        const added = expected.map((v, i) => v + before[i]);
        assertClose(await download(gpu, sum), added, { atol: 2e-4, rtol: 1e-4 });
      }
    }
  });
}

gpuTest("matvec: strides and offsets, f16 weights with f32 rows", async (gpu) => {
  const [m, n, k] = [3, 12, 20], aStride = 28, aOffset = 8, cStride = 32, cOffset = 16;
  const a = randomArray(aOffset + m * aStride, 1), b = quantize(randomArray(n * k, 2), "f16");
  const stored = quantize(a, "f32");
  const before = quantize(randomArray(m * cStride, 3), "f32");
  const C = upload(gpu, before, "f32", [m, cStride]);
  matvec(gpu, {
    a: upload(gpu, stored, "f32", [1, stored.length]),
    b: upload(gpu, b, "f16", [n, k]),
    c: C,
    ...{ m, n, k, aOffset, aStride, cOffset, cStride, alpha: 1, accumulate: false },
  });
  const rows = Float64Array.from(
    { length: m * k },
    (_, i) => stored[aOffset + Math.floor(i / k) * aStride + i % k],
  );
  const expected = before.slice();
  product(rows, b, m, n, k).forEach((v, i) => {
    expected[Math.floor(i / n) * cStride + cOffset + i % n] = v;
  });
  assertClose(await download(gpu, C), expected, tolerance("f32"));
});

/** The columns `from` to `to` of rows that are `width` long. */
function columns(x: Float64Array, width: number, from: number, to: number): Float64Array {
  return x.filter((_, i) => i % width >= from && i % width < to);
}

for (const dtype of ["f32", "f16"] as Dtype[]) {
  gpuTest(
    `matvec: three matrices joined, each with a result of its own (${dtype})`,
    async (gpu) => {
      const k = 132, heights = [36, 8, 12], n = 56;
      for (const rows of [1, 3, 8]) {
        const a = quantize(randomArray(rows * k, rows), dtype);
        const b = quantize(randomArray(n * k, n), dtype);
        const c = heights.map((height, i) =>
          poisoned(gpu, i === 0 ? "f32" : dtype, [rows, height])
        );
        matvecJoined(gpu, {
          a: upload(gpu, a, dtype, [rows, k]),
          b: upload(gpu, b, dtype, [n, k]),
          c: [c[0], c[1], c[2]],
          rows,
        });
        const whole = product(a, b, rows, n, k);
        let from = 0;
        for (const [i, height] of heights.entries()) {
          const expected = columns(whole, n, from, from + height);
          const limits = { ...tolerance(dtype), what: `${rows} rows, result ${i}` };
          if (dtype === "f16") limits.atol = 2e-2;
          assertClose(await download(gpu, c[i]), expected, limits);
          from += height;
        }
      }
    },
  );

  gpuTest(`matvec: a gate and its projection in one (${dtype})`, async (gpu) => {
    const k = 132, n = 36;
    for (const rows of [1, 4, 8]) {
      const a = quantize(randomArray(rows * k, rows), dtype);
      const b = quantize(randomArray(2 * n * k, n, 0.3), dtype);
      const c = poisoned(gpu, dtype, [rows, n]);
      const A = upload(gpu, a, dtype, [rows, k]), B = upload(gpu, b, dtype, [2 * n, k]);
      matvecSwiglu(gpu, { a: A, b: B, c, rows });
      const both = product(a, b, rows, 2 * n, k);
      const gate = columns(both, 2 * n, 0, n), up = columns(both, 2 * n, n, 2 * n);
      const expected = gate.map((g, i) => g / (1 + Math.exp(-g)) * up[i]);
      const limits = { ...tolerance(dtype), what: `${rows} rows` };
      assertClose(await download(gpu, c), expected, limits);
    }
  });
}
