/**
 * The buffers of a pass: kept activations, where the plan says, and working memory that every block
 * uses in turn. T is the most tokens of a micro-batch.
 *
 * @module
 */
import {
  type DecodeWorkspace,
  mostSplits,
} from "../../kernels/ops/attention/decode/attention_decode.ts";
import { UserError } from "../../kernels/errors.ts";
import { type Category, type Memory, overlay } from "../../kernels/gpu/memory.ts";
import type { Dtype, Tensor } from "../../kernels/gpu/tensor.ts";
import type { LlamaConfig } from "../families/config.ts";
import type { DoraWorkspace } from "./linear_group.ts";
import type { ActivationPlan } from "./checkpointing.ts";

/** The groups of linear layers in a block, each with one input. */
export type GroupName = "qkv" | "o" | "gateUp" | "down";

/** What attention's backward reads. */
export interface AttentionActivations {
  /** Queries, keys and values side by side `[T, (heads + 2 kv_heads) · head_dim]`. */
  qkv: Tensor;
  out: Tensor;
  /** Log-sum-exp of the scores `[T, heads]` f32; absent without backward. */
  lse?: Tensor;
  /** dropout(x)·Aᵀ of the adapters of q, k and v. */
  low?: Tensor;
}

/** What the rest of a block's backward reads. */
export interface InnerActivations {
  /** 1/rms of both norms `[T]` f32. */
  rstd1: Tensor;
  rstd2: Tensor;
  /** Residual stream between attention and MLP `[T, hidden]` f32; absent without backward. */
  middle?: Tensor;
  /** Gate and up side by side `[T, 2 intermediate]`; backward puts their gradient there. */
  gateUp: Tensor;
  /** dropout(x)·Aᵀ of the adapters of the other groups, by group. */
  low: Partial<Record<GroupName, Tensor>>;
}

/** Working memory of the forward pass. */
export interface ForwardWorkspace {
  /** A norm's output `[T, hidden]`. */
  normed: Tensor;
  /** A projection back to the residual stream `[T, hidden]` f32, where it can't stay partial sums. */
  projected?: Tensor;
  /** silu(gate)·up `[T, intermediate]`. */
  product: Tensor;
  /** Working memory of DoRA, for both passes; absent without. */
  dora?: DoraWorkspace;
  /** Turned keys and values as a cache holds them `[T, kv_heads · head_dim]`; absent with backward. */
  kv?: { k: Tensor; v: Tensor };
  /** Attention's output at the rows that logits are wanted of; absent with backward. */
  wantedOut?: Tensor;
}

/** Working memory of the backward pass. */
export interface BackwardWorkspace {
  /** Gradient of the residual stream `[T, hidden]` f32. */
  residual: Tensor;
  /** That rounded to f16, for products that take no more of it; absent in f32, and where there is no room. */
  rounded?: Tensor;
  /** Gradient of a norm's output `[T, hidden]` f32, where it can't stay partial sums. */
  normed?: Tensor;
  product: Tensor;
  out: Tensor;
  qkv: Tensor;
  /** Gradient of dropout(x)·Aᵀ, for the group with most adapters. */
  low?: Tensor;
}

/** All buffers of a model's passes. */
export interface Activations {
  plan: ActivationPlan;
  residual: Tensor[];
  attention: AttentionActivations[];
  inner: InnerActivations[];
  forward: ForwardWorkspace;
  backward?: BackwardWorkspace;
  decode?: DecodeWorkspace;
}

/** What sizes the buffers. */
export interface ActivationSizes {
  tokens: number;
  dtype: Dtype;
  /** Of keys and values, where they are apart. */
  kvDtype: Dtype;
  /** Whether a backward pass follows. */
  backward: boolean;
  /** Columns of dropout(x)·Aᵀ of each group of layers; 0 without adapters. */
  low: Record<GroupName, number>;
  /** Whether a projection to the residual stream has a bias or an adapter. */
  projected: boolean;
  /** Whether all weights of a group lie side by side, and none has DoRA. */
  stacked: boolean;
  /** Widest input and output of a group with DoRA; 0 without. */
  dora: { input: number; output: number };
  /** Sequences decoded at once and the most keys of each; absent where nothing is decoded. */
  decode?: { sequences: number; longest: number };
}

/** Kernels that give a row a workgroup can't be given more in one dispatch. */
const MOST_TOKENS = 65535;

/** Allocates the buffers of a plan. @throws {UserError} where a pass has too many tokens. */
export function allocateActivations(
  memory: Memory,
  config: LlamaConfig,
  plan: ActivationPlan,
  { tokens: T, dtype, kvDtype, backward, low, projected, stacked, dora, decode }: ActivationSizes,
): Activations {
  if (T > MOST_TOKENS) {
    throw new UserError(
      `a pass over ${T} tokens exceeds the ${MOST_TOKENS} that kernels take; expected fewer ` +
        "(a smaller micro-batch, shorter samples or prompts)",
    );
  }
  const { hidden_size: H, intermediate_size: I, head_dim } = config;
  const heads = config.num_attention_heads;
  const queries = heads * head_dim, keys = config.num_key_value_heads * head_dim;
  const maker = (category: Category) => (name: string, width: number, d: Dtype = dtype) =>
    memory.tensor(category, name, d, [T, width]);
  const keep = maker("activation"), work = maker("workspace");
  const keepLow = (name: GroupName) =>
    low[name] > 0 ? keep(`${name}_low`, low[name], "f32") : undefined;
  const repeat = <X>(count: number, make: () => X) => Array.from({ length: count }, make);
  const mostLow = Math.max(...Object.values(low));
  const residual = repeat(plan.counts.residual, () => keep("residual", H, "f32"));
  const normed = work("normed", H);
  const product = work("product", I);
  const wantedOut = { name: "wanted_out", dtype, shape: [T, queries] };
  const qkvGrad = backward ? work("qkv_grad", queries + 2 * keys) : undefined;
  const outGrad = { name: "attention_out_grad", dtype, shape: [T, queries] };
  return {
    plan,
    residual,
    attention: repeat(plan.counts.attention, () => ({
      qkv: keep("qkv", queries + 2 * keys),
      out: keep("attention_out", queries),
      lse: backward ? keep("lse", heads, "f32") : undefined,
      low: keepLow("qkv"),
    })),
    inner: repeat(plan.counts.inner, () => ({
      rstd1: keep("rstd1", 1, "f32"),
      rstd2: keep("rstd2", 1, "f32"),
      middle: backward ? keep("middle", H, "f32") : undefined,
      gateUp: keep("gate_up", 2 * I),
      low: { o: keepLow("o"), gateUp: keepLow("gateUp"), down: keepLow("down") },
    })),
    forward: {
      normed,
      projected: projected ? work("projected", H, "f32") : undefined,
      product,
      dora: dora.output === 0 ? undefined : {
        z: work("dora_z", dora.output),
        input: work("dora_input", dora.input),
      },
      kv: backward ? undefined : { k: work("k", keys, kvDtype), v: work("v", keys, kvDtype) },
      // It has been multiplied by the time that there is a product.
      wantedOut: backward ? undefined : overlay(product, wantedOut) ?? work("wanted_out", queries),
    },
    backward: backward
      ? {
        // Once the loss is known nobody reads the last residual any more.
        residual: residual[plan.residual[plan.residual.length - 1]],
        // Attention's gradient is not there yet, or no more, when the stream's is multiplied.
        rounded: dtype === "f16"
          ? overlay(qkvGrad!, { name: "residual_grad_rounded", dtype, shape: [T, H] })
          : undefined,
        normed: stacked ? undefined : work("normed_grad", H, "f32"),
        product: work("product_grad", I),
        // Between the two norms' backward passes no norm's output is in use.
        out: overlay(normed, outGrad) ?? work(outGrad.name, queries),
        qkv: qkvGrad!,
        low: mostLow > 0 ? work("low_grad", mostLow, "f32") : undefined,
      }
      : undefined,
    decode: decode && decodeWorkspace(memory, config, decode),
  };
}

function decodeWorkspace(
  memory: Memory,
  { num_attention_heads: heads, head_dim }: LlamaConfig,
  { sequences, longest }: { sequences: number; longest: number },
): DecodeWorkspace {
  const splits = sequences * mostSplits(longest) * heads;
  return {
    partialOut: memory.tensor("workspace", "decode_partial_out", "f32", [splits * head_dim]),
    softmaxStats: memory.tensor("workspace", "decode_softmax_stats", "f32", [splits * 2]),
  };
}
