/**
 * One Llama block where no backward follows: the equations of block.ts on the residual stream in place,
 * with keys and values in a cache, or in working memory in the same form.
 *
 * A few rows (decoding) go by matrix-vector products, which make the norm of their input themselves
 * and add to the residual stream as they end. Attention's output for a single row is not even put together:
 * the projection that follows reads its parts.
 *
 * @module
 */
import { attention } from "../../kernels/ops/attention/attention.ts";
import type { SplitAttention } from "../../kernels/ops/attention/decode/kv_splits.ts";
import { attentionDecode } from "../../kernels/ops/attention/decode/attention_decode.ts";
import { gatherRows } from "../../kernels/ops/rows/gather.ts";
import { takesFewRows } from "../../kernels/ops/matvec/matvec.ts";
import { ropeAppend } from "../../kernels/ops/rope/rope_append.ts";
import { swiglu } from "../../kernels/ops/activation/swiglu.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import {
  attentionSizes,
  type Block,
  type BlockPass,
  inputNorm,
  linearPass,
  type NextNorm,
  norm,
  operand,
  project,
} from "./block.ts";
import { addSplits, type FewRows, linearFew, swigluFew, takesSplits } from "./few_rows.ts";
import { linear } from "./linear.ts";
import type { Parameter } from "./parameters.ts";

/** The rows of a pass whose results are wanted. */
export interface WantedRows {
  /** Which they are `[rows]` u32, ascending. */
  index: Tensor;
  rows: number;
  /** Where their residual stream goes `[rows, hidden]` f32, and attention's output `[rows, heads · head_dim]`. */
  x: Tensor;
  out: Tensor;
}

/**
 * Runs block `index` on the residual stream `x` in place.
 *
 * @param ends `next`: the norm at the start of the next block, where there is one. `wanted`: after
 *   attention only these rows go on, which is all that the last block is asked for.
 */
export function blockInference(
  pass: BlockPass,
  block: Block,
  index: number,
  x: Tensor,
  { next, wanted }: { next?: NextNorm; wanted?: WantedRows },
): void {
  const { gpu, activations, batch: { tokens } } = pass;
  const { qkv, low, ...kept } = activations.attention[activations.plan.attention[index]];
  const few = takesFewRows(gpu, tokens);
  if (few) {
    linearFew(gpu, block.qkv, x, qkv, { ...fewRows(pass, tokens, block.input_layernorm), low });
  } else {
    // Every other block's is made by the block before.
    if (index === 0) norm(pass, inputNorm(pass, block, index), x);
    const normed = operand(pass, activations.forward.normed);
    linear(gpu, block.qkv, normed, qkv, { ...linearPass(pass), low });
  }
  // A few rows are rounded by the product itself, and wanted ones are picked out of f32.
  const out = few || wanted !== undefined ? kept.out : operand(pass, kept.out);
  const apart = wanted === undefined && few && takesSplits(gpu, block.o);
  const splits = attend(pass, index, { out, apart });
  if (wanted === undefined) {
    return finish(pass, block, index, { rows: tokens, out: splits ?? out, x, next });
  }
  const { index: rowIndex, rows } = wanted;
  if (rows === 0) return;
  gatherRows(gpu, { x: out, index: rowIndex, y: wanted.out, rows });
  gatherRows(gpu, { x, index: rowIndex, y: wanted.x, rows });
  finish(pass, block, index, { rows, out: wanted.out, x: wanted.x });
}

/** What follows attention, on `rows` rows of its output and of the residual stream. */
function finish(
  pass: BlockPass,
  block: Block,
  index: number,
  { rows, out, x, next }: {
    rows: number;
    out: Tensor | SplitAttention;
    x: Tensor;
    next?: NextNorm;
  },
): void {
  const { gpu, activations: { forward: { normed, product }, inner, plan } } = pass;
  const { rstd2, gateUp, low } = inner[plan.inner[index]];
  const w = block.post_attention_layernorm;
  if ("splits" in out || takesFewRows(gpu, rows)) {
    const add = { ...fewRows(pass, rows), accumulate: true };
    if ("splits" in out) addSplits(gpu, block.o, out, x, add);
    else linearFew(gpu, block.o, out, x, { ...add, low: low.o });
    swigluFew(gpu, block.gateUp, x, product, {
      ...fewRows(pass, rows, w),
      low: low.gateUp,
      gateUp,
    });
    linearFew(gpu, block.down, product, x, { ...add, low: low.down });
    return;
  }
  const stream = { x, y: x, rows }, [n, y] = [normed, product].map((t) => operand(pass, t));
  project(pass, block.o, { ...stream, input: out, low: low.o, next: { w, rstd: rstd2 } });
  linear(gpu, block.gateUp, n, gateUp, { ...linearPass(pass, rows), low: low.gateUp });
  swiglu(gpu, { gateUp, y, rows });
  project(pass, block.down, { ...stream, input: y, low: low.down, next });
}

function fewRows(pass: BlockPass, rows: number, norm?: Parameter): FewRows {
  const { config: { rms_norm_eps: eps }, activations: { forward: { normed } } } = pass;
  return { ...linearPass(pass, rows), eps, normed, norm };
}

/**
 * From queries, keys and values to attention's output, over the pass's own keys or a cache's.
 *
 * @returns the output's parts where it was left `apart`.
 */
function attend(
  pass: BlockPass,
  index: number,
  { out, apart }: { out: Tensor; apart: boolean },
): SplitAttention | undefined {
  const { gpu, activations, batch, cache } = pass;
  const { qkv } = activations.attention[activations.plan.attention[index]];
  // Without a cache keys and values are rounded as a cache would: the result is the same.
  const { k, v } = cache?.blocks[index] ?? activations.forward.kv!;
  const { starts, ends, ...sizes } = attentionSizes(pass);
  const appended = {
    ...sizes,
    qkv,
    cachedK: k,
    cachedV: v,
    index: batch.keyRows!,
    table: pass.ropeTable,
    positions: batch.positions,
  };
  const longest = cache?.longest;
  if (longest !== undefined) {
    const workspace = activations.decode!;
    return attentionDecode(gpu, { ...appended, starts, ends, out, workspace, longest, apart });
  }
  ropeAppend(gpu, appended);
  const [q, keys, values] = [qkv, k, v].map((tensor) => ({ tensor, from: 0 }));
  attention(gpu, { ...sizes, q, k: keys, v: values, starts, ends, out, f16Operands: pass.half });
}
