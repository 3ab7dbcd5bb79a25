/**
 * Rows of a tensor copied to another place in it: x[to + i] = x[from + i] for i below `rows`. (Copying
 * between buffers, which is no program, must not be inside one.)
 *
 * Shapes: x `[L, C]`, f32 or f16, C a multiple of 4.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";

const move = programFamily("move_rows", ({ dtype }: { dtype: Dtype }) => ({
  bindings: [{ name: "x", dtype, access: "write" }],
  uniforms: { vectors: "u32", first: "u32", place: "u32" },
  body: elementMain("store_x(u.place + i, load_x(u.first + i));"),
}));

/** Copies `rows` rows of x from row `from` on to row `to` on; the two ranges do not overlap. */
export function moveRows(
  gpu: Gpu,
  { x, from, to, rows }: { x: Tensor; from: number; to: number; rows: number },
): void {
  if (Math.abs(from - to) < rows || Math.max(from, to) + rows > x.shape[0]) {
    throw new Error(`${x.name}: ${rows} rows can't be copied from ${from} to ${to}`);
  }
  const width = x.rowSize / 4, vectors = rows * width;
  const uniforms = { vectors, first: from * width, place: to * width };
  gpu.run(move({ dtype: x.dtype }), [x], uniforms, elementGrid(vectors), {
    flops: 0,
    bytes: 8 * vectors * bytesOf(x.dtype),
  });
}
