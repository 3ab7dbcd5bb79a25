/** A Llama and its adapter as the reference (reference.ts) takes them. */
import type { ModelConfig } from "../../model/families/config.ts";
import type { Span } from "../../model/text/targets.ts";

/** The part of the configuration that the computation depends on; RoPE is not scaled here. */
export type ReferenceConfig =
  & Pick<
    ModelConfig,
    | "vocab_size"
    | "hidden_size"
    | "intermediate_size"
    | "num_hidden_layers"
    | "num_attention_heads"
    | "num_key_value_heads"
    | "head_dim"
    | "rms_norm_eps"
    | "rope_theta"
    | "tie_word_embeddings"
  >
  & { sliding_window?: number | null };

/** Ids, and which of them are targets. */
export interface ReferenceSample {
  ids: ArrayLike<number>;
  targets: readonly Span[];
}

/** Flat tensors by Hugging Face's (base weights) or PEFT's (adapter) names. */
export type ReferenceTensors = ReadonlyMap<string, ArrayLike<number>>;

/**
 * An adapter: y = xWᵀ + (alpha / rank) · (mask ⊙ x) Aᵀ Bᵀ on every linear layer it has tensors for; with magnitudes m
 * of a layer, and n the lengths of the rows of W + (alpha / rank) · BA, y = xWᵀ − (mask ⊙ x) Wᵀ + m / n ∘ ((mask ⊙ x) Wᵀ
 * + (alpha / rank) · (mask ⊙ x) Aᵀ Bᵀ), n being a constant in backward (DoRA).
 */
export interface ReferenceLora {
  rank: number;
  alpha: number;
  weights: ReferenceTensors;
  /** n of a layer such as "model.layers.0.self_attn.q_proj", where it is to stay what it was. */
  lengths?: (layer: string) => ArrayLike<number>;
  /**
   * The dropout multipliers [T, in] (0, or 1 / (1 - p)) of a layer such as
   * "model.layers.0.self_attn.q_proj" in micro-batch `batch` of the window; none means no dropout.
   */
  mask?: (layer: string, batch: number) => ArrayLike<number> | undefined;
}

/** Everything one call computes with. */
export interface ReferenceModel {
  config: ReferenceConfig;
  weights: ReferenceTensors;
  lora?: ReferenceLora;
}

/** What a window of micro-batches gives. */
export interface ReferenceWindow {
  /** Of each micro-batch: mean over its samples (`sample`) or over its tokens (`token`). */
  losses: number[];
  /** The loss whose gradients these are. */
  loss: number;
  /** Of every base weight, by name; a tied embedding's includes its part as the output layer. */
  weights: Map<string, Float64Array>;
  /** Of every adapter tensor, by name. */
  lora: Map<string, Float64Array>;
}

export type Vector = ArrayLike<number>;
