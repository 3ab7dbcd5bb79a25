/**
 * Multiplication of rows by a number that grows with their positions: y = (1 + β·ln(1 + ⌊p / period⌋)) · x, in place.
 * Backward is the same. Source: Llama 4's attention for long texts, as `transformers`' Ministral 3 has it.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";

/** How fast it grows. */
export interface Growth {
  /** β; with 0 nothing grows. */
  readonly beta: number;
  /** Positions from one factor to the next. */
  readonly period: number;
}

const program = programFamily("growth", ({ x }: { x: Dtype }) => ({
  bindings: [
    { name: "x", dtype: x, access: "write" },
    { name: "positions", dtype: "u32", access: "read", scalar: true },
  ],
  // `width` is the vectors of a row that grow, `stride` those from row to row.
  uniforms: { vectors: "u32", width: "u32", stride: "u32", period: "u32", beta: "f32" },
  body: elementMain(`
  let row = i / u.width;
  let at = row * u.stride + i % u.width;
  let factor = 1.0 + u.beta * log(1.0 + f32(positions[row] / u.period));
  store_x(at, factor * load_x(at));`),
}));

/** Multiplies the first `columns` of `rows` rows of x `[T, ≥ columns]`, f32 or f16, at positions `[T]` u32. */
export function grow(
  gpu: Gpu,
  { x, positions, growth: { beta, period }, rows, columns }: {
    x: Tensor;
    positions: Tensor;
    growth: Growth;
    rows: number;
    columns: number;
  },
): void {
  const width = columns / 4, vectors = rows * width, stride = x.rowSize / 4;
  const uniforms = { vectors, width, stride, period, beta };
  gpu.run(program({ x: x.dtype }), [x, positions], uniforms, elementGrid(vectors), {
    flops: 4 * vectors,
    bytes: 8 * vectors * bytesOf(x.dtype) + 4 * rows,
  });
}
