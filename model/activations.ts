/**
 * The buffers of a pass: kept activations, where the plan says, and working memory that every block
 * uses in turn. T is the most tokens of a micro-batch.
 *
 * @module
 */
import { type DecodeWorkspace, mostSplits } from "../kernels/attention_decode.ts";
import { UserError } from "../kernels/errors.ts";
import type { Category, Memory } from "../kernels/memory.ts";
import type { Dtype, Tensor } from "../kernels/tensor.ts";
import type { LlamaConfig } from "./config.ts";
import type { LoraWorkspace } from "./linear.ts";
import { storedShape } from "./parameters.ts";
import type { ActivationPlan } from "./plan.ts";

/** What attention's backward reads. */
export interface AttentionActivations {
  q: Tensor;
  k: Tensor;
  v: Tensor;
  out: Tensor;
  /** Log-sum-exp of the scores `[T, heads]` f32. */
  lse: Tensor;
}

/** What the rest of a block's backward reads. */
export interface InnerActivations {
  /** 1/rms of both norms `[T]` f32. */
  rstd1: Tensor;
  rstd2: Tensor;
  /** Residual stream between attention and MLP `[T, hidden]` f32; absent without backward. */
  middle?: Tensor;
  gate: Tensor;
  up: Tensor;
}

/** Working memory of the forward pass. */
export interface ForwardWorkspace {
  /** A norm's output `[T, hidden]`. */
  normed: Tensor;
  /** A projection back to the residual stream `[T, hidden]`; absent without backward. */
  projected?: Tensor;
  /** silu(gate)·up `[T, intermediate]`. */
  product: Tensor;
}

/** Working memory of the backward pass. */
export interface BackwardWorkspace {
  /** Gradient of the residual stream `[T, hidden]` f32. */
  residual: Tensor;
  normed: Tensor;
  product: Tensor;
  gate: Tensor;
  up: Tensor;
  out: Tensor;
  q: Tensor;
  k: Tensor;
  v: Tensor;
  /** Row sums of dout·out `[T, heads]` f32. */
  delta: Tensor;
}

/** All buffers of a model's passes. */
export interface Activations {
  plan: ActivationPlan;
  residual: Tensor[];
  attention: AttentionActivations[];
  inner: InnerActivations[];
  forward: ForwardWorkspace;
  backward?: BackwardWorkspace;
  lora?: LoraWorkspace;
  decode?: DecodeWorkspace;
}

/** What sizes the buffers. */
export interface ActivationSizes {
  tokens: number;
  dtype: Dtype;
  /** Of keys and values. */
  kvDtype: Dtype;
  /** Whether a backward pass follows. */
  backward: boolean;
  /** Largest rank and input width of the adapters; absent without adapters. */
  lora?: { rank: number; width: number };
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
  { tokens: T, dtype, kvDtype, backward, lora, decode }: ActivationSizes,
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
  const repeat = <X>(count: number, make: () => X) => Array.from({ length: count }, make);
  return {
    plan,
    residual: repeat(plan.counts.residual, () => keep("residual", H, "f32")),
    attention: repeat(plan.counts.attention, () => ({
      q: keep("q", queries),
      k: keep("k", keys, kvDtype),
      v: keep("v", keys, kvDtype),
      out: keep("attention_out", queries),
      lse: keep("lse", heads, "f32"),
    })),
    inner: repeat(plan.counts.inner, () => ({
      rstd1: keep("rstd1", 1, "f32"),
      rstd2: keep("rstd2", 1, "f32"),
      middle: backward ? keep("middle", H, "f32") : undefined,
      gate: keep("gate", I),
      up: keep("up", I),
    })),
    forward: {
      normed: work("normed", H),
      projected: backward ? work("projected", H) : undefined,
      product: work("product", I),
    },
    backward: backward
      ? {
        residual: work("residual_grad", H, "f32"),
        normed: work("normed_grad", H),
        product: work("product_grad", I),
        gate: work("gate_grad", I),
        up: work("up_grad", I),
        out: work("attention_out_grad", queries),
        q: work("q_grad", queries),
        k: work("k_grad", keys),
        v: work("v_grad", keys),
        delta: work("delta", heads, "f32"),
      }
      : undefined,
    lora: lora && {
      low: work("low", storedShape([lora.rank])[0]),
      backward: backward
        ? {
          dropped: work("dropped", lora.width),
          droppedGrad: work("dropped_grad", lora.width),
          lowGrad: work("low_grad", storedShape([lora.rank])[0]),
        }
        : undefined,
    },
    decode: decode && decodeWorkspace(memory, config, decode),
  };
}

function decodeWorkspace(
  memory: Memory,
  { num_attention_heads: heads, head_dim }: LlamaConfig,
  { sequences, longest }: { sequences: number; longest: number },
): DecodeWorkspace {
  const ranges = sequences * mostSplits(longest) * heads;
  return {
    sums: memory.tensor("workspace", "decode_sums", "f32", [ranges * head_dim]),
    tops: memory.tensor("workspace", "decode_tops", "f32", [ranges * 2]),
  };
}
