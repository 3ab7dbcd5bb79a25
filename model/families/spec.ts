/**
 * What a model computes, as data: every family's `config.json` becomes an {@linkcode ArchSpec}, and the
 * transformer reads nothing else.
 *
 *     x      = embedding_multiplier · embedding
 *     x      = x + residual_multiplier · post_attention(Wo·attention(q, k, v))    of n = pre_attention(x)
 *     x      = x + residual_multiplier · post_mlp(Wdown·(f(Wgate·n) · (Wup·n)))   of n = pre_mlp(x)
 *     logits = cap(logits_multiplier · W·final(x))
 *
 * f is the `activation`. A soft cap is cap(x) = c · tanh(x/c), and the identity where it is null; attention's scores
 * have one by layer. A norm multiplies by its weight plus `norm.offset`.
 *
 * Each norm stands where the specification names one, and is the identity where it doesn't. q and k are normed
 * (`qk`) before they are rotated, and q may grow with its position.
 *
 * @module
 */
import type { Activation } from "../../kernels/ops/activation/swiglu.ts";
import type { Growth } from "../../kernels/ops/elements/growth.ts";
import type { NormKind } from "../../kernels/ops/norm/rmsnorm.ts";
import type { RopeScaling } from "../../kernels/ops/rope/frequencies.ts";
import type { Rotary } from "../../kernels/ops/rope/rotary.ts";
import { type LinearLayers, type LinearModule, submoduleOf } from "./linear_modules.ts";

/** Rotary position embedding of a layer. */
export interface RopeSpec {
  /** Base of the frequencies. */
  readonly theta: number;
  readonly scaling: RopeScaling | null;
  /** The context that the model was trained on, which `dynamic` scaling starts from. */
  readonly trainedPositions: number;
  /** Which elements of a head are rotated, and which of them are pairs. */
  readonly rotary: Rotary;
}

/** What differs from layer to layer. */
export interface LayerSpec {
  /** Keys that a query attends to, its own included (sliding window); null where it is all of them. */
  readonly window: number | null;
  /** Null where positions are not encoded (NoPE). */
  readonly rope: RopeSpec | null;
  /** What the scores q·k are multiplied by; 1/√head_dim as a rule. */
  readonly scale: number;
  /** What these are then capped to (softcap); null where they are not. */
  readonly softcap: number | null;
}

/** Where a block has a norm: before and after attention, before and after the MLP. */
export type NormPlace = "preAttention" | "postAttention" | "preMlp" | "postMlp";

/** The norm of queries and of keys before they are rotated. */
export interface QkNormSpec {
  /** What one norm is over: each `head`, or all heads of the token (`row`). */
  readonly over: "head" | "row";
  /** Names of the modules in a block. */
  readonly q: string;
  readonly k: string;
}

/** What a model computes. Sizes have the names of Hugging Face's `config.json`. */
export interface ArchSpec {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly tie_word_embeddings: boolean;
  /** Every RMSNorm: its ε, and what is added to its weight (1 where weights are kept as their distance from one). */
  readonly norm: NormKind;
  /** The activation of the gate in a block's MLP. */
  readonly activation: Activation;
  /** The blocks in order. */
  readonly layers: readonly LayerSpec[];
  /** Name of the norm's module in a block, by place; absent where the block has none there. */
  readonly norms: Readonly<Partial<Record<NormPlace, string>>>;
  readonly qkNorm: QkNormSpec | null;
  /** How queries then grow with their positions; null where they don't. */
  readonly queryGrowth: Growth | null;
  /** The linear layers of a block. */
  readonly linears: LinearLayers;
  /** Those that have biases. */
  readonly biases: ReadonlySet<LinearModule>;
  /** What the embedding, what a block adds to the residual stream, and the logits are multiplied by. */
  readonly embedding_multiplier: number;
  readonly residual_multiplier: number;
  readonly logits_multiplier: number;
  /** What the logits are then capped to; null where they are not. */
  readonly logits_softcap: number | null;
  /** Most tokens of a text that all of this is said of; null where it is so of any text. */
  readonly longestText: number | null;
}

/** `[out, in]` of the linear layers that blocks have. */
function linearShapes(spec: ArchSpec): Record<LinearModule, [out: number, input: number]> {
  const { hidden_size: hidden, intermediate_size: inner } = spec;
  const queries = spec.num_attention_heads * spec.head_dim;
  const keys = spec.num_key_value_heads * spec.head_dim;
  return {
    q_proj: [queries, hidden],
    k_proj: [keys, hidden],
    v_proj: [keys, hidden],
    qkv_proj: [queries + 2 * keys, hidden],
    o_proj: [hidden, queries],
    gate_proj: [inner, hidden],
    up_proj: [inner, hidden],
    gate_up_proj: [2 * inner, hidden],
    down_proj: [hidden, inner],
  };
}

/** The weights of one block in load order, by name within the block. */
function blockShapes(spec: ArchSpec): [name: string, shape: number[]][] {
  const { hidden_size: hidden, head_dim, norms, qkNorm, linears, biases } = spec;
  const linear = linearShapes(spec);
  const normed = (name: string | undefined, width: number): [string, number[]][] =>
    name === undefined ? [] : [[`${name}.weight`, [width]]];
  const layer = (module: LinearModule): [string, number[]][] => {
    const name = `${submoduleOf(module)}.${module}`, shape = linear[module];
    const bias: [string, number[]][] = biases.has(module) ? [[`${name}.bias`, [shape[0]]]] : [];
    return [[`${name}.weight`, shape], ...bias];
  };
  const qkWidth = (module: "q_proj" | "k_proj") =>
    qkNorm?.over === "row" ? linear[module][0] : head_dim;
  return [
    ...normed(norms.preAttention, hidden),
    ...linears.qkv.flatMap(layer),
    ...linears.o.flatMap(layer),
    ...normed(qkNorm?.q, qkWidth("q_proj")),
    ...normed(qkNorm?.k, qkWidth("k_proj")),
    ...normed(norms.postAttention, hidden),
    ...normed(norms.preMlp, hidden),
    ...linears.gateUp.flatMap(layer),
    ...linears.down.flatMap(layer),
    ...normed(norms.postMlp, hidden),
  ];
}

/**
 * Every weight of a model in load order, with its shape: `[out, in]` for matrices, `[width]` for
 * norms, `[out]` for biases, each after its matrix. Names are Hugging Face's. `lm_head.weight` is absent
 * where the embedding is tied.
 */
export function specShapes(spec: ArchSpec): Map<string, number[]> {
  const { hidden_size: hidden, vocab_size: vocab, layers } = spec;
  const shapes = new Map<string, number[]>([["model.embed_tokens.weight", [vocab, hidden]]]);
  const block = blockShapes(spec);
  for (const layer of layers.keys()) {
    for (const [name, shape] of block) shapes.set(`model.layers.${layer}.${name}`, [...shape]);
  }
  shapes.set("model.norm.weight", [hidden]);
  if (!spec.tie_word_embeddings) shapes.set("lm_head.weight", [vocab, hidden]);
  return shapes;
}
