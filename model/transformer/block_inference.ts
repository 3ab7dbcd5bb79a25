/**
 * One block where no backward follows: the equations of block.ts on the residual stream in place,
 * with keys and values in a cache, or in working memory in the same form.
 *
 * One to eight rows (decoding) take matrix-vector products, which norm their input themselves and add their output to
 * the residual stream. Attention's KV splits for a single row are not even combined: the projection that follows reads
 * them.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { swiglu } from "../../kernels/ops/activation/swiglu.ts";
import { attention } from "../../kernels/ops/attention/attention.ts";
import {
  attentionDecode,
  type DecodeWorkspace,
} from "../../kernels/ops/attention/decode/attention_decode.ts";
import type { SplitAttention } from "../../kernels/ops/attention/decode/kv_splits.ts";
import type { RowAdapters } from "../../kernels/ops/lora/own_ranks.ts";
import { singleSplit } from "../../kernels/ops/split_k/split_k.ts";
import { takesMatvec } from "../../kernels/ops/matvec/matvec.ts";
import { addSplitK } from "../../kernels/ops/norm/rmsnorm.ts";
import { ropeAppend } from "../../kernels/ops/rope/rope_append.ts";
import { gatherRows } from "../../kernels/ops/rows/gather.ts";
import type { BlockKeys, InferActivations } from "./activations.ts";
import {
  attentionSizes,
  type Block,
  type BlockPass,
  type BranchName,
  branchNorm,
  finishBranch,
  isDirect,
  linearPass,
  type NextNorm,
  norm,
  normQueriesAndKeys,
  operand,
  preNorm,
  project,
  rotationOf,
} from "./block.ts";
import { linear } from "./linear.ts";
import { addSplits, type GemvPass, linearGemv, swigluGemv, takesSplits } from "./linear_gemv.ts";
import type { Parameter } from "./parameters.ts";

/** What the blocks of a pass without backward share. */
export interface InferPass extends BlockPass {
  activations: InferActivations;
  /** Keys and values of each block: the cache's, or working memory. */
  keys: (index: number) => BlockKeys;
  /** Where every row is the next token of a sequence: working memory, and most keys of a query; else null. */
  decode: { workspace: DecodeWorkspace; longest: number } | null;
  /** As `rowAdapters`, for the rows that logits are made of. */
  outputAdapters?: RowAdapters;
}

/** The rows of a pass that logits are made of. */
export interface OutputRows {
  /** Which they are `[rows]` u32. */
  index: Tensor;
  rows: number;
  /** Where their residual stream goes `[rows, hidden]` f32, and attention's output `[rows, heads · head_dim]`. */
  x: Tensor;
  out: Tensor;
  /** As of a pass, for these rows. */
  rowAdapters?: RowAdapters;
}

/** The norm at the start of a block; undefined where it has none. */
export function inferInputNorm(pass: InferPass, block: Block): NextNorm | undefined {
  return preNorm(block, "preAttention", pass.activations.inner);
}

/**
 * Runs block `index` on the residual stream `x` in place.
 *
 * @param after `next`: the norm at the start of the next block, where there is one. `output`: after
 *   attention only these rows go on, which is all that the last block is asked for.
 */
export function blockInference(
  pass: InferPass,
  block: Block,
  index: number,
  x: Tensor,
  { next, output }: { next?: NextNorm; output?: OutputRows },
): void {
  const { gpu, activations, batch: { tokens } } = pass;
  const { qkv, loraHidden, out: attended } = activations.attention;
  const isGemv = takesMatvec(gpu, tokens);
  if (isGemv) {
    linearGemv(gpu, block.qkv, x, qkv, {
      ...gemvPass(pass, tokens, block.norms.preAttention),
      loraHidden,
    });
  } else {
    // Every other block's is made by the block before.
    const first = inferInputNorm(pass, block);
    const n = index === 0 || first === undefined
      ? norm(pass, first, x)
      : operand(pass, pass.forward.normed);
    linear(gpu, block.qkv, n, qkv, { ...linearPass(pass), loraHidden });
  }
  // Matrix-vector products round their input themselves, and output rows are gathered from f32.
  const out = isGemv || output !== undefined ? attended : operand(pass, attended);
  const uncombined = output === undefined && isGemv && isDirect(pass, block, "o") &&
    takesSplits(gpu, block.o);
  const splits = attend(pass, block, index, { out, uncombined });
  if (output === undefined) {
    return finish(pass, block, { rows: tokens, out: splits ?? out, x, next });
  }
  const { index: rowIndex, rows } = output;
  if (rows === 0) return;
  gatherRows(gpu, { x: out, index: rowIndex, y: output.out, rows });
  gatherRows(gpu, { x, index: rowIndex, y: output.x, rows });
  finish({ ...pass, rowAdapters: output.rowAdapters }, block, {
    rows,
    out: output.out,
    x: output.x,
  });
}

/** What follows attention, on `rows` rows of its output and of the residual stream. */
function finish(
  pass: InferPass,
  block: Block,
  { rows, out, x, next }: {
    rows: number;
    out: Tensor | SplitAttention;
    x: Tensor;
    next?: NextNorm;
  },
): void {
  const { gpu, spec: { activation }, activations: { inner }, forward } = pass;
  const { gateUp, loraHidden } = inner, product = operand(pass, forward.product);
  if ("splits" in out || takesMatvec(gpu, rows)) {
    if ("splits" in out) {
      addSplits(gpu, block.o, out, x, gemvPass(pass, rows));
    } else projectGemv(pass, block, "o", { input: out, x, rows });
    swigluGemv(gpu, block.gateUp, x, product, {
      ...gemvPass(pass, rows, block.norms.preMlp),
      loraHidden: loraHidden.gateUp,
      gateUp,
      activation,
    });
    projectGemv(pass, block, "down", { input: product, x, rows });
    return;
  }
  const residual = { x, y: x, rows };
  const mlpNorm = preNorm(block, "preMlp", inner);
  const m = project(pass, block, "o", {
    ...residual,
    input: out,
    loraHidden: loraHidden.o,
    next: mlpNorm,
  });
  linear(gpu, block.gateUp, m, gateUp, {
    ...linearPass(pass, rows),
    loraHidden: loraHidden.gateUp,
  });
  swiglu(gpu, { activation, gateUp, y: product, rows });
  project(pass, block, "down", { ...residual, input: product, loraHidden: loraHidden.down, next });
}

/** Adds a projection of a few rows to the residual stream x. */
function projectGemv(
  pass: InferPass,
  block: Block,
  name: BranchName,
  { input, x, rows }: { input: Tensor; x: Tensor; rows: number },
): void {
  const { gpu, forward, activations: { inner } } = pass;
  const how = { ...gemvPass(pass, rows), loraHidden: inner.loraHidden[name] };
  if (isDirect(pass, block, name)) {
    return linearGemv(gpu, block[name], input, x, { ...how, accumulate: true });
  }
  const projected = present(forward.projected, "room for a projection");
  linearGemv(gpu, block[name], input, projected, how);
  finishBranch(pass, branchNorm(block, name), { x: projected, rows });
  addSplitK(gpu, { x, d: singleSplit(projected, rows), y: x, rows });
}

function gemvPass(pass: BlockPass, rows: number, norm?: Parameter): GemvPass {
  const { spec, forward: { normed } } = pass;
  return { ...linearPass(pass, rows), ...spec.norm, normed, norm };
}

/**
 * From queries, keys and values to attention's output, over the pass's own keys or a cache's.
 *
 * @returns the output's KV splits where it was left `uncombined`.
 */
function attend(
  pass: InferPass,
  block: Block,
  index: number,
  { out, uncombined }: { out: Tensor; uncombined: boolean },
): SplitAttention | undefined {
  const { gpu, activations: { attention: { qkv } }, batch, decode } = pass;
  normQueriesAndKeys(pass, block, qkv);
  // Without a cache keys and values are rounded as a cache would: the result is the same.
  const { k, v } = pass.keys(index);
  const { starts, ends, ...sizes } = attentionSizes(pass, block);
  const appended = {
    ...sizes,
    qkv,
    cachedK: k,
    cachedV: v,
    index: present(batch.keyRows, "rows of keys"),
    rotation: rotationOf(pass, block),
  };
  if (decode !== null) {
    return attentionDecode(gpu, { ...appended, starts, ends, out, ...decode, uncombined });
  }
  ropeAppend(gpu, appended);
  const [q, keys, values] = [qkv, k, v].map((tensor) => ({ tensor, from: 0 }));
  const f16Operands = pass.operands === "f16";
  attention(gpu, { ...sizes, q, k: keys, v: values, starts, ends, out, f16Operands });
}
