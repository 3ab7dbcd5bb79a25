/**
 * One Llama block, forward and backward:
 *
 *     middle = x + Wo·attention(rope(Wq·n), rope(Wk·n), Wv·n)      n = rmsnorm(x)
 *     y      = middle + Wdown·(silu(Wgate·m)·(Wup·m))              m = rmsnorm(middle)
 *
 * Projections of the same input are one product. A projection back to the residual stream leaves partial
 * sums, which one launch adds to the stream and norms for what comes next. Norm outputs and
 * silu(gate)·up are not kept for backward: making them again costs one pass over memory. What is kept,
 * and whether the block runs again before its backward, is the plan's business.
 *
 * Source: Touvron et al., "Llama 2: Open Foundation and Fine-Tuned Chat Models", 2023.
 *
 * @module
 */
import { attention, attentionBackward } from "../../kernels/ops/attention/attention.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Partials } from "../../kernels/ops/matmul/partials.ts";
import { addPartials, rmsnorm, rmsnormBackward } from "../../kernels/ops/norm/rmsnorm.ts";
import { rope } from "../../kernels/ops/rope/rope.ts";
import { swiglu, swigluBackward } from "../../kernels/ops/activation/swiglu.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import type { Activations, GroupName } from "./activations.ts";
import type { BatchTensors } from "./batch.ts";
import type { LlamaConfig } from "../families/config.ts";
import {
  linear,
  linearBackward,
  linearBackwardPartials,
  linearPartials,
  projectDown,
} from "./linear.ts";
import {
  type DropoutState,
  type LinearGroup,
  type LinearPass,
  readsInput,
} from "./linear_group.ts";
import type { Parameter } from "./parameters.ts";

/** The parameters of one block. */
export interface Block {
  input_layernorm: Parameter;
  /** q_proj, k_proj, v_proj. */
  qkv: LinearGroup;
  o: LinearGroup;
  post_attention_layernorm: Parameter;
  /** gate_proj, up_proj. */
  gateUp: LinearGroup;
  down: LinearGroup;
}

/** Keys and values of earlier tokens of one block `[rows, kv_heads·head_dim]`. */
export interface CachedBlock {
  k: Tensor;
  v: Tensor;
}

/**
 * How a pass uses the KV cache: its keys and values are appended at the batch's `cacheRows`, and the
 * batch's `starts` and `ends` are rows of the cache.
 */
export interface CachePass {
  blocks: readonly CachedBlock[];
  /** Most keys of a query where the rows are each the next token of a sequence; else absent. */
  longest?: number;
}

/** What every block of a pass shares. */
export interface BlockPass {
  gpu: Gpu;
  config: LlamaConfig;
  activations: Activations;
  batch: BatchTensors;
  ropeTable: Tensor;
  dropout: DropoutState;
  /** Operands of products may be rounded to f16; see kernels/matmul.ts. */
  half: boolean;
  cache?: CachePass;
}

/** A norm of a later block whose input is the output of this one. */
export interface NextNorm {
  w: Parameter;
  rstd: Tensor;
}

/** The norm at the start of block `index`. */
export function inputNorm({ activations }: BlockPass, block: Block, index: number): NextNorm {
  return {
    w: block.input_layernorm,
    rstd: activations.inner[activations.plan.inner[index]].rstd1,
  };
}

/** Working memory for what only products read: f16 where they would round it. */
export function operand({ half }: BlockPass, tensor: Tensor): Tensor {
  return half ? tensor.as("f16") : tensor;
}

/** The norm of x, in working memory. */
export function norm(pass: BlockPass, { w, rstd }: NextNorm, x: Tensor): Tensor {
  const { gpu, config, activations, batch } = pass;
  const y = operand(pass, activations.forward.normed);
  rmsnorm(gpu, { x, w: w.value, y, rstd, rows: batch.tokens, eps: config.rms_norm_eps });
  return y;
}

/** y = x + a projection to the residual stream, and the norm of it that comes next. */
export function project(
  pass: BlockPass,
  group: LinearGroup,
  { input, low, x, y, next, rows = pass.batch.tokens }: {
    input: Tensor;
    low?: Tensor;
    x: Tensor;
    y: Tensor;
    next?: NextNorm;
    rows?: number;
  },
): void {
  const { gpu, config, activations: { forward } } = pass;
  const d = linearPartials(gpu, group, input, {
    ...linearPass(pass, rows),
    low,
    whole: forward.projected,
  });
  addPartials(gpu, {
    x,
    d,
    y,
    rows,
    norm: next &&
      {
        w: next.w.value,
        n: operand(pass, forward.normed),
        rstd: next.rstd,
        eps: config.rms_norm_eps,
      },
  });
}

/** What a group of linear layers is told of the pass. */
export function linearPass(
  { batch, dropout, half, activations }: BlockPass,
  rows = batch.tokens,
): LinearPass {
  return { rows, dropout, half, dora: activations.forward.dora };
}

/** Queries, keys and values of a joined tensor. */
function heads({ config }: BlockPass, tensor: Tensor) {
  const queries = config.num_attention_heads * config.head_dim;
  const keys = config.num_key_value_heads * config.head_dim;
  return {
    q: { tensor, from: 0 },
    k: { tensor, from: queries },
    v: { tensor, from: queries + keys },
  };
}

/** What attention is told of a pass. */
export interface AttentionSizes {
  rows: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  starts: Tensor;
  ends: Tensor;
  excludedKeys?: Tensor;
  pairs?: number;
}

/** What attention is told of this pass. */
export function attentionSizes({ config, batch }: BlockPass): AttentionSizes {
  return {
    rows: batch.tokens,
    heads: config.num_attention_heads,
    kvHeads: config.num_key_value_heads,
    headDim: config.head_dim,
    starts: batch.starts,
    ends: batch.ends,
    excludedKeys: batch.excludedKeys,
    pairs: batch.pairs,
  };
}

/** From the normed input to attention's output, which is kept where the plan says. */
function attend(pass: BlockPass, block: Block, index: number, n: Tensor): Tensor {
  const { gpu, config, activations, batch } = pass;
  const { qkv, out, lse, low } = activations.attention[activations.plan.attention[index]];
  linear(gpu, block.qkv, n, qkv, { ...linearPass(pass), low });
  rope(gpu, {
    x: qkv,
    table: pass.ropeTable,
    positions: batch.positions,
    rows: batch.tokens,
    headDim: config.head_dim,
    heads: config.num_attention_heads + config.num_key_value_heads,
  });
  attention(gpu, {
    ...heads(pass, qkv),
    out,
    lse,
    ...attentionSizes(pass),
    f16Sums: pass.half,
  });
  return out;
}

/**
 * Runs block `index` on the residual stream `x`. Without `y` it stops once everything that its
 * backward needs is there, which is all that recomputation asks for.
 *
 * @param streams `normed`: the block before has made the norm of x already. `next`: the norm to make of y.
 */
export function blockForward(
  pass: BlockPass,
  block: Block,
  index: number,
  { x, y, normed, next }: { x: Tensor; y?: Tensor; normed: boolean; next?: NextNorm },
): void {
  const { gpu, activations, batch: { tokens: rows } } = pass;
  const { normed: n, product } = activations.forward;
  const { middle, rstd2, gateUp, low } = activations.inner[activations.plan.inner[index]];
  if (!normed) norm(pass, inputNorm(pass, block, index), x);
  project(pass, block.o, {
    input: attend(pass, block, index, n),
    low: low.o,
    x,
    y: middle!,
    next: { w: block.post_attention_layernorm, rstd: rstd2 },
  });
  linear(gpu, block.gateUp, n, gateUp, { ...linearPass(pass), low: low.gateUp });
  const ends = y === undefined;
  if (ends && block.down.lora === undefined) return;
  swiglu(gpu, { gateUp, y: product, rows });
  if (ends) return projectDown(gpu, block.down, product, { ...linearPass(pass), low: low.down });
  project(pass, block.down, { input: product, low: low.down, x: middle!, y, next });
}

/**
 * Turns the gradient of the block's output, in the backward workspace's `residual` (and `rounded`, see
 * {@linkcode roundedResidual}), into that of its input `x`, and adds the gradients of what is trained. Without `inputGradient` it stops when the
 * latter is done and leaves `residual` undefined: nothing below is trained.
 */
export function blockBackward(
  pass: BlockPass,
  block: Block,
  index: number,
  { x, inputGradient }: { x: Tensor; inputGradient: boolean },
): void {
  const { gpu, activations, batch } = pass, rows = batch.tokens;
  const { plan, forward: { normed, product } } = activations;
  const d = activations.backward!;
  const inner = activations.inner[plan.inner[index]];
  const { middle, gateUp } = inner;
  const postNorm = { w: block.post_attention_layernorm, rstd: inner.rstd2 };
  const gradients = (group: GroupName, low = inner.low[group]) => ({
    ...linearPass(pass),
    low,
    lowGrad: d.low,
    whole: d.normed,
  });
  const stream = { dy: d.residual, dyRounded: roundedResidual(pass) };

  if (readsInput(block.down)) swiglu(gpu, { gateUp, y: product, rows });
  linearBackward(gpu, block.down, {
    ...gradients("down"),
    x: product,
    ...stream,
    dx: d.product,
  });
  swigluBackward(gpu, { dy: d.product, gateUp, rows });
  if (readsInput(block.gateUp)) norm(pass, postNorm, middle!);
  normBackward(
    pass,
    postNorm,
    middle!,
    linearBackwardPartials(gpu, block.gateUp, {
      ...gradients("gateUp"),
      x: normed,
      dy: gateUp,
    }),
  );

  const preNorm = inputNorm(pass, block, index);
  if (plan.recomputeAttention) attend(pass, block, index, norm(pass, preNorm, x));
  const { qkv, out, lse, low } = activations.attention[plan.attention[index]];
  linearBackward(gpu, block.o, { ...gradients("o"), x: out, ...stream, dx: d.out });
  const { q: dq, k: dk, v: dv } = heads(pass, d.qkv);
  attentionBackward(gpu, {
    ...heads(pass, qkv),
    out,
    dout: d.out,
    lse: lse!,
    dq,
    dk,
    dv,
    ...attentionSizes(pass),
    f16Sums: pass.half,
    queryEnds: batch.queryEnds,
    rotation: { table: pass.ropeTable, positions: batch.positions },
  });
  if (readsInput(block.qkv)) norm(pass, preNorm, x);
  const sides = { ...gradients("qkv", low), x: normed, dy: d.qkv };
  if (inputGradient || block.input_layernorm.trained !== undefined) {
    normBackward(pass, preNorm, x, linearBackwardPartials(gpu, block.qkv, sides));
  } else {
    linearBackward(gpu, block.qkv, sides);
  }
}

/** The residual stream's gradient in f16, where products round it. */
export function roundedResidual({ half, activations }: BlockPass): Tensor | undefined {
  return half ? activations.backward!.rounded : undefined;
}

function normBackward(pass: BlockPass, { w, rstd }: NextNorm, x: Tensor, dy: Partials): void {
  const { gpu, activations, batch } = pass;
  const dx = activations.backward!.residual, rounded = roundedResidual(pass);
  const dw = w.trained?.grad;
  rmsnormBackward(gpu, { dy, x, w: w.value, rstd, dx, rounded, dw, rows: batch.tokens });
}
