/**
 * OLMo 2: a Llama with its norms after attention and MLP, and norms over all of a token's q and k.
 * Source: OLMo Team, "2 OLMo 2 Furious", 2024.
 *
 * @module
 */
import { asFloat, isObject } from "../files/json_file.ts";
import { type BaseConfig, type Family, LLAMA_DEFAULTS } from "./base_config.ts";
import { refuseBias, withAttentionBias } from "./biases.ts";
import { llamaSpec } from "./llama_spec.ts";
import type { ArchSpec } from "./spec.ts";
import { type GgufFamily, LAYERS_FIELD, PLAIN_GGUF, WINDOW_FIELD } from "./gguf.ts";

/** `transformers`' Olmo2Config. */
export interface Olmo2Config extends BaseConfig {
  model_type: "olmo2";
}

/** What `transformers`' configurations of OLMo take where `config.json` leaves it out. */
export const OLMO_DEFAULTS = {
  ...LLAMA_DEFAULTS,
  rms_norm_eps: 1e-5,
  bos_token_id: null,
  eos_token_id: 50279,
};

/** A block without norms before attention and MLP. */
export const POST_NORMS: ArchSpec["norms"] = {
  postAttention: "post_attention_layernorm",
  postMlp: "post_feedforward_layernorm",
};

/** The norms of an OLMo. */
export const OLMO_NORMS: Pick<ArchSpec, "norms" | "qkNorm"> = {
  norms: POST_NORMS,
  qkNorm: { over: "row", q: "self_attn.q_norm", k: "self_attn.k_norm" },
};

/**
 * OLMo 2 and 3, which a window tells apart. Layers that have one are rotated by the same base, without the scaling. The output
 * projection is never the embedding.
 */
export const OLMO_GGUF: GgufFamily = {
  ...PLAIN_GGUF,
  architecture: "olmo2",
  fields: [WINDOW_FIELD, LAYERS_FIELD],
  implied({ sliding_window: window, rope_theta, rope_scaling }) {
    const tie_word_embeddings = false;
    if (!window) return { model_type: "olmo2", tie_word_embeddings };
    const plain = { rope_type: "default", rope_theta };
    return {
      model_type: "olmo3",
      tie_word_embeddings,
      rope_parameters: {
        full_attention: isObject(rope_scaling) ? { ...rope_scaling, rope_theta } : plain,
        sliding_attention: plain,
      },
    };
  },
};

export const OLMO2: Family<Olmo2Config> = {
  model_type: "olmo2",
  architecture: "Olmo2ForCausalLM",
  gguf: OLMO_GGUF,
  defaults: OLMO_DEFAULTS,
  ropeFields: (fields) => fields,
  activationKey: "hidden_act",
  reads: [],
  byLayer: [],
  read: (fields) => ({
    model_type: "olmo2",
    sliding_window: null,
    attention_bias: fields.boolean("attention_bias", false),
    mlp_bias: refuseBias(fields, "mlp_bias", "an OLMo 2"),
  }),
  spec: (config) => ({ ...llamaSpec(config), ...OLMO_NORMS }),
  json: ({ attention_bias, rope_scaling: scaling }) => ({
    attention_bias,
    pad_token_id: null,
    // Its class in releases 4 takes no integer for a factor.
    ...scaling?.type === "linear" || scaling?.type === "dynamic"
      ? { rope_scaling: { ...scaling, factor: asFloat(scaling.factor) } }
      : {},
  }),
  withBias: withAttentionBias,
};
