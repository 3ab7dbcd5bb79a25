/**
 * One Llama block, forward and backward:
 *
 *     middle = x + Wo·attention(rope(Wq·n), rope(Wk·n), Wv·n)      n = rmsnorm(x)
 *     y      = middle + Wdown·(silu(Wgate·m)·(Wup·m))              m = rmsnorm(middle)
 *
 * Norm outputs and silu(gate)·up are not kept for backward: making them again costs one pass over
 * memory. What is kept, and whether the block runs again before its backward, is the plan's business.
 *
 * Source: Touvron et al., "Llama 2: Open Foundation and Fine-Tuned Chat Models", 2023.
 *
 * @module
 */
import { attention, attentionBackward } from "../kernels/attention.ts";
import { attentionDecode } from "../kernels/attention_decode.ts";
import type { Gpu } from "../kernels/gpu.ts";
import { addResidual } from "../kernels/residual.ts";
import { rmsnorm, rmsnormBackward } from "../kernels/rmsnorm.ts";
import { rope } from "../kernels/rope.ts";
import { ropeAppend } from "../kernels/rope_append.ts";
import { swiglu, swigluBackward } from "../kernels/swiglu.ts";
import type { Tensor } from "../kernels/tensor.ts";
import type { Activations } from "./activations.ts";
import type { BatchTensors } from "./batch.ts";
import type { LlamaConfig } from "./config.ts";
import {
  type DropoutState,
  gatedLinear,
  type Linear,
  linear,
  linearBackward,
  linears,
} from "./linear.ts";
import type { Parameter } from "./parameters.ts";

/** The parameters of one block, under Hugging Face's names. */
export interface Block {
  input_layernorm: Parameter;
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  o_proj: Linear;
  post_attention_layernorm: Parameter;
  gate_proj: Linear;
  up_proj: Linear;
  down_proj: Linear;
}

/** Keys and values of earlier tokens of one block `[rows, kv_heads·head_dim]`. */
export interface CachedBlock {
  k: Tensor;
  v: Tensor;
}

/** How a pass uses the KV cache. Its keys and values are appended at the batch's `cacheRows`. */
export interface CachePass {
  blocks: readonly CachedBlock[];
  /**
   * `begin`: documents that start in this pass, which attend to its own keys and values. `continue`:
   * the next tokens of one document. `decode`: the next token of each of several. The last two attend
   * to the cache, and the batch's `starts` and `ends` are rows of it.
   */
  stage: "begin" | "continue" | "decode";
  /** Most keys of a query, for `decode`. */
  longest: number;
}

/** What every block of a pass shares. */
export interface BlockPass {
  gpu: Gpu;
  config: LlamaConfig;
  activations: Activations;
  batch: BatchTensors;
  ropeTable: Tensor;
  dropout: DropoutState;
  cache?: CachePass;
}

/** Whether a layer's backward reads its input. */
const readsInput = ({ weight, lora }: Linear) =>
  weight.trained !== undefined || lora?.a.trained !== undefined;

function norm(pass: BlockPass, w: Parameter, x: Tensor, rstd: Tensor): Tensor {
  const { gpu, config, activations, batch } = pass;
  const y = activations.forward.normed;
  rmsnorm(gpu, { x, w: w.value, y, rstd, rows: batch.tokens, eps: config.rms_norm_eps });
  return y;
}

function linearPass(pass: BlockPass) {
  const { activations, batch, dropout } = pass;
  return { rows: batch.tokens, dropout, workspace: activations.lora };
}

function rotate(pass: BlockPass, x: Tensor, heads: number, inverse: boolean): void {
  const { gpu, config, batch, ropeTable: table } = pass;
  rope(gpu, {
    x,
    table,
    positions: batch.positions,
    rows: batch.tokens,
    heads,
    headDim: config.head_dim,
    inverse,
  });
}

function attentionSizes({ config, batch }: BlockPass) {
  return {
    rows: batch.tokens,
    heads: config.num_attention_heads,
    kvHeads: config.num_key_value_heads,
    headDim: config.head_dim,
    starts: batch.starts,
    ends: batch.ends,
  };
}

/** From the residual stream x to attention's output, which is kept where the plan says. */
function attend(
  pass: BlockPass,
  block: Block,
  index: number,
  x: Tensor,
): Tensor {
  const { gpu, config, activations, batch, cache } = pass;
  const { plan } = activations;
  const { q, k, v, out, lse } = activations.attention[plan.attention[index]];
  const n = norm(pass, block.input_layernorm, x, activations.inner[plan.inner[index]].rstd1);
  linears(gpu, [block.q_proj, block.k_proj, block.v_proj], n, [q, k, v], linearPass(pass));
  if (cache === undefined) {
    rotate(pass, q, config.num_attention_heads, false);
    rotate(pass, k, config.num_key_value_heads, false);
    attention(gpu, { q, k, v, out, lse, ...attentionSizes(pass) });
    return out;
  }
  const { k: cachedK, v: cachedV } = cache.blocks[index];
  ropeAppend(gpu, {
    ...{ q, k, v, cachedK, cachedV, table: pass.ropeTable, positions: batch.positions },
    ...{ index: batch.cacheRows!, rows: batch.tokens, headDim: config.head_dim },
    ...{ heads: config.num_attention_heads, kvHeads: config.num_key_value_heads },
  });
  const sizes = attentionSizes(pass), cached = { k: cachedK, v: cachedV };
  if (cache.stage === "begin") attention(gpu, { q, k, v, out, ...sizes });
  else if (cache.stage === "continue") attention(gpu, { q, ...cached, out, ...sizes });
  else {
    const { longest } = cache, workspace = activations.decode!;
    attentionDecode(gpu, { q, ...cached, out, workspace, longest, ...sizes });
  }
  return out;
}

/**
 * Runs block `index` on the residual stream `x`. Without `y` it stops once everything that its
 * backward needs is there, which is all that recomputation asks for.
 */
export function blockForward(
  pass: BlockPass,
  block: Block,
  index: number,
  { x, y }: { x: Tensor; y?: Tensor },
): void {
  const { gpu, activations, batch: { tokens: rows } } = pass;
  const { projected, product } = activations.forward;
  const { middle, rstd2, gate, up } = activations.inner[activations.plan.inner[index]];
  const how = linearPass(pass);
  linear(gpu, block.o_proj, attend(pass, block, index, x), projected!, how);
  addResidual(gpu, { x, d: projected!, y: middle!, rows });
  const m = norm(pass, block.post_attention_layernorm, middle!, rstd2);
  linear(gpu, block.gate_proj, m, gate, how);
  linear(gpu, block.up_proj, m, up, how);
  if (y === undefined) return;
  swiglu(gpu, { gate, up, y: product, rows });
  linear(gpu, block.down_proj, product, projected!, how);
  addResidual(gpu, { x: middle!, d: projected!, y, rows });
}

/**
 * Runs block `index` on the residual stream `x` in place, for passes that no backward follows: nothing
 * is kept, so both projections are added to `x` as they are made.
 */
export function blockInference(pass: BlockPass, block: Block, index: number, x: Tensor): void {
  const { gpu, activations } = pass;
  const { product } = activations.forward;
  const { rstd2, gate, up } = activations.inner[activations.plan.inner[index]];
  const how = linearPass(pass), add = { ...how, accumulate: true };
  linear(gpu, block.o_proj, attend(pass, block, index, x), x, add);
  const m = norm(pass, block.post_attention_layernorm, x, rstd2);
  const layers = { gate: block.gate_proj, up: block.up_proj };
  gatedLinear(gpu, layers, m, product, { ...how, gate, up });
  linear(gpu, block.down_proj, product, x, add);
}

/**
 * Turns the gradient of the block's output, in the backward workspace's `residual`, into that of its
 * input `x`, and adds the gradients of what is trained. Without `inputGradient` it stops when the
 * latter is done and leaves `residual` undefined: nothing below is trained.
 */
export function blockBackward(
  pass: BlockPass,
  block: Block,
  index: number,
  { x, inputGradient }: { x: Tensor; inputGradient: boolean },
): void {
  const { gpu, config, activations, batch } = pass;
  const { plan } = activations;
  const d = activations.backward!;
  const rows = batch.tokens;
  const { rstd1, rstd2, middle, gate, up } = activations.inner[plan.inner[index]];
  const how = linearPass(pass);

  const { product } = activations.forward;
  if (readsInput(block.down_proj)) swiglu(gpu, { gate, up, y: product, rows });
  linearBackward(gpu, block.down_proj, { ...how, x: product, dy: d.residual, dx: d.product });
  swigluBackward(gpu, { dy: d.product, gate, up, dgate: d.gate, dup: d.up, rows });
  const { normed } = activations.forward;
  if (readsInput(block.gate_proj) || readsInput(block.up_proj)) {
    norm(pass, block.post_attention_layernorm, middle!, rstd2);
  }
  linearBackward(gpu, block.gate_proj, { ...how, x: normed, dy: d.gate, dx: d.normed });
  const addToNormed = { dx: d.normed, accumulate: true };
  linearBackward(gpu, block.up_proj, { ...how, x: normed, dy: d.up, ...addToNormed });
  normBackward(pass, block.post_attention_layernorm, middle!, rstd2);

  if (plan.recomputeAttention) attend(pass, block, index, x);
  const { q, k, v, out, lse } = activations.attention[plan.attention[index]];
  linearBackward(gpu, block.o_proj, { ...how, x: out, dy: d.residual, dx: d.out });
  attentionBackward(gpu, {
    ...{ q, k, v, out, dout: d.out, lse, delta: d.delta, dq: d.q, dk: d.k, dv: d.v },
    ...{ ...attentionSizes(pass), queryEnds: batch.queryEnds },
  });
  rotate(pass, d.q, config.num_attention_heads, true);
  rotate(pass, d.k, config.num_key_value_heads, true);
  const projections = [[block.q_proj, d.q], [block.k_proj, d.k], [block.v_proj, d.v]] as const;
  if (projections.some(([layer]) => readsInput(layer))) {
    norm(pass, block.input_layernorm, x, rstd1);
  }
  const wantsNormed = inputGradient || block.input_layernorm.trained !== undefined;
  projections.forEach(([layer, dy], i) => {
    const dx = wantsNormed ? { dx: d.normed, accumulate: i > 0 } : {};
    linearBackward(gpu, layer, { ...how, x: normed, dy, ...dx });
  });
  if (wantsNormed) normBackward(pass, block.input_layernorm, x, rstd1);
}

function normBackward(pass: BlockPass, w: Parameter, x: Tensor, rstd: Tensor): void {
  const { gpu, activations, batch } = pass;
  const { normed: dy, residual: dx } = activations.backward!;
  const dw = w.trained?.grad;
  rmsnormBackward(gpu, { dy, x, w: w.value, rstd, dx, dw, rows: batch.tokens });
}
