/**
 * Rows appended to a larger tensor, for the KV cache: y[at + t] = x[t].
 *
 * Shapes: x `[T, C]`, y `[L, C]` of the same dtype, C a multiple of 4, at + T ≤ L.
 *
 * @module
 */
import { elementGrid, elementMain } from "./elementwise.ts";
import type { Gpu } from "./gpu.ts";
import { programFamily } from "./program.ts";
import { bytesOf, type Dtype, type Tensor } from "./tensor.ts";

const copy = programFamily("copy_rows", (dtype: Dtype) => ({
  bindings: [
    { name: "x", dtype, access: "read" },
    { name: "y", dtype, access: "write" },
  ],
  uniforms: { vectors: "u32", offset: "u32" },
  body: elementMain("store_y(u.offset + i, load_x(i));"),
}));

/** Copies the first `rows` rows of x to row `at` of y and after. */
export function copyRows(
  gpu: Gpu,
  { x, y, rows, at }: { x: Tensor; y: Tensor; rows: number; at: number },
): void {
  if (at + rows > y.shape[0]) throw new Error(`${y.name}: rows ${at} + ${rows} exceed its shape`);
  const width = x.rowSize / 4, vectors = rows * width;
  const uniforms = { vectors, offset: at * width };
  gpu.run(copy(x.dtype), [x, y], uniforms, elementGrid(vectors), {
    flops: 0,
    bytes: 8 * vectors * bytesOf(x.dtype),
  });
}
