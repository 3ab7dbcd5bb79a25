/**
 * Gemma 3's text models: a Gemma 2 with normed heads of q and k in place of the scores' soft cap, and a RoPE of its own
 * in layers with a window. Source: Gemma Team, "Gemma 3 Technical Report", 2025.
 *
 * @module
 */
import type { Family } from "./base_config.ts";
import { refuseBias, withAttentionBias } from "./biases.ts";
import {
  GEMMA_DEFAULTS,
  GEMMA_WINDOW,
  type GemmaConfig,
  gemmaJson,
  gemmaSpec,
  impliedScale,
  readCap,
  readQueryScalar,
} from "./gemma2.ts";
import { type LayerRopes, readLocalRope, ropesJson, withLayerRopes } from "./layer_ropes.ts";
import { patternOf, readLayerTypes, readWindow } from "./layer_types.ts";
import { ropeFieldsOf } from "./rope_scaling.ts";
import { LAYERS_FIELD, PLAIN_GGUF, WINDOW_FIELD } from "./gguf.ts";

/** `transformers`' Gemma3TextConfig. */
export interface Gemma3TextConfig extends GemmaConfig, LayerRopes {
  model_type: "gemma3_text";
}

const LOCAL_THETA = 10000, PATTERN = 6;

export const GEMMA3_TEXT: Family<Gemma3TextConfig> = {
  model_type: "gemma3_text",
  architecture: "Gemma3ForCausalLM",
  gguf: {
    ...PLAIN_GGUF,
    architecture: "gemma3",
    fields: [
      WINDOW_FIELD,
      LAYERS_FIELD,
      { key: "final_logit_softcapping", field: "final_logit_softcapping", type: "f32" },
      { key: "rope.freq_base_swa", field: "rope_local_base_freq", type: "f32" },
    ],
    implied: (said) => impliedScale(said, 62),
  },
  defaults: { ...GEMMA_DEFAULTS, max_position_embeddings: 131072, rope_theta: 1e6 },
  ropeFields: (fields) => ropeFieldsOf(fields, "full_attention"),
  activationKey: "hidden_activation",
  // The first of these its class in transformers leaves unused.
  reads: ["attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"],
  byLayer: ["layer_types"],
  read(fields, { num_hidden_layers: layers, max_position_embeddings: context }) {
    const window = readWindow(fields, GEMMA_WINDOW);
    const every = fields.has("sliding_window_pattern")
      ? fields.count("sliding_window_pattern", Number.MAX_SAFE_INTEGER)
      : PATTERN;
    const absent = (layer: number) => (layer + 1) % every !== 0;
    return {
      model_type: "gemma3_text",
      sliding_window: window,
      layer_types: readLayerTypes(fields, layers, { window, absent }),
      local_rope: readLocalRope(fields, { context, theta: LOCAL_THETA }),
      query_pre_attn_scalar: readQueryScalar(fields),
      final_logit_softcapping: readCap(fields, "final_logit_softcapping", null),
      attention_bias: fields.boolean("attention_bias", false),
      mlp_bias: refuseBias(fields, "mlp_bias", "a Gemma 3"),
    };
  },
  spec: (config) => ({
    ...withLayerRopes(gemmaSpec(config), config),
    qkNorm: { over: "head", q: "self_attn.q_norm", k: "self_attn.k_norm" },
    // The factor of a scaled RoPE is in it already.
    longestText: config.max_position_embeddings,
  }),
  json: (config) => ({
    ...gemmaJson(config),
    attn_logit_softcapping: null,
    rope_local_base_freq: config.local_rope.rope_theta,
    ...ropesJson(config),
    sliding_window_pattern: patternOf(config.layer_types),
  }),
  withBias: withAttentionBias,
};
