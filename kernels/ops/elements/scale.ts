/**
 * Multiplication by a number: y = factor · x.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, writes } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";

const program = programFamily("scale", ({ inPlace }: { inPlace: boolean }) => ({
  bindings: [...writes("f32", "y"), ...inPlace ? [] : reads("f32", "x")],
  uniforms: { vectors: "u32", factor: "f32" },
  body: elementMain(`store_y(i, u.factor * ${inPlace ? "load_y" : "load_x"}(i));`),
}));

/** Writes the first `rows` rows of y `[T, W]` f32; x is y, or another tensor of its shape. W is a multiple of 4. */
export function scale(
  gpu: Gpu,
  { x, y, factor, rows }: { x: Tensor; y: Tensor; factor: number; rows: number },
): void {
  const vectors = rows * y.rowSize / 4, inPlace = x === y;
  const tensors = inPlace ? [y] : [y, x];
  gpu.run(program({ inPlace }), tensors, { vectors, factor }, elementGrid(vectors), {
    flops: 4 * vectors,
    bytes: 32 * vectors,
  });
}
