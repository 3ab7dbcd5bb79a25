/**
 * The buffers of a pass: activations that the plan keeps, and working memory that the blocks share. Training and
 * inference have sets of their own. T is the most tokens of a micro-batch.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { type Category, type Memory, overlay } from "../../kernels/gpu/memory.ts";
import type { Dtype, Tensor } from "../../kernels/gpu/tensor.ts";
import {
  type DecodeWorkspace,
  mostSplits,
} from "../../kernels/ops/attention/decode/attention_decode.ts";
import type { Float } from "../../kernels/ops/numerics.ts";
import type { PackedName } from "../families/linear_modules.ts";
import type { ArchSpec } from "../families/spec.ts";
import type { ActivationPlan } from "./checkpointing.ts";
import type { DoraWorkspace } from "./packed_linear.ts";
import type { Decoding } from "./modes.ts";

/** A norm's input and 1/rms, where backward can't make them again. */
export interface NormInput {
  input: Tensor;
  rstd: Tensor;
}

/** What both modes have of attention. */
export interface AttentionActivations {
  /** Queries, keys and values side by side `[T, (heads + 2 kv_heads) · head_dim]`. */
  qkv: Tensor;
  out: Tensor;
  /** dropout(x)·Aᵀ of the adapters of q, k and v. */
  loraHidden?: Tensor;
}

/** What attention's backward reads. */
export interface TrainedAttention extends AttentionActivations {
  /** Log-sum-exp of the scores `[T, heads]` f32. */
  lse: Tensor;
  /** Queries and keys before their norm; absent where they have none. */
  qkNorm?: NormInput;
}

/** What both modes have of the rest of a block. */
export interface InnerActivations {
  /** 1/rms of the norms before attention and MLP `[T]` f32. */
  rstdAttention: Tensor;
  rstdMlp: Tensor;
  /** Gate and up side by side `[T, 2 intermediate]`; backward puts their gradient there. */
  gateUp: Tensor;
  /** dropout(x)·Aᵀ of the adapters of the other packed layers. */
  loraHidden: Partial<Record<PackedName, Tensor>>;
}

/** What the rest of a block's backward reads. */
export interface TrainedInner extends InnerActivations {
  /** Residual stream between attention and MLP `[T, hidden]` f32. */
  residualMid: Tensor;
  /** Inputs of the norms after attention and MLP; absent where the block has none. */
  postAttention?: NormInput;
  postMlp?: NormInput;
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
}

/** Working memory of the backward pass. */
export interface BackwardWorkspace {
  /** Gradient of the residual stream `[T, hidden]` f32. */
  residual: Tensor;
  /** The same in f16, for products that round it; absent in f32, and where there is no room. */
  rounded?: Tensor;
  /** Gradient of a block's addend, where it is not that of the residual stream `[T, hidden]` f32. */
  branch?: Tensor;
  /** Gradient of a norm's output `[T, hidden]` f32, where it can't stay partial sums. */
  normed?: Tensor;
  product: Tensor;
  out: Tensor;
  qkv: Tensor;
  /** Gradient of dropout(x)·Aᵀ, for the packed layer with most adapters. */
  loraHidden?: Tensor;
}

/** All buffers of training. */
export interface TrainActivations {
  readonly kind: "train";
  plan: ActivationPlan;
  residual: Tensor[];
  attention: TrainedAttention[];
  inner: TrainedInner[];
  forward: ForwardWorkspace;
  backward: BackwardWorkspace;
}

/** Keys and values of one block `[rows, kv_heads·head_dim]`. */
export interface BlockKeys {
  k: Tensor;
  v: Tensor;
}

/** All buffers of passes that no backward follows: every block works in the same ones. */
export interface InferActivations {
  readonly kind: "infer";
  residual: Tensor;
  attention: AttentionActivations;
  inner: InnerActivations;
  forward: ForwardWorkspace;
  /** Rotated keys and values as a cache holds them, for passes without one; null where there is always one. */
  keys: BlockKeys | null;
  /** Attention's output at the output rows; null where all rows go through the last block. */
  outputRows: Tensor | null;
}

/** What sizes the buffers. */
export interface ActivationSizes {
  tokens: number;
  dtype: Dtype;
  /** Columns of dropout(x)·Aᵀ of each packed layer; 0 without adapters. */
  loraWidths: Record<PackedName, number>;
  /** Whether a block's projections have to be whole before they are added to the residual stream. */
  projected: boolean;
  /** Whether a norm or a factor comes between a projection and the residual stream. */
  branched: boolean;
  /** Whether the weights of every packed layer are one matrix in memory, and none has DoRA. */
  contiguous: boolean;
  /** Widest input and output of a packed layer with DoRA; 0 without. */
  dora: { input: number; output: number };
}

/** WebGPU's limit of workgroups in one dimension, for kernels with a workgroup for each row. */
const MOST_TOKENS = 65535;

/** Functions that allocate the buffers of one model. @throws {UserError} where a pass has too many tokens. */
function makers(memory: Memory, spec: ArchSpec, sizes: ActivationSizes) {
  const { tokens: T, dtype, loraWidths, projected, dora } = sizes;
  if (T > MOST_TOKENS) {
    throw new UserError(
      `a pass over ${T} tokens exceeds the ${MOST_TOKENS} that kernels take; expected fewer ` +
        "(a smaller micro-batch, shorter samples or prompts)",
    );
  }
  const { hidden_size: H, intermediate_size: I, num_attention_heads: heads, head_dim } = spec;
  const queries = heads * head_dim, keys = spec.num_key_value_heads * head_dim;
  const maker = (category: Category) => (name: string, width: number, d: Dtype = dtype) =>
    memory.tensor(category, name, d, [T, width]);
  const keep = maker("activation"), work = maker("workspace");
  const keepLoraHidden = (name: PackedName) =>
    loraWidths[name] > 0 ? keep(`${name}_lora_hidden`, loraWidths[name], "f32") : undefined;
  return {
    H,
    I,
    queries,
    keys,
    keep,
    work,
    residual: () => keep("residual", H, "f32"),
    qkv: () => keep("qkv", queries + 2 * keys),
    out: () => keep("attention_out", queries),
    qkvLoraHidden: () => keepLoraHidden("qkv"),
    rstd: (name: string) => keep(name, 1, "f32"),
    gateUp: () => keep("gate_up", 2 * I),
    innerLoraHidden: () => ({
      o: keepLoraHidden("o"),
      gateUp: keepLoraHidden("gateUp"),
      down: keepLoraHidden("down"),
    }),
    forward: (normed: Tensor, product: Tensor): ForwardWorkspace => ({
      normed,
      projected: projected ? work("projected", H, "f32") : undefined,
      product,
      dora: dora.output === 0 ? undefined : {
        z: work("dora_z", dora.output),
        input: work("dora_input", dora.input),
      },
    }),
  };
}

const repeat = <X>(count: number, make: () => X) => Array.from({ length: count }, make);

/** Allocates the buffers of training by a plan. @throws {UserError} where a pass has too many tokens. */
export function trainActivations(
  memory: Memory,
  spec: ArchSpec,
  plan: ActivationPlan,
  sizes: ActivationSizes,
): TrainActivations {
  const { tokens: T, dtype, loraWidths, branched, contiguous } = sizes;
  const make = makers(memory, spec, sizes), { H, I, queries, keys, keep, work } = make;
  const heads = spec.num_attention_heads, kvHeads = spec.num_key_value_heads;
  const widestLora = Math.max(...Object.values(loraWidths));
  const residual = repeat(plan.counts.residual, make.residual);
  const normed = work("normed", H), product = work("product", I);
  const qkvGrad = work("qkv_grad", queries + 2 * keys);
  const outGrad = { name: "attention_out_grad", dtype, shape: [T, queries] };
  const normInput = (name: string | undefined, width: number, groups: number, d: Dtype) =>
    name === undefined ? undefined : {
      input: keep(`${name}_input`, width, d),
      rstd: keep(`${name}_rstd`, groups, "f32"),
    };
  const { norms, qkNorm } = spec;
  return {
    kind: "train",
    plan,
    residual,
    attention: repeat(plan.counts.attention, () => ({
      qkv: make.qkv(),
      out: make.out(),
      lse: keep("lse", heads, "f32"),
      loraHidden: make.qkvLoraHidden(),
      qkNorm: normInput(qkNorm?.q, queries + keys, heads + kvHeads, dtype),
    })),
    inner: repeat(plan.counts.inner, () => ({
      rstdAttention: make.rstd("rstd_attention"),
      rstdMlp: make.rstd("rstd_mlp"),
      residualMid: keep("residual_mid", H, "f32"),
      gateUp: make.gateUp(),
      loraHidden: make.innerLoraHidden(),
      postAttention: normInput(norms.postAttention, H, 1, "f32"),
      postMlp: normInput(norms.postMlp, H, 1, "f32"),
    })),
    forward: make.forward(normed, product),
    backward: {
      // The last residual is not read after the loss.
      residual: residual[plan.residual[plan.residual.length - 1]],
      // Attention's gradient is not in use while the residual stream's is multiplied.
      rounded: dtype === "f16"
        ? overlay(qkvGrad, { name: "residual_grad_rounded", dtype, shape: [T, H] })
        : undefined,
      branch: branched ? work("branch_grad", H, "f32") : undefined,
      normed: contiguous ? undefined : work("normed_grad", H, "f32"),
      product: work("product_grad", I),
      // Between the two norms' backward passes no norm's output is in use.
      out: overlay(normed, outGrad) ?? work(outGrad.name, queries),
      qkv: qkvGrad,
      loraHidden: widestLora > 0 ? work("lora_hidden_grad", widestLora, "f32") : undefined,
    },
  };
}

/**
 * Allocates the buffers of passes that no backward follows.
 *
 * @param keyDtype Element type of keys and values, which are as a cache holds them.
 * @throws {UserError} where a pass has too many tokens.
 */
export function inferActivations(
  memory: Memory,
  spec: ArchSpec,
  sizes: ActivationSizes,
  keyDtype: Float,
): InferActivations {
  const make = makers(memory, spec, sizes), { H, I, queries, keys, work } = make;
  const residual = make.residual(), normed = work("normed", H), product = work("product", I);
  const outputRows = { name: "output_rows", dtype: sizes.dtype, shape: [sizes.tokens, queries] };
  return {
    kind: "infer",
    residual,
    attention: { qkv: make.qkv(), out: make.out(), loraHidden: make.qkvLoraHidden() },
    inner: {
      rstdAttention: make.rstd("rstd_attention"),
      rstdMlp: make.rstd("rstd_mlp"),
      gateUp: make.gateUp(),
      loraHidden: make.innerLoraHidden(),
    },
    forward: make.forward(normed, product),
    keys: { k: work("k", keys, keyDtype), v: work("v", keys, keyDtype) },
    // It is not in use any more once the product is written.
    outputRows: overlay(product, outputRows) ?? work(outputRows.name, queries),
  };
}

/** Training's buffers for passes over a cache, between steps. */
export function asInference(
  { plan, residual, attention: [attention], inner: [inner], forward }: TrainActivations,
): InferActivations {
  const last = residual[plan.residual[plan.residual.length - 1]];
  return { kind: "infer", residual: last, attention, inner, forward, keys: null, outputRows: null };
}

/** Working memory of attention while sequences are decoded. */
export function decodeWorkspace(
  memory: Memory,
  { num_attention_heads: heads, head_dim }: ArchSpec,
  { sequences, context }: Decoding,
): DecodeWorkspace {
  const splits = sequences * mostSplits(context) * heads;
  return {
    partialOut: memory.tensor("workspace", "decode_partial_out", "f32", [splits * head_dim]),
    softmaxStats: memory.tensor("workspace", "decode_softmax_stats", "f32", [splits * 2]),
  };
}
