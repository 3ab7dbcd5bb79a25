/** Products and sums of float64 matrices, row-major, for the reference (reference.ts). */
import type { Vector } from "./reference_model.ts";

/** Lengths of the rows of W + scale · BA, W [out, in], A [rank, in], B [out, rank]. */
export function rowLengths(
  w: Vector,
  a: Vector,
  b: Vector,
  scale: number,
  rank: number,
): Float64Array {
  const outputs = b.length / rank, inputs = a.length / rank;
  const sum = addTo(Float64Array.from(w), times(b, a, outputs, inputs, rank), scale);
  return Float64Array.from(
    { length: outputs },
    (_, i) => Math.hypot(...sum.subarray(i * inputs, (i + 1) * inputs)),
  );
}

/** x [m, k] · wᵀ, w [n, k] → [m, n]. */
export function timesTransposed(
  x: Vector,
  w: Vector,
  m: number,
  n: number,
  k: number,
): Float64Array {
  const y = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let c = 0; c < k; c++) sum += x[i * k + c] * w[j * k + c];
      y[i * n + j] = sum;
    }
  }
  return y;
}

/** x [m, k] · w [k, n] → [m, n]. */
export function times(x: Vector, w: Vector, m: number, n: number, k: number): Float64Array {
  const y = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let c = 0; c < k; c++) {
      const value = x[i * k + c];
      for (let j = 0; j < n; j++) y[i * n + j] += value * w[c * n + j];
    }
  }
  return y;
}

/** out [m, n] += scale · xᵀ · y, x [k, m], y [k, n]. */
export function addOuter(
  out: Float64Array,
  x: Vector,
  y: Vector,
  { m, n, k, scale = 1 }: { m: number; n: number; k: number; scale?: number },
): void {
  for (let c = 0; c < k; c++) {
    for (let i = 0; i < m; i++) {
      const value = scale * x[c * m + i];
      for (let j = 0; j < n; j++) out[i * n + j] += value * y[c * n + j];
    }
  }
}

export function addTo(out: Float64Array, x: Vector, scale = 1): Float64Array {
  for (let i = 0; i < out.length; i++) out[i] += scale * x[i];
  return out;
}

export function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}
