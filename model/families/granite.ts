/**
 * Granite: a Llama whose embeddings, scores, residual branches and logits are multiplied by constants.
 * Source: https://github.com/ibm-granite/granite-3.0-language-models
 *
 * @module
 */
import { type BaseConfig, type Family, LLAMA_DEFAULTS } from "./base_config.ts";
import { withKeyedBias } from "./biases.ts";
import { llamaSpec } from "./llama_spec.ts";
import { ropeTypeJson } from "./rope_scaling.ts";
import { LLAMA_LIKE_GGUF } from "./gguf.ts";

/** `transformers`' GraniteConfig. */
export interface GraniteConfig extends BaseConfig {
  model_type: "granite";
  /** What embeddings are multiplied by. */
  embedding_multiplier: number;
  /** What scores q·k are multiplied by, in place of 1/√head_dim. */
  attention_multiplier: number;
  /** What attention and MLP are multiplied by before they are added to the residual stream. */
  residual_multiplier: number;
  /** What logits are divided by. */
  logits_scaling: number;
}

export const GRANITE: Family<GraniteConfig> = {
  model_type: "granite",
  architecture: "GraniteForCausalLM",
  gguf: {
    ...LLAMA_LIKE_GGUF,
    architecture: "granite",
    fields: [
      { key: "attention.scale", field: "attention_multiplier", type: "f32" },
      { key: "embedding_scale", field: "embedding_multiplier", type: "f32" },
      { key: "logit_scale", field: "logits_scaling", type: "f32" },
      { key: "residual_scale", field: "residual_multiplier", type: "f32" },
    ],
  },
  defaults: LLAMA_DEFAULTS,
  ropeFields: (fields) => fields,
  activationKey: "hidden_act",
  reads: ["embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"],
  byLayer: [],
  read(fields) {
    const positive = (field: string) =>
      fields.has(field) ? fields.number(field, (v) => v > 0, "a number above 0") : 1;
    return {
      model_type: "granite",
      sliding_window: null,
      attention_bias: fields.boolean("attention_bias", false),
      mlp_bias: fields.boolean("mlp_bias", false),
      embedding_multiplier: positive("embedding_multiplier"),
      attention_multiplier: positive("attention_multiplier"),
      residual_multiplier: positive("residual_multiplier"),
      logits_scaling: positive("logits_scaling"),
    };
  },
  spec(config) {
    const spec = llamaSpec(config);
    return {
      ...spec,
      layers: spec.layers.map((layer) => ({ ...layer, scale: config.attention_multiplier })),
      embedding_multiplier: config.embedding_multiplier,
      residual_multiplier: config.residual_multiplier,
      logits_multiplier: 1 / config.logits_scaling,
    };
  },
  json: (config) => ({
    attention_bias: config.attention_bias,
    attention_multiplier: config.attention_multiplier,
    embedding_multiplier: config.embedding_multiplier,
    logits_scaling: config.logits_scaling,
    mlp_bias: config.mlp_bias,
    residual_multiplier: config.residual_multiplier,
    rope_scaling: ropeTypeJson(config.rope_scaling),
  }),
  withBias: withKeyedBias,
};
