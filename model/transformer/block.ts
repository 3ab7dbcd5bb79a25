/**
 * One block of a transformer, as its specification has it (families/spec.ts):
 *
 *     mid = x + post_attention(Wo·attention(rope(Wq·n), rope(Wk·n), Wv·n))   n = pre_attention(x)
 *     y   = mid + post_mlp(Wdown·(f(Wgate·m)·(Wup·m)))                       m = pre_mlp(mid)
 *
 * Every norm is an RMSNorm where the block has one and the identity elsewhere; f is the MLP's activation. This file
 * has what the passes share; training is in block_training.ts, inference in block_inference.ts.
 *
 * Projections of the same input are one product. A projection back to the residual stream leaves split-K partial
 * sums. One launch adds them to the residual stream and makes the next norm.
 *
 * Source: Touvron et al., "Llama 2: Open Foundation and Fine-Tuned Chat Models", 2023.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import type { RowAdapters } from "../../kernels/ops/lora/own_ranks.ts";
import { grow } from "../../kernels/ops/elements/growth.ts";
import { scale } from "../../kernels/ops/elements/scale.ts";
import { singleSplit, type SplitKPartials } from "../../kernels/ops/split_k/split_k.ts";
import { normInPlace } from "../../kernels/ops/norm/norm_in_place.ts";
import { addSplitK, rmsnorm } from "../../kernels/ops/norm/rmsnorm.ts";
import type { Float } from "../../kernels/ops/numerics.ts";
import type { RowRotation } from "../../kernels/ops/rope/rope.ts";
import type { ArchSpec, NormPlace } from "../families/spec.ts";
import type { ForwardWorkspace, InnerActivations, NormInput } from "./activations.ts";
import type { BatchTensors } from "./batch.ts";
import type { LayerRope } from "./layers.ts";
import { linear, linearSplitK } from "./linear.ts";
import type { DropoutState, LinearPass, PackedLinear } from "./packed_linear.ts";
import type { Parameter } from "./parameters.ts";

/** The norms of queries and keys. */
export interface QkNorm {
  q: Parameter;
  k: Parameter;
}

/** The parameters of one block, and the settings of its attention. */
export interface Block {
  norms: Partial<Record<NormPlace, Parameter>>;
  qkNorm: QkNorm | null;
  /** q_proj, k_proj, v_proj. */
  qkv: PackedLinear;
  o: PackedLinear;
  /** gate_proj, up_proj. */
  gateUp: PackedLinear;
  down: PackedLinear;
  /** How its queries and keys are rotated. */
  rope: LayerRope;
  /** Which of the batch's key ranges are those of its sliding window. */
  keyRanges: number;
  /** What its scores q·k are multiplied by. */
  scale: number;
  /** What these are then capped to; null where they are not. */
  softcap: number | null;
}

/** What every block of a pass shares. */
export interface BlockPass {
  gpu: Gpu;
  spec: ArchSpec;
  batch: BatchTensors;
  dropout: DropoutState;
  /** What products may round their operands to. */
  operands: Float;
  forward: ForwardWorkspace;
  /** Which adapter each row has, where they have several. */
  rowAdapters?: RowAdapters;
}

/** A norm whose input is what a launch writes. */
export interface NextNorm {
  w: Parameter;
  rstd: Tensor;
}

/** The norm before attention, or before the MLP; undefined where the block has none. */
export function preNorm(
  { norms }: Block,
  place: "preAttention" | "preMlp",
  { rstdAttention, rstdMlp }: InnerActivations,
): NextNorm | undefined {
  const w = norms[place];
  return w && { w, rstd: place === "preAttention" ? rstdAttention : rstdMlp };
}

/** Working memory for what only products read: f16 where they would round it. */
export function operand({ operands }: BlockPass, tensor: Tensor): Tensor {
  return operands === "f16" ? tensor.as("f16") : tensor;
}

/** The norm of x, in working memory; x itself without one. */
export function norm(pass: BlockPass, next: NextNorm | undefined, x: Tensor): Tensor {
  if (next === undefined) return x;
  const { gpu, spec, forward, batch } = pass, { w, rstd } = next;
  const y = operand(pass, forward.normed);
  rmsnorm(gpu, { x, w: w.value, y, rstd, rows: batch.tokens, ...spec.norm });
  return y;
}

/** Multiplies queries, or their gradients, by what grows with their positions, where something does. */
export function growQueries({ gpu, spec, batch }: BlockPass, qkv: Tensor): void {
  if (spec.queryGrowth === null) return;
  const { tokens: rows, positions } = batch, columns = spec.num_attention_heads * spec.head_dim;
  grow(gpu, { x: qkv, positions, growth: spec.queryGrowth, rows, columns });
}

/**
 * Norms queries and keys in place, where the block has norms for them, and grows queries; `keep`: where backward
 * follows.
 */
export function normQueriesAndKeys(
  pass: BlockPass,
  { qkNorm }: Block,
  qkv: Tensor,
  keep?: NormInput,
): void {
  const { gpu, spec, batch: { tokens: rows } } = pass;
  for (const { w, columns, place } of qkNorm === null ? [] : qkNormParts(pass, qkNorm)) {
    const inputs = keep && { ...keep, ...place };
    normInPlace(gpu, { x: qkv, w: w.value, columns, rows, ...spec.norm, keep: inputs });
  }
  // A rotation doesn't change it.
  growQueries(pass, qkv);
}

/** The columns of queries and of keys that are normed, and where their inputs are stored. */
export function qkNormParts(
  { spec }: BlockPass,
  { q, k }: QkNorm,
): {
  w: Parameter;
  columns: { from: number; groups: number };
  place: { inputFrom: number; rstdFrom: number };
}[] {
  const queries = spec.num_attention_heads * spec.head_dim;
  const keys = spec.num_key_value_heads * spec.head_dim;
  const part = (w: Parameter, from: number, width: number, rstdFrom: number) => ({
    w,
    columns: { from, groups: width / w.value.shape[0] },
    place: { inputFrom: from, rstdFrom },
  });
  return [part(q, 0, queries, 0), part(k, queries, keys, spec.num_attention_heads)];
}

/** The projections back to the residual stream. */
export type BranchName = "o" | "down";

/** The norm that a projection goes through before it is added, if there is one. */
export const branchNorm = ({ norms }: Block, name: BranchName): Parameter | undefined =>
  name === "o" ? norms.postAttention : norms.postMlp;

/** Whether a projection is added to the residual stream as it is. */
export function isDirect({ spec }: BlockPass, block: Block, name: BranchName): boolean {
  return branchNorm(block, name) === undefined && spec.residual_multiplier === 1;
}

/** Norms and scales a projection, in place, before it is added. */
export function finishBranch(
  { gpu, spec }: BlockPass,
  norm: Parameter | undefined,
  { x, rows, keep }: { x: Tensor; rows: number; keep?: NormInput },
): void {
  const { residual_multiplier: factor } = spec;
  if (norm !== undefined) {
    const columns = { from: 0, groups: 1 };
    const inputs = keep && { ...keep, inputFrom: 0, rstdFrom: 0 };
    normInPlace(gpu, { x, w: norm.value, columns, rows, ...spec.norm, keep: inputs });
  }
  if (factor !== 1) scale(gpu, { x, y: x, factor, rows });
}

/** What a projection reads and writes. */
export interface BranchInput {
  input: Tensor;
  loraHidden?: Tensor;
  rows?: number;
  /** Where the input of its norm is kept for backward. */
  keep?: NormInput;
}

/** What a projection adds to the residual stream. */
export function branch(
  pass: BlockPass,
  block: Block,
  name: BranchName,
  { input, loraHidden, keep, rows = pass.batch.tokens }: BranchInput,
): SplitKPartials {
  const { gpu, forward } = pass, common = { ...linearPass(pass, rows), loraHidden };
  if (isDirect(pass, block, name)) {
    return linearSplitK(gpu, block[name], input, { ...common, whole: forward.projected });
  }
  const x = present(forward.projected, "room for a projection");
  linear(gpu, block[name], input, x, common);
  finishBranch(pass, branchNorm(block, name), { x, rows, keep });
  return singleSplit(x, rows);
}

/**
 * y = x + a projection to the residual stream, and the norm of it that comes next.
 *
 * @returns what comes next reads: the norm in working memory, or y without one.
 */
export function project(
  pass: BlockPass,
  block: Block,
  name: BranchName,
  { x, y, next, ...input }: BranchInput & { x: Tensor; y: Tensor; next?: NextNorm },
): Tensor {
  const { gpu, spec, forward } = pass, { rows = pass.batch.tokens } = input;
  const n = operand(pass, forward.normed);
  const d = branch(pass, block, name, input);
  const norm = next && { w: next.w.value, n, rstd: next.rstd, ...spec.norm };
  addSplitK(gpu, { x, d, y, rows, norm });
  return next === undefined ? y : n;
}

/** What a packed linear layer takes from the pass. */
export function linearPass(
  { batch, dropout, operands, forward, rowAdapters }: BlockPass,
  rows = batch.tokens,
): LinearPass {
  return { rows, dropout, operands, dora: forward.dora, rowAdapters };
}

/** How the rows of a pass are rotated in a block. */
export function rotationOf({ batch }: BlockPass, { rope }: Block): RowRotation {
  return { table: rope.table, rotary: rope.rotary, positions: batch.tableRows };
}

/** Sizes and key ranges of attention in a pass. */
export interface AttentionSizes {
  rows: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  scale: number;
  softcap: number | null;
  starts: Tensor;
  ends: Tensor;
  excludedKeys?: Tensor;
  pairs?: number;
}

/** Sizes and key ranges of a block's attention in this pass. */
export function attentionSizes({ spec, batch }: BlockPass, block: Block): AttentionSizes {
  const { starts, pairs } = batch.keyRanges[block.keyRanges];
  return {
    rows: batch.tokens,
    heads: spec.num_attention_heads,
    kvHeads: spec.num_key_value_heads,
    headDim: spec.head_dim,
    scale: block.scale,
    softcap: block.softcap,
    starts,
    ends: batch.ends,
    excludedKeys: batch.excludedKeys,
    pairs,
  };
}
