/**
 * Helium: a Llama in whose heads neighbours are rotated, and whose output projection of attention has no bias.
 * Source: Kyutai, "Helium 1", 2025.
 *
 * @module
 */
import { type BaseConfig, type Family, LLAMA_DEFAULTS } from "./base_config.ts";
import { withKeyedBias } from "./biases.ts";
import { checkLayerTypes } from "./layer_types.ts";
import type { LinearModule } from "./linear_modules.ts";
import { llamaSpec } from "./llama_spec.ts";

/** `transformers`' HeliumConfig. */
export interface HeliumConfig extends BaseConfig {
  model_type: "helium";
}

const UNBIASED: LinearModule = "o_proj";

export const HELIUM: Family<HeliumConfig> = {
  model_type: "helium",
  architecture: "HeliumForCausalLM",
  gguf: null,
  defaults: {
    ...LLAMA_DEFAULTS,
    max_position_embeddings: 4096,
    num_key_value_heads: 20,
    head_dim: 128,
    rms_norm_eps: 1e-8,
    rope_theta: 1e5,
  },
  ropeFields: (fields) => fields,
  activationKey: "hidden_act",
  reads: [],
  byLayer: [],
  read(fields) {
    checkLayerTypes(fields, null);
    return {
      model_type: "helium",
      sliding_window: null,
      attention_bias: fields.boolean("attention_bias", false),
      mlp_bias: fields.boolean("mlp_bias", false),
    };
  },
  spec(config) {
    const spec = llamaSpec(config);
    const rotary = { dims: config.head_dim, pairs: "neighbours" } as const;
    return {
      ...spec,
      biases: spec.biases.difference(new Set([UNBIASED])),
      layers: spec.layers.map((layer) => ({
        ...layer,
        rope: layer.rope && { ...layer.rope, rotary },
      })),
    };
  },
  json: ({ attention_bias, mlp_bias }) => ({ attention_bias, mlp_bias }),
  withBias: (config, module) => module === UNBIASED ? undefined : withKeyedBias(config, module),
};
