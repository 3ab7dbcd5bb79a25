/**
 * Seed-OSS: a Llama with biases of q, k and v, and wide heads.
 * Source: https://github.com/ByteDance-Seed/seed-oss
 *
 * @module
 */
import { type BaseConfig, type Family, LLAMA_DEFAULTS } from "./base_config.ts";
import { withKeyedBias } from "./biases.ts";
import { llamaSpec } from "./llama_spec.ts";
import type { LinearModule } from "./linear_modules.ts";
import { PLAIN_GGUF, QKV_BIASES } from "./gguf.ts";

/** `transformers`' SeedOssConfig. */
export interface SeedOssConfig extends BaseConfig {
  model_type: "seed_oss";
  /** Whether o_proj has a bias, which `attention_bias` says of q, k and v. */
  attention_out_bias: boolean;
}

/** The linear layers that have a bias. */
function biased(config: SeedOssConfig): Set<LinearModule> {
  const biases = new Set(llamaSpec(config).biases);
  if (config.attention_out_bias) biases.add("o_proj");
  else biases.delete("o_proj");
  return biases;
}

export const SEED_OSS: Family<SeedOssConfig> = {
  model_type: "seed_oss",
  architecture: "SeedOssForCausalLM",
  gguf: {
    ...PLAIN_GGUF,
    architecture: "seed_oss",
    norms: { ...PLAIN_GGUF.norms, preMlp: PLAIN_GGUF.norms.postAttention },
    biases: QKV_BIASES,
  },
  defaults: {
    ...LLAMA_DEFAULTS,
    max_position_embeddings: 524288,
    num_key_value_heads: 8,
    head_dim: 128,
    bos_token_id: 0,
  },
  ropeFields: (fields) => fields,
  activationKey: "hidden_act",
  // Its dropouts are of the pre-training: the published model names them, and what runs a model leaves them out.
  reads: ["attention_dropout", "residual_dropout", "attention_out_bias"],
  byLayer: [],
  read: (fields) => ({
    model_type: "seed_oss",
    sliding_window: null,
    attention_bias: fields.boolean("attention_bias", true),
    attention_out_bias: fields.boolean("attention_out_bias", false),
    mlp_bias: fields.boolean("mlp_bias", false),
  }),
  spec: (config) => ({ ...llamaSpec(config), biases: biased(config) }),
  json: ({ attention_bias, attention_out_bias, mlp_bias }) => ({
    attention_bias,
    attention_out_bias,
    mlp_bias,
    pad_token_id: null,
    residual_dropout: 0,
  }),
  withBias: (config, module) =>
    module === "o_proj" ? { ...config, attention_out_bias: true } : withKeyedBias(config, module),
};
