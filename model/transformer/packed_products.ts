/**
 * Products with the weights of packed linear layers: one product where the weights are one matrix in memory, otherwise
 * one for each layer.
 *
 * Shapes: x, dx `[T, in]`, y, dy `[T, Σ out_i]`, W_i `[out_i, in]`.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { matmul } from "../../kernels/ops/matmul/matmul.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import type { LinearPass, PackedLinear } from "./packed_linear.ts";

/** The fields of a pass that products read. */
type Pass = Pick<LinearPass, "rows" | "operands">;

/** y = x·Wᵀ, added to what is there where `accumulate`. */
export function outputProduct(
  gpu: Gpu,
  { weight, layers }: PackedLinear,
  { x, y, accumulate }: { x: Tensor; y: Tensor; accumulate: boolean },
  { rows, operands }: Pass,
): void {
  const common = { orientation: "nt", a: x, c: y, rows, operands, accumulate } as const;
  if (weight !== undefined) return matmul(gpu, { ...common, b: weight });
  for (const { weight, from } of layers) {
    matmul(gpu, { ...common, b: weight.operand, cFrom: from });
  }
}

/** dx = dy·W. */
export function inputProduct(
  gpu: Gpu,
  { weight, layers }: PackedLinear,
  { dy, dx }: { dy: Tensor; dx: Tensor },
  { rows, operands }: Pass,
): void {
  const common = { orientation: "nn", a: dy, c: dx, rows, operands } as const;
  if (weight !== undefined) return matmul(gpu, { ...common, b: weight });
  layers.forEach(({ weight, from }, i) => {
    matmul(gpu, { ...common, b: weight.operand, aFrom: from, accumulate: i > 0 });
  });
}
