/**
 * One Llama block where no backward follows: the equations of block.ts on the residual stream in place,
 * with keys and values in a cache, or in working memory in the same form.
 *
 * A few rows (decoding) go by matrix-vector products, which make the norm of their input themselves
 * and add to the residual stream as they end.
 *
 * @module
 */
import { attention } from "../kernels/attention.ts";
import { attentionDecode } from "../kernels/attention_decode.ts";
import { ropeAppend } from "../kernels/rope_append.ts";
import { swiglu } from "../kernels/swiglu.ts";
import type { Tensor } from "../kernels/tensor.ts";
import {
  attentionSizes,
  type Block,
  type BlockPass,
  inputNorm,
  linearPass,
  type NextNorm,
  norm,
  project,
} from "./block.ts";
import { type FewRows, linearFew, swigluFew, takesFewRows } from "./few_rows.ts";
import { linear } from "./linear.ts";

/**
 * Runs block `index` on the residual stream `x` in place.
 *
 * @param next The norm at the start of the next block, where there is one.
 */
export function blockInference(
  pass: BlockPass,
  block: Block,
  index: number,
  x: Tensor,
  next?: NextNorm,
): void {
  const { gpu, config, activations, batch } = pass;
  const few = takesFewRows(gpu, batch.tokens);
  const { forward: { normed: n, product }, plan } = activations;
  const { rstd2, gateUp, low } = activations.inner[plan.inner[index]];
  const { qkv, low: qkvLow } = activations.attention[plan.attention[index]];
  const rows = batch.tokens, how = linearPass(pass);
  if (few) {
    const eps = config.rms_norm_eps, { half } = pass;
    const common: FewRows = { rows, half, eps, dropout: pass.dropout, normed: n };
    const preNorm = block.input_layernorm, postNorm = block.post_attention_layernorm;
    linearFew(gpu, block.qkv, x, qkv, { ...common, norm: preNorm, low: qkvLow });
    linearFew(gpu, block.o, attend(pass, index), x, {
      ...common,
      low: low.o,
      accumulate: true,
    });
    const swigluHow = { ...common, norm: postNorm, low: low.gateUp, gateUp };
    swigluFew(gpu, block.gateUp, x, product, swigluHow);
    linearFew(gpu, block.down, product, x, { ...common, low: low.down, accumulate: true });
    return;
  }
  if (index === 0) norm(pass, inputNorm(pass, block, index), x);
  linear(gpu, block.qkv, n, qkv, { ...how, low: qkvLow });
  const postNorm = { w: block.post_attention_layernorm, rstd: rstd2 };
  project(pass, block.o, {
    input: attend(pass, index),
    low: low.o,
    x,
    y: x,
    next: postNorm,
  });
  linear(gpu, block.gateUp, n, gateUp, { ...how, low: low.gateUp });
  swiglu(gpu, { gateUp, y: product, rows });
  project(pass, block.down, { input: product, low: low.down, x, y: x, next });
}

/** From queries, keys and values to attention's output, over the pass's own keys or a cache's. */
function attend(pass: BlockPass, index: number): Tensor {
  const { gpu, activations, batch, cache } = pass;
  const { qkv, out } = activations.attention[activations.plan.attention[index]];
  // Without a cache keys and values are rounded as a cache would: the result is the same.
  const { k, v } = cache?.blocks[index] ?? activations.forward.kv!;
  const { starts, ends, ...sizes } = attentionSizes(pass);
  const appended = {
    ...{ ...sizes, qkv, cachedK: k, cachedV: v, index: batch.keyRows! },
    ...{ table: pass.ropeTable, positions: batch.positions },
  };
  const longest = cache?.longest;
  if (longest !== undefined) {
    const workspace = activations.decode!;
    attentionDecode(gpu, { ...appended, starts, ends, out, workspace, longest });
  } else {
    ropeAppend(gpu, appended);
    const [q, keys, values] = [qkv, k, v].map((tensor) => ({ tensor, from: 0 }));
    attention(gpu, { ...sizes, q, k: keys, v: values, starts, ends, out });
  }
  return out;
}
