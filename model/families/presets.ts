/**
 * The shapes of published models, for runs without their weights.
 *
 * @module
 */

import { UsageError } from "../../kernels/errors.ts";
import { didYouMean } from "../../kernels/suggestion.ts";
import type { ModelConfig } from "./config.ts";

type LlamaConfig = Extract<ModelConfig, { model_type: "llama" | "mistral" }>;

/** A model with the given sizes, and Llama 2's values for everything else. */
function preset(
  sizes:
    & Pick<
      LlamaConfig,
      | "hidden_size"
      | "intermediate_size"
      | "num_hidden_layers"
      | "num_attention_heads"
      | "num_key_value_heads"
      | "max_position_embeddings"
    >
    & Partial<LlamaConfig>,
): LlamaConfig {
  const eos = sizes.eos_token_id ?? 2;
  return {
    model_type: "llama",
    vocab_size: 32000,
    head_dim: sizes.hidden_size / sizes.num_attention_heads,
    hidden_act: "silu",
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    rope_scaling: null,
    sliding_window: null,
    attention_bias: false,
    mlp_bias: false,
    tie_word_embeddings: false,
    bos_token_id: 1,
    eos_token_id: eos,
    eos_token_ids: [eos],
    ...sizes,
  };
}

/** What Llama 3 and its successors share. */
const LLAMA_3 = { vocab_size: 128256, rope_theta: 5e5, bos_token_id: 128000, eos_token_id: 128001 };

/** Made for each call, so that nobody can change what the next one gets. */
const PRESETS: Record<string, () => ModelConfig> = {
  // https://arxiv.org/abs/2307.09288
  "llama2-7b": () =>
    preset({
      hidden_size: 4096,
      intermediate_size: 11008,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: 32,
      max_position_embeddings: 4096,
    }),
  "llama2-13b": () =>
    preset({
      hidden_size: 5120,
      intermediate_size: 13824,
      num_hidden_layers: 40,
      num_attention_heads: 40,
      num_key_value_heads: 40,
      max_position_embeddings: 4096,
    }),
  "llama2-70b": () =>
    preset({
      hidden_size: 8192,
      intermediate_size: 28672,
      num_hidden_layers: 80,
      num_attention_heads: 64,
      num_key_value_heads: 8,
      max_position_embeddings: 4096,
    }),
  // https://arxiv.org/abs/2407.21783
  "llama3-8b": () =>
    preset({
      ...LLAMA_3,
      hidden_size: 4096,
      intermediate_size: 14336,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: 8,
      max_position_embeddings: 8192,
    }),
  "llama3.2-1b": () =>
    preset({
      ...LLAMA_3,
      hidden_size: 2048,
      intermediate_size: 8192,
      num_hidden_layers: 16,
      num_attention_heads: 32,
      num_key_value_heads: 8,
      max_position_embeddings: 131072,
      rope_scaling: {
        type: "llama3",
        factor: 32,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 8192,
      },
      tie_word_embeddings: true,
    }),
  // TinyLlama: https://arxiv.org/abs/2401.02385
  "llama-1b": () =>
    preset({
      hidden_size: 2048,
      intermediate_size: 5632,
      num_hidden_layers: 22,
      num_attention_heads: 32,
      num_key_value_heads: 4,
      max_position_embeddings: 2048,
    }),
  // Version 0.1, the one with a window: https://arxiv.org/abs/2310.06825
  "mistral-7b": () =>
    preset({
      model_type: "mistral",
      hidden_size: 4096,
      intermediate_size: 14336,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: 8,
      max_position_embeddings: 32768,
      sliding_window: 4096,
    }),
  // https://huggingface.co/HuggingFaceTB/SmolLM-135M
  "smollm-135m": () =>
    preset({
      vocab_size: 49152,
      hidden_size: 576,
      intermediate_size: 1536,
      num_hidden_layers: 30,
      num_attention_heads: 9,
      num_key_value_heads: 3,
      max_position_embeddings: 2048,
      tie_word_embeddings: true,
      bos_token_id: 0,
      eos_token_id: 0,
    }),
  tiny: () =>
    preset({
      vocab_size: 512,
      hidden_size: 64,
      intermediate_size: 176,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      max_position_embeddings: 256,
    }),
  // As many blocks as checkpointing needs to show something, small enough for a machine without a GPU.
  "tiny-deep": () =>
    preset({
      vocab_size: 512,
      hidden_size: 64,
      intermediate_size: 176,
      num_hidden_layers: 16,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      max_position_embeddings: 512,
    }),
};

/**
 * The shape of a known model: `llama2-7b`, `llama2-13b`, `llama2-70b`, `llama3-8b`, `llama3.2-1b`,
 * `llama-1b`, `mistral-7b`, `smollm-135m`, `tiny` or `tiny-deep`.
 *
 * @throws {UsageError} that lists them and names the nearest.
 */
export function presetConfig(name: string): ModelConfig {
  const names = Object.keys(PRESETS);
  if (!names.includes(name)) {
    const known = names.join(", ");
    throw new UsageError(
      `unknown model size "${name}", expected one of ${known}${didYouMean(name, names)}`,
    );
  }
  return PRESETS[name]();
}
