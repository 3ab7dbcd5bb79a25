/**
 * One block in training, forward and backward.
 *
 * Norm outputs and f(gate)·up are not kept for backward: making them again costs one pass over memory. The plan says
 * which activations are kept and whether the block runs again before its backward. Queries and keys that have a norm
 * are kept from before it, too, as RoPE rotates them in place.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { swiglu, swigluBackward } from "../../kernels/ops/activation/swiglu.ts";
import { attention, attentionBackward } from "../../kernels/ops/attention/attention.ts";
import { cast } from "../../kernels/ops/elements/cast.ts";
import { scale } from "../../kernels/ops/elements/scale.ts";
import { type SplitKPartials, sumSplitK } from "../../kernels/ops/split_k/split_k.ts";
import { normInPlaceBackward } from "../../kernels/ops/norm/norm_in_place.ts";
import { rmsnormBackward } from "../../kernels/ops/norm/rmsnorm.ts";
import { rope } from "../../kernels/ops/rope/rope.ts";
import type { NormInput, TrainActivations, TrainedAttention, TrainedInner } from "./activations.ts";
import {
  attentionSizes,
  type Block,
  type BlockPass,
  branch,
  type BranchName,
  branchNorm,
  growQueries,
  isDirect,
  linearPass,
  type NextNorm,
  norm,
  normQueriesAndKeys,
  operand,
  preNorm,
  project,
  qkNormParts,
  rotationOf,
} from "./block.ts";
import { linear, linearBackward, linearBackwardSplitK, projectDown } from "./linear.ts";
import type { PackedName } from "../families/linear_modules.ts";
import { type PackedLinear, readsInput } from "./packed_linear.ts";

/** What the blocks of a training pass share. */
export interface TrainPass extends BlockPass {
  activations: TrainActivations;
}

/** The activations of a block. */
function activationsOf(
  { activations: { plan, attention, inner } }: TrainPass,
  index: number,
): { attention: TrainedAttention; inner: TrainedInner } {
  return { attention: attention[plan.attention[index]], inner: inner[plan.inner[index]] };
}

/** The norm at the start of block `index`; undefined where it has none. */
export function inputNorm(pass: TrainPass, block: Block, index: number): NextNorm | undefined {
  return preNorm(block, "preAttention", activationsOf(pass, index).inner);
}

/** Queries, keys and values of a joined tensor. */
function heads({ spec }: BlockPass, tensor: Tensor) {
  const queries = spec.num_attention_heads * spec.head_dim;
  const keys = spec.num_key_value_heads * spec.head_dim;
  return {
    q: { tensor, from: 0 },
    k: { tensor, from: queries },
    v: { tensor, from: queries + keys },
  };
}

/** From attention's input to its output, which is kept where the plan says. */
function attend(pass: TrainPass, block: Block, index: number, n: Tensor): Tensor {
  const { gpu, spec, batch } = pass;
  const { qkv, out, lse, loraHidden, qkNorm } = activationsOf(pass, index).attention;
  linear(gpu, block.qkv, n, qkv, { ...linearPass(pass), loraHidden });
  normQueriesAndKeys(pass, block, qkv, qkNorm);
  rope(gpu, {
    x: qkv,
    rotation: rotationOf(pass, block),
    rows: batch.tokens,
    headDim: spec.head_dim,
    heads: spec.num_attention_heads + spec.num_key_value_heads,
  });
  attention(gpu, {
    ...heads(pass, qkv),
    out,
    lse,
    ...attentionSizes(pass, block),
    f16Sums: pass.operands === "f16",
  });
  return out;
}

/**
 * Runs block `index` on the residual stream `x`. Without `y`, for recomputation, it stops once all activations that
 * backward reads are there.
 *
 * @param residual `normed`: the block before has made the norm of x already. `next`: the norm to make of y.
 */
export function blockForward(
  pass: TrainPass,
  block: Block,
  index: number,
  { x, y, normed, next }: { x: Tensor; y?: Tensor; normed: boolean; next?: NextNorm },
): void {
  const { gpu, forward: { normed: normedBuffer, product }, batch: { tokens: rows } } = pass;
  const { inner } = activationsOf(pass, index), { residualMid, gateUp, loraHidden } = inner;
  const first = inputNorm(pass, block, index);
  const n = normed && first !== undefined ? operand(pass, normedBuffer) : norm(pass, first, x);
  const m = project(pass, block, "o", {
    input: attend(pass, block, index, n),
    loraHidden: loraHidden.o,
    keep: inner.postAttention,
    x,
    y: residualMid,
    next: preNorm(block, "preMlp", inner),
  });
  linear(gpu, block.gateUp, m, gateUp, { ...linearPass(pass), loraHidden: loraHidden.gateUp });
  const keepsBranch = inner.postMlp !== undefined;
  if (y === undefined && block.down.lora === undefined && !keepsBranch) return;
  swiglu(gpu, { activation: pass.spec.activation, gateUp, y: product, rows });
  const down = { input: product, loraHidden: loraHidden.down, keep: inner.postMlp };
  if (y !== undefined) project(pass, block, "down", { ...down, x: residualMid, y, next });
  else if (keepsBranch) branch(pass, block, "down", down);
  else projectDown(gpu, block.down, product, { ...linearPass(pass), loraHidden: loraHidden.down });
}

/**
 * Turns the gradient of the block's output, in the backward workspace's `residual` (and `rounded`, see
 * {@linkcode roundedResidual}), into that of its input `x`, and adds the gradients of trained parameters. Without
 * `inputGradient` it stops once these gradients are added and leaves `residual` undefined: nothing below is trained.
 */
export function blockBackward(
  pass: TrainPass,
  block: Block,
  index: number,
  { x, inputGradient }: { x: Tensor; inputGradient: boolean },
): void {
  const { gpu, spec, activations: { plan, backward: d }, batch, forward: { product } } = pass;
  const { inner, attention: stored } = activationsOf(pass, index), { residualMid, gateUp } = inner;
  const rows = batch.tokens, { activation } = spec;
  const gradients = (name: PackedName, loraHidden = inner.loraHidden[name]) => ({
    ...linearPass(pass),
    loraHidden,
    loraHiddenGrad: d.loraHidden,
    whole: d.normed,
  });

  if (readsInput(block.down)) swiglu(gpu, { activation, gateUp, y: product, rows });
  linearBackward(gpu, block.down, {
    ...gradients("down"),
    x: product,
    ...branchGradient(pass, block, "down", inner.postMlp),
    dx: d.product,
  });
  swigluBackward(gpu, { activation, dy: d.product, gateUp, rows });
  const mlpNorm = preNorm(block, "preMlp", inner);
  const m = inputAgain(pass, block.gateUp, mlpNorm, residualMid);
  const gateUpGradients = { ...gradients("gateUp"), x: m, dy: gateUp };
  const dm = linearBackwardSplitK(gpu, block.gateUp, gateUpGradients);
  normBackward(pass, mlpNorm, residualMid, dm);

  const attentionNorm = inputNorm(pass, block, index);
  if (plan.recomputeAttention) attend(pass, block, index, norm(pass, attentionNorm, x));
  const { qkv, out, lse, loraHidden } = stored;
  const branchGrad = branchGradient(pass, block, "o", inner.postAttention);
  linearBackward(gpu, block.o, { ...gradients("o"), x: out, ...branchGrad, dx: d.out });
  const { q: dq, k: dk, v: dv } = heads(pass, d.qkv);
  attentionBackward(gpu, {
    ...heads(pass, qkv),
    out,
    dout: d.out,
    lse,
    dq,
    dk,
    dv,
    ...attentionSizes(pass, block),
    f16Sums: pass.operands === "f16",
    queryEnds: batch.keyRanges[block.keyRanges].queryEnds,
    rotation: rotationOf(pass, block),
  });
  growQueries(pass, d.qkv);
  qkNormBackward(pass, block, stored.qkNorm);
  const n = inputAgain(pass, block.qkv, attentionNorm, x);
  const qkvGradients = { ...gradients("qkv", loraHidden), x: n, dy: d.qkv };
  if (inputGradient || attentionNorm?.w.trained !== undefined) {
    normBackward(pass, attentionNorm, x, linearBackwardSplitK(gpu, block.qkv, qkvGradients));
  } else {
    linearBackward(gpu, block.qkv, qkvGradients);
  }
}

/** Makes the input of a packed layer once more, where their backward reads it. */
function inputAgain(
  pass: TrainPass,
  packed: PackedLinear,
  next: NextNorm | undefined,
  x: Tensor,
): Tensor {
  const { normed } = pass.forward;
  if (readsInput(packed)) norm(pass, next, x);
  return next === undefined ? x : normed;
}

/** The residual stream's gradient in f16, where products round it. */
export function roundedResidual({ operands, activations }: TrainPass): Tensor | undefined {
  return operands === "f16" ? activations.backward.rounded : undefined;
}

/** The gradient of a projection, from that of the residual stream. */
function branchGradient(
  pass: TrainPass,
  block: Block,
  name: BranchName,
  stored: NormInput | undefined,
): { dy: Tensor; dyRounded?: Tensor } {
  const { gpu, spec, activations: { backward: d }, batch: { tokens: rows } } = pass;
  if (isDirect(pass, block, name)) return { dy: d.residual, dyRounded: roundedResidual(pass) };
  const dy = present(d.branch, "room for a projection's gradient");
  scale(gpu, { x: d.residual, y: dy, factor: spec.residual_multiplier, rows });
  const norm = branchNorm(block, name);
  if (norm !== undefined) {
    const { input, rstd } = present(stored, "input of a projection's norm");
    normInPlaceBackward(gpu, {
      dx: dy,
      w: norm.value,
      offset: spec.norm.offset,
      dw: norm.trained?.grad,
      columns: { from: 0, groups: 1 },
      rows,
      inputs: { input, rstd, inputFrom: 0, rstdFrom: 0 },
    });
  }
  return { dy };
}

/** Turns the gradients of normed queries and keys into those of the norm's inputs, in place. */
function qkNormBackward(pass: TrainPass, { qkNorm }: Block, stored: NormInput | undefined): void {
  if (qkNorm === null) return;
  const { gpu, spec, activations: { backward: d }, batch: { tokens: rows } } = pass;
  const { input, rstd } = present(stored, "input of queries' and keys' norm");
  for (const { w, columns, place } of qkNormParts(pass, qkNorm)) {
    normInPlaceBackward(gpu, {
      dx: d.qkv,
      w: w.value,
      offset: spec.norm.offset,
      dw: w.trained?.grad,
      columns,
      rows,
      inputs: { input, rstd, ...place },
    });
  }
}

/** Adds the gradient of a norm's input to the residual stream's; without a norm dy itself. */
function normBackward(
  pass: TrainPass,
  next: NextNorm | undefined,
  x: Tensor,
  dy: SplitKPartials,
): void {
  const { gpu, spec, activations: { backward: { residual: dx } }, batch: { tokens: rows } } = pass;
  const rounded = roundedResidual(pass);
  if (next === undefined) {
    sumSplitK(gpu, { d: dy, c: dx, accumulate: true });
    if (rounded !== undefined) cast(gpu, { x: dx, y: rounded, rows });
    return;
  }
  const { w, rstd } = next, dw = w.trained?.grad, offset = spec.norm.offset;
  rmsnormBackward(gpu, { dy, x, w: w.value, offset, rstd, dx, rounded, dw, rows });
}
