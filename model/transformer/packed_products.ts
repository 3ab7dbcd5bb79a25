/**
 * Products with the weights of packed linear layers: one product where the weights are one matrix in memory, otherwise
 * one for each matrix that they are.
 *
 * Shapes: x, dx `[T, in]`, y, dy `[T, Σ out_i]`, W_i `[out_i, in]`.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { ProductUpdate } from "../../kernels/ops/lora/matrix/update.ts";
import { addsUpdate, matmul } from "../../kernels/ops/matmul/matmul.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import type { LinearPass, PackedLinear } from "./packed_linear.ts";

/** The fields of a pass that products read. */
type Pass = Pick<LinearPass, "rows" | "operands">;

/** What {@linkcode outputProduct} reads and writes. */
interface Output {
  x: Tensor;
  y: Tensor;
  /** The adapters', where {@linkcode addsUpdates}. */
  update?: ProductUpdate;
}

/** Whether all products of {@linkcode outputProduct} can add their part of this update. */
export function addsUpdates(
  gpu: Gpu,
  { weights }: PackedLinear,
  { x, y, update }: Output,
  { rows, operands }: Pass,
): boolean {
  const common = { a: x, c: y, rows, operands, update };
  return weights.every(({ weight, from }) =>
    addsUpdate(gpu, { ...common, b: weight, cFrom: from })
  );
}

/** y = x·Wᵀ, and the update where there is one, added to what is there where `accumulate`. */
export function outputProduct(
  gpu: Gpu,
  { weights }: PackedLinear,
  { x, y, accumulate, update }: Output & { accumulate: boolean },
  { rows, operands }: Pass,
): void {
  const common = { orientation: "nt", a: x, c: y, rows, operands, accumulate, update } as const;
  for (const { weight, from } of weights) matmul(gpu, { ...common, b: weight, cFrom: from });
}

/** dx = dy·W. */
export function inputProduct(
  gpu: Gpu,
  { weights }: PackedLinear,
  { dy, dx }: { dy: Tensor; dx: Tensor },
  { rows, operands }: Pass,
): void {
  const common = { orientation: "nn", a: dy, c: dx, rows, operands } as const;
  weights.forEach(({ weight, from }, i) => {
    matmul(gpu, { ...common, b: weight, aFrom: from, accumulate: i > 0 });
  });
}
