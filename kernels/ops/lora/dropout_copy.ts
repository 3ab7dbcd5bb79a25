/**
 * Dropout into a tensor of its own, for products that can't apply the mask while they read.
 *
 * Shapes: x, y, d, dx `[T, width]` f32 or f16, width a multiple of 4. With the mask of dropout.ts over elements of
 * `[T, width]` and dropout(x) = x ⊙ mask / (1 − p):
 *
 *     y = dropout(x)     or y = x − dropout(x)     backward: dx += dropout(d)
 *
 * @module
 */
import { type DropoutMask, KEEP_MASK, MASK_UNIFORMS, maskUniforms } from "../../wgsl/dropout.ts";
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, writes } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";

/** What is stored: dropout(x), x − dropout(x), or y + dropout(x). */
type Output = "kept" | "rest" | "added";

const program = programFamily(
  "dropout_copy",
  ({ x, y, output }: { x: Dtype; y: Dtype; output: Output }) => ({
    bindings: [...reads(x, "x"), ...writes(y, "y")],
    uniforms: { ...MASK_UNIFORMS, subsequence: "u32", factor: "f32", vectors: "u32" },
    body: KEEP_MASK + elementMain(`
  let multiplier = select(vec4<f32>(), vec4<f32>(u.factor), keepMask(i, u.subsequence));
  ${
      {
        kept: "store_y(i, multiplier * load_x(i));",
        rest: "store_y(i, (1.0 - multiplier) * load_x(i));",
        added: "store_y(i, load_y(i) + multiplier * load_x(i));",
      }[output]
    }`),
  }),
);

/** Rows of a tensor that dropout is applied to. */
interface Rows {
  x: Tensor;
  y: Tensor;
  rows: number;
  mask: DropoutMask;
}

function run(gpu: Gpu, output: Output, { x, y, rows, mask }: Rows): void {
  if (x.rowSize !== y.rowSize) throw new Error(`${x.name} and ${y.name} differ in width`);
  const size = rows * x.rowSize, vectors = size / 4;
  gpu.run(
    program({ x: x.dtype, y: y.dtype, output }),
    [x, y],
    { ...maskUniforms(mask), subsequence: mask.subsequence, factor: 1 / (1 - mask.p), vectors },
    elementGrid(vectors),
    {
      flops: size,
      bytes: size * (bytesOf(x.dtype) + (output === "added" ? 2 : 1) * bytesOf(y.dtype)),
    },
  );
}

/** y = dropout(x), or x − dropout(x) where `rest`, for `rows` rows. */
export function dropoutCopy(
  gpu: Gpu,
  { rest = false, ...rows }: Rows & { rest?: boolean },
): void {
  run(gpu, rest ? "rest" : "kept", rows);
}

/** dx += dropout(d) for `rows` rows, where d is the gradient of a copy of x. */
export function addDropped(
  gpu: Gpu,
  { d, dx, rows, mask }: { d: Tensor; dx: Tensor; rows: number; mask: DropoutMask },
): void {
  run(gpu, "added", { x: d, y: dx, rows, mask });
}
