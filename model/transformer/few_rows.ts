/**
 * Groups of linear layers for a few rows (decoding a token a sequence): matrix-vector products that
 * make the norm of their input themselves.
 *
 * @module
 */
import type { SplitAttention } from "../../kernels/ops/attention/decode/kv_splits.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { matvec, matvecSwiglu } from "../../kernels/ops/matvec/matvec.ts";
import { rmsnorm } from "../../kernels/ops/norm/rmsnorm.ts";
import { swiglu } from "../../kernels/ops/activation/swiglu.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { addRest, linear } from "./linear.ts";
import { isPlain, type LinearGroup, type LinearPass } from "./linear_group.ts";
import type { Parameter } from "./parameters.ts";

/** How to go about it. */
export interface FewRows extends LinearPass {
  eps: number;
  /** Working memory of x's shape, for norms that a product can't make. */
  normed: Tensor;
  /** The norm of the input; absent where it needs none. */
  norm?: Parameter;
}

/** Whether one launch covers the group's weights. */
const isBindable = ({ maxBinding }: Gpu, weight: Tensor | undefined): weight is Tensor =>
  weight !== undefined && weight.bytes <= maxBinding;

/** Whether the group is one product, which can add up ranges of keys itself. */
export function takesSplits(gpu: Gpu, group: LinearGroup): boolean {
  return isPlain(group) && isBindable(gpu, group.weight);
}

/** The norm of x, where one is wanted. */
function normOf(gpu: Gpu, x: Tensor, { norm, normed, rows, eps }: FewRows): Tensor {
  if (norm === undefined) return x;
  rmsnorm(gpu, { x, w: norm.value, y: normed, rows, eps });
  return normed;
}

/** Operands of a product with all of a group's weights. */
const operands = (weight: Tensor, y: Tensor, { rows, half, norm, eps }: FewRows) => {
  const [n, k] = weight.shape;
  return {
    b: weight,
    c: y,
    m: rows,
    n,
    k,
    alpha: 1,
    roundHalf: half,
    aOffset: 0,
    cOffset: 0,
    cStride: y.rowSize,
    norm: norm && { w: norm.value, eps },
  };
};

/** y = norm(x)·Wᵀ with what belongs to it, added to y where `accumulate`. */
export function linearFew(
  gpu: Gpu,
  group: LinearGroup,
  x: Tensor,
  y: Tensor,
  { accumulate = false, ...how }: FewRows & { accumulate?: boolean },
): void {
  const { norm } = how, { weight } = group;
  // Adapters read the norm themselves, and DoRA multiplies before anything is added.
  const apart = group.dora || (group.lora !== undefined && norm !== undefined);
  if (!isBindable(gpu, weight) || apart) {
    const input = normOf(gpu, x, how);
    return linear(gpu, group, input, y, { ...how, accumulate });
  }
  matvec(gpu, { ...operands(weight, y, how), a: x, aStride: x.rowSize, accumulate });
  addRest(gpu, group, x, y, how);
}

/** y += x·Wᵀ, where x `[1, in]` is attention's result over ranges of keys; see {@linkcode takesSplits}. */
export function addSplits(
  gpu: Gpu,
  { weight }: LinearGroup,
  x: SplitAttention,
  y: Tensor,
  how: FewRows,
): void {
  const product = operands(weight!, y, how);
  matvec(gpu, { ...product, a: x, aStride: product.k, accumulate: true });
}

/**
 * y = silu(gate) · up of the norm of x.
 *
 * @param how `gateUp`: working memory for gate and up where they are made apart.
 */
export function swigluFew(
  gpu: Gpu,
  group: LinearGroup,
  x: Tensor,
  y: Tensor,
  { gateUp, ...how }: FewRows & { gateUp: Tensor },
): void {
  const { rows, half, norm, eps } = how, { weight } = group;
  if (isPlain(group) && isBindable(gpu, weight)) {
    const normIt = norm && { w: norm.value, eps };
    return matvecSwiglu(gpu, { a: x, b: weight, c: y, rows, norm: normIt, roundHalf: half });
  }
  linearFew(gpu, group, x, gateUp, how);
  swiglu(gpu, { gateUp, y, rows });
}
