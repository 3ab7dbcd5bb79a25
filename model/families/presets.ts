/**
 * The shapes of published models, for runs without their weights.
 *
 * @module
 */

import { UsageError } from "../../kernels/errors.ts";
import { didYouMean } from "../../kernels/suggestion.ts";
import { type ModelConfig, parseConfig } from "./config.ts";

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

/** What a published `config.json` of another family says. */
const published = (model_type: string, json: Record<string, unknown>): ModelConfig =>
  parseConfig({ model_type, ...json }, model_type);

/** What frequencies of Phi-4-mini are divided by in texts of more than 4,096 tokens. */
// deno-fmt-ignore
const PHI_4_MINI_FACTORS = [
  1, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897, 1.956131817, 2.187582649,
  2.446418898, 2.735880826, 3.059592084, 3.421605075, 3.826451687, 4.279200023, 4.785517845, 5.351743533,
  5.984965424, 6.693110555, 7.485043894, 8.370679318, 9.36110372, 10.4687158, 11.70738129, 13.09260651,
  14.64173252, 16.37415215, 18.31155283, 20.47818807, 22.90118105, 25.61086418, 28.64115884, 32.03,
  32.1, 32.13, 32.23, 32.6, 32.61, 32.64, 32.66, 32.7, 32.71, 32.93, 32.97, 33.28, 33.49, 33.5, 44.16, 47.77,
];

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
  // https://arxiv.org/abs/2412.15115
  "qwen2.5-7b": () =>
    published("qwen2", {
      vocab_size: 152064,
      hidden_size: 3584,
      intermediate_size: 18944,
      num_hidden_layers: 28,
      num_attention_heads: 28,
      num_key_value_heads: 4,
      max_position_embeddings: 131072,
      rope_theta: 1e6,
      rms_norm_eps: 1e-6,
      tie_word_embeddings: false,
      bos_token_id: 151643,
      eos_token_id: 151643,
    }),
  // https://arxiv.org/abs/2505.09388
  "qwen3-8b": () =>
    published("qwen3", {
      vocab_size: 151936,
      hidden_size: 4096,
      intermediate_size: 12288,
      num_hidden_layers: 36,
      num_attention_heads: 32,
      num_key_value_heads: 8,
      head_dim: 128,
      max_position_embeddings: 40960,
      rope_theta: 1e6,
      rms_norm_eps: 1e-6,
      tie_word_embeddings: false,
      bos_token_id: 151643,
      eos_token_id: 151645,
    }),
  // The text model: https://arxiv.org/abs/2503.19786
  "gemma3-4b": () =>
    published("gemma3_text", {
      vocab_size: 262208,
      hidden_size: 2560,
      intermediate_size: 10240,
      num_hidden_layers: 34,
      num_attention_heads: 8,
      num_key_value_heads: 4,
      head_dim: 256,
      max_position_embeddings: 131072,
      sliding_window: 1024,
      query_pre_attn_scalar: 256,
      rope_theta: 1e6,
      rope_local_base_freq: 10000,
      rope_scaling: { rope_type: "linear", factor: 8 },
    }),
  // https://huggingface.co/HuggingFaceTB/SmolLM3-3B
  "smollm3-3b": () =>
    published("smollm3", {
      vocab_size: 128256,
      hidden_size: 2048,
      intermediate_size: 11008,
      num_hidden_layers: 36,
      num_attention_heads: 16,
      num_key_value_heads: 4,
      max_position_embeddings: 65536,
      rope_theta: 5e6,
      eos_token_id: 128012,
    }),
  // https://arxiv.org/abs/2503.01743
  "phi4-mini": () =>
    published("phi3", {
      vocab_size: 200064,
      hidden_size: 3072,
      intermediate_size: 8192,
      num_hidden_layers: 32,
      num_attention_heads: 24,
      num_key_value_heads: 8,
      max_position_embeddings: 131072,
      original_max_position_embeddings: 4096,
      partial_rotary_factor: 0.75,
      rope_scaling: {
        type: "longrope",
        short_factor: PHI_4_MINI_FACTORS.map(() => 1),
        long_factor: PHI_4_MINI_FACTORS,
      },
      sliding_window: 262144,
      tie_word_embeddings: true,
      bos_token_id: 199999,
      eos_token_id: 199999,
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
 * `llama-1b`, `mistral-7b`, `smollm-135m`, `qwen2.5-7b`, `qwen3-8b`, `gemma3-4b`, `smollm3-3b`, `phi4-mini`, `tiny`
 * or `tiny-deep`.
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
