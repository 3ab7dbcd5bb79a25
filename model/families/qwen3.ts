/**
 * Qwen3: a Qwen2 without its biases, whose heads of q and k are normed.
 * Source: Yang et al., "Qwen3 Technical Report", 2025.
 *
 * @module
 */
import type { Family } from "./base_config.ts";
import { refuseBias, withAttentionBias } from "./biases.ts";
import { PLAIN_GGUF } from "./gguf.ts";
import { type LayeredConfig, layeredSpec } from "./layer_types.ts";
import { QWEN_DEFAULTS, qwenWindowJson, readQwenWindow } from "./qwen2.ts";

/** `transformers`' Qwen3Config. */
export interface Qwen3Config extends LayeredConfig {
  model_type: "qwen3";
}

export const QWEN3: Family<Qwen3Config> = {
  model_type: "qwen3",
  architecture: "Qwen3ForCausalLM",
  gguf: { ...PLAIN_GGUF, architecture: "qwen3" },
  defaults: { ...QWEN_DEFAULTS, head_dim: 128 },
  ropeFields: (fields) => fields,
  activationKey: "hidden_act",
  reads: [],
  byLayer: ["layer_types"],
  read: (fields, { num_hidden_layers }) => ({
    model_type: "qwen3",
    ...readQwenWindow(fields, num_hidden_layers),
    attention_bias: fields.boolean("attention_bias", false),
    mlp_bias: refuseBias(fields, "mlp_bias", "a Qwen3"),
  }),
  spec: (config) => ({
    ...layeredSpec(config),
    qkNorm: { over: "head", q: "self_attn.q_norm", k: "self_attn.k_norm" },
  }),
  json: (config) => ({ ...qwenWindowJson(config), attention_bias: config.attention_bias }),
  withBias: withAttentionBias,
};
