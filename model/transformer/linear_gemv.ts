/**
 * Packed linear layers for one to eight rows (decoding a token a sequence): matrix-vector products (GEMV) that make
 * the norm of their input themselves.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import type { SplitAttention } from "../../kernels/ops/attention/decode/kv_splits.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { matvec, matvecSwiglu } from "../../kernels/ops/matvec/matvec.ts";
import { type NormKind, rmsnorm } from "../../kernels/ops/norm/rmsnorm.ts";
import { type Activation, swiglu } from "../../kernels/ops/activation/swiglu.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import type { WeightOperand } from "../../kernels/ops/weights/operand.ts";
import { addRest, linear } from "./linear.ts";
import { isPlain, type LinearPass, type PackedLinear } from "./packed_linear.ts";
import type { Parameter } from "./parameters.ts";

/** A pass over rows that may need the norm of their input first. */
export interface GemvPass extends LinearPass, NormKind {
  /** Working memory of x's shape, for norms that a product can't make. */
  normed: Tensor;
  /** The norm of the input; absent where it needs none. */
  norm?: Parameter;
}

/** Whether one launch covers the packed weights. */
const isBindable = (
  { maxBinding }: Gpu,
  weight: WeightOperand | undefined,
): weight is WeightOperand => weight !== undefined && weight.boundBytes <= maxBinding;

/** Whether the layer is one product, which can then combine attention's KV splits itself. */
export function takesSplits(gpu: Gpu, packed: PackedLinear): boolean {
  return isPlain(packed) && isBindable(gpu, packed.weight);
}

/** The norm of x, where the input has one. */
function normOf(gpu: Gpu, x: Tensor, { norm, normed, rows, eps, offset }: GemvPass): Tensor {
  if (norm === undefined) return x;
  rmsnorm(gpu, { x, w: norm.value, offset, y: normed, rows, eps });
  return normed;
}

/** Operands of a product with all packed weights. */
const productOf = (weight: WeightOperand, y: Tensor, how: GemvPass) => {
  const { rows, operands, norm, eps, offset } = how, [n, k] = weight.shape;
  return {
    b: weight,
    c: y,
    m: rows,
    n,
    k,
    alpha: 1,
    operands,
    aOffset: 0,
    cOffset: 0,
    cStride: y.rowSize,
    norm: norm && { w: norm.value, eps, offset },
  };
};

/** y = norm(x)·Wᵀ with biases and adapters, added to y where `accumulate`. */
export function linearGemv(
  gpu: Gpu,
  packed: PackedLinear,
  x: Tensor,
  y: Tensor,
  { accumulate = false, ...how }: GemvPass & { accumulate?: boolean },
): void {
  const { norm } = how, { weight } = packed;
  // Adapters read the norm themselves, and DoRA multiplies before anything is added.
  const unfused = packed.dora || (packed.lora !== undefined && norm !== undefined);
  if (!isBindable(gpu, weight) || unfused) {
    const input = normOf(gpu, x, how);
    return linear(gpu, packed, input, y, { ...how, accumulate });
  }
  matvec(gpu, { ...productOf(weight, y, how), a: x, aStride: x.rowSize, accumulate });
  addRest(gpu, packed, x, y, how);
}

/** y += x·Wᵀ, where x `[1, in]` is attention's result as KV splits; see {@linkcode takesSplits}. */
export function addSplits(
  gpu: Gpu,
  { weight }: PackedLinear,
  x: SplitAttention,
  y: Tensor,
  how: GemvPass,
): void {
  const product = productOf(present(weight, "packed weight"), y, how);
  matvec(gpu, { ...product, a: x, aStride: product.k, accumulate: true });
}

/**
 * y = f(gate) · up of the norm of x, f the activation.
 *
 * @param how `gateUp`: working memory for gate and up where the product can't be fused with SwiGLU.
 */
export function swigluGemv(
  gpu: Gpu,
  packed: PackedLinear,
  x: Tensor,
  y: Tensor,
  { gateUp, activation, ...how }: GemvPass & { gateUp: Tensor; activation: Activation },
): void {
  const { rows, operands, norm, eps, offset } = how, { weight } = packed;
  if (isPlain(packed) && isBindable(gpu, weight)) {
    const normIt = norm && { w: norm.value, eps, offset };
    return matvecSwiglu(gpu, { activation, a: x, b: weight, c: y, rows, norm: normIt, operands });
  }
  linearGemv(gpu, packed, x, gateUp, how);
  swiglu(gpu, { activation, gateUp, y, rows });
}
