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
import { loraUpdate } from "../../kernels/ops/lora/lora.ts";
import { addsUpdate, matmul } from "../../kernels/ops/matmul/matmul.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import type { LinearPass, PackedLinear } from "./packed_linear.ts";

/** The fields of a pass that products read. */
type Pass = Pick<LinearPass, "rows" | "operands">;

/**
 * The adapters' update that {@linkcode outputProduct} and products of single layers into y can add, given its loraHidden;
 * undefined where they can't.
 */
export function updateOf(
  gpu: Gpu,
  { lora, weights }: PackedLinear,
  { x, y, loraHidden }: { x: Tensor; y: Tensor; loraHidden: Tensor },
  { rows, operands }: Pass,
): ProductUpdate | undefined {
  if (lora === undefined) return undefined;
  const update = loraUpdate(lora, loraHidden), common = { a: x, c: y, rows, operands, update };
  const adds = weights.every(({ weight, from }) =>
    addsUpdate(gpu, { ...common, b: weight, cFrom: from })
  );
  return adds ? update : undefined;
}

/** y = x·Wᵀ, and the update where there is one, added to what is there where `accumulate`. */
export function outputProduct(
  gpu: Gpu,
  { weights }: PackedLinear,
  { x, y, accumulate, update }: {
    x: Tensor;
    y: Tensor;
    accumulate: boolean;
    update?: ProductUpdate;
  },
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
