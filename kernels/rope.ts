/**
 * Rotary position embedding, in Hugging Face's convention (rotate_half): within a head of D
 * elements, i and i + D/2 are a pair, turned by the angle p · θ^(−2i/D) at position p.
 *
 * Shapes: x `[T, heads·D]` f32 or f16, in place; positions `[T]` u32. D is a multiple of 8.
 * y_i = x_i cos − x_{i+D/2} sin, y_{i+D/2} = x_{i+D/2} cos + x_i sin. Backward is the same turn by the
 * opposite angle. Source: Su et al., "RoFormer", 2021.
 *
 * @module
 */
import { elementGrid, elementMain } from "./elementwise.ts";
import type { Gpu } from "./gpu.ts";
import { programFamily } from "./program.ts";
import { bytesOf, type Dtype, type Tensor } from "./tensor.ts";

/**
 * Cosines and sines `[positions, D]`: row p holds D/2 cosines and then D/2 sines. Made on the host
 * in float64, because a GPU's sin and cos are only good near zero.
 */
export function ropeTable(
  { headDim, theta, positions }: { headDim: number; theta: number; positions: number },
): Float32Array {
  const half = headDim / 2;
  const table = new Float32Array(positions * headDim);
  for (let i = 0; i < half; i++) {
    const frequency = theta ** (-2 * i / headDim);
    for (let p = 0; p < positions; p++) {
      table[p * headDim + i] = Math.cos(p * frequency);
      table[p * headDim + half + i] = Math.sin(p * frequency);
    }
  }
  return table;
}

const turn = programFamily("rope", (x: Dtype) => ({
  bindings: [
    { name: "x", dtype: x, access: "write" },
    { name: "table", dtype: "f32", access: "read" },
    { name: "positions", dtype: "u32", access: "read", scalar: true },
  ],
  // `half` is half a head's vectors; `sign` is −1 for the opposite angle.
  uniforms: { vectors: "u32", heads: "u32", half: "u32", sign: "f32" },
  body: elementMain(`
  let head = i / u.half;
  let lane = i % u.half;
  let row = positions[head / u.heads] * 2u * u.half;
  let c = load_table(row + lane);
  let s = load_table(row + u.half + lane) * u.sign;
  let at = head * 2u * u.half + lane;
  let a = load_x(at);
  let b = load_x(at + u.half);
  store_x(at, a * c - b * s);
  store_x(at + u.half, b * c + a * s);`),
}));

/** Turns `rows` rows of x in place; `inverse` turns gradients back. */
export function rope(
  gpu: Gpu,
  { x, table, positions, rows, heads, headDim, inverse }: {
    x: Tensor;
    table: Tensor;
    positions: Tensor;
    rows: number;
    heads: number;
    headDim: number;
    inverse: boolean;
  },
): void {
  const half = headDim / 8, vectors = rows * heads * half;
  const uniforms = { vectors, heads, half, sign: inverse ? -1 : 1 };
  gpu.run(turn(x.dtype), [x, table, positions], uniforms, elementGrid(vectors), {
    flops: 3 * rows * heads * headDim,
    bytes: rows * headDim * (2 * heads * bytesOf(x.dtype) + 4),
  });
}
