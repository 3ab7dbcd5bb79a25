/**
 * The residual connection: y = x + d.
 *
 * Shapes: x, y `[T, H]` f32, d `[T, H]` f32 or f16. H is a multiple of 4. The gradient of d is dy.
 *
 * @module
 */
import { elementMain, runElements } from "./elementwise.ts";
import type { Gpu } from "./gpu.ts";
import { programFamily } from "./program.ts";
import { bytesOf, type Dtype, type Tensor } from "./tensor.ts";

const add = programFamily("add_residual", (d: Dtype) => ({
  bindings: [
    { name: "x", dtype: "f32", access: "read" },
    { name: "d", dtype: d, access: "read" },
    { name: "y", dtype: "f32", access: "write" },
  ],
  uniforms: { vectors: "u32" },
  body: elementMain("store_y(i, load_x(i) + load_d(i));"),
}));

/** Writes `rows` rows of y. */
export function addResidual(
  gpu: Gpu,
  { x, d, y, rows }: { x: Tensor; d: Tensor; y: Tensor; rows: number },
): void {
  runElements(gpu, add(d.dtype), [x, d, y], {
    size: rows * x.rowSize,
    cost: { flops: 1, bytes: 8 + bytesOf(d.dtype) },
  });
}
