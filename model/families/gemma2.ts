/**
 * Gemma 2: norms around attention and MLP that multiply by 1 + w, GELU, soft caps, a window in every second layer.
 * Source: Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024.
 *
 * @module
 */
import type { Fields } from "../files/json_fields.ts";
import { asFloat } from "../files/json_file.ts";
import { type Family, type FamilyDefaults, LLAMA_DEFAULTS } from "./base_config.ts";
import { refuseBias, withAttentionBias } from "./biases.ts";
import { type LayeredConfig, layeredSpec, readLayerTypes, readWindow } from "./layer_types.ts";
import type { ArchSpec } from "./spec.ts";
import { LAYERS_FIELD, PLAIN_GGUF, WINDOW_FIELD } from "./gguf.ts";

/** What the configurations of Gemma 2 and 3 have in common. */
export interface GemmaConfig extends LayeredConfig {
  /** Scores q·k are divided by its root. */
  query_pre_attn_scalar: number;
  /** What logits are capped to; null where they are not. */
  final_logit_softcapping: number | null;
}

/** `transformers`' Gemma2Config. */
export interface Gemma2Config extends GemmaConfig {
  model_type: "gemma2";
  /** What scores are capped to; null where they are not. */
  attn_logit_softcapping: number | null;
}

/** What `transformers`' configurations of Gemma take where `config.json` leaves it out. */
export const GEMMA_DEFAULTS: FamilyDefaults = {
  ...LLAMA_DEFAULTS,
  max_position_embeddings: 8192,
  num_key_value_heads: 4,
  head_dim: 256,
  hidden_act: "gelu_pytorch_tanh",
  tie_word_embeddings: true,
  bos_token_id: 2,
  eos_token_id: 1,
};
const QUERY_SCALAR = 256;
/** The window of Gemma 2 and 3. */
export const GEMMA_WINDOW = 4096;

/** A soft cap; null where the file says null. */
export function readCap(fields: Fields, field: string, absent: number | null): number | null {
  if (fields.json[field] === undefined) return absent;
  return fields.has(field) ? fields.number(field, (v) => v > 0, "a number above 0, or null") : null;
}

/** `query_pre_attn_scalar`. */
export function readQueryScalar(fields: Fields): number {
  if (!fields.has("query_pre_attn_scalar")) return QUERY_SCALAR;
  return fields.number("query_pre_attn_scalar", (v) => v > 0, "a number above 0");
}

/** A soft cap as `transformers` wants it: it takes no integer there. */
export function capJson(cap: number | null): unknown {
  return cap === null ? null : asFloat(cap);
}

/** What Gemma 2 and 3 have in common. */
export function gemmaSpec(config: GemmaConfig): ArchSpec {
  const spec = layeredSpec(config), scale = config.query_pre_attn_scalar ** -0.5;
  return {
    ...spec,
    norm: { ...spec.norm, offset: 1 },
    norms: {
      preAttention: "input_layernorm",
      postAttention: "post_attention_layernorm",
      preMlp: "pre_feedforward_layernorm",
      postMlp: "post_feedforward_layernorm",
    },
    layers: spec.layers.map((layer) => ({ ...layer, scale })),
    // A buffer of the model there, in the dtype of its weights.
    embedding_multiplier: Math.fround(Math.sqrt(config.hidden_size)),
    logits_softcap: config.final_logit_softcapping,
  };
}

/** Keys of `config.json` that Gemma 2 and 3 share. */
export function gemmaJson(config: GemmaConfig): Record<string, unknown> {
  return {
    attention_bias: config.attention_bias,
    final_logit_softcapping: capJson(config.final_logit_softcapping),
    hidden_activation: config.hidden_act,
    layer_types: config.layer_types,
    pad_token_id: null,
    query_pre_attn_scalar: config.query_pre_attn_scalar,
    sliding_window: config.sliding_window,
  };
}

/**
 * The scale of scores that llama.cpp has no key for: 1/√head_dim, and in the model of 27 billion parameters, which is told
 * by its layers, 1/√(hidden_size / heads).
 */
export function impliedScale(
  { num_hidden_layers, hidden_size, num_attention_heads, head_dim }: Readonly<
    Record<string, unknown>
  >,
  layersOf27B: number,
): Record<string, unknown> {
  const isLargest = num_hidden_layers === layersOf27B;
  return {
    query_pre_attn_scalar: isLargest ? Number(hidden_size) / Number(num_attention_heads) : head_dim,
  };
}

export const GEMMA2: Family<Gemma2Config> = {
  model_type: "gemma2",
  architecture: "Gemma2ForCausalLM",
  gguf: {
    ...PLAIN_GGUF,
    architecture: "gemma2",
    fields: [
      WINDOW_FIELD,
      LAYERS_FIELD,
      { key: "attn_logit_softcapping", field: "attn_logit_softcapping", type: "f32" },
      { key: "final_logit_softcapping", field: "final_logit_softcapping", type: "f32" },
    ],
    implied: (said) => ({ ...impliedScale(said, 46), tie_word_embeddings: true }),
  },
  defaults: GEMMA_DEFAULTS,
  ropeFields: (fields) => fields,
  activationKey: "hidden_activation",
  reads: ["attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"],
  byLayer: ["layer_types"],
  read(fields, { num_hidden_layers: layers }) {
    const window = readWindow(fields, GEMMA_WINDOW);
    const absent = (layer: number) => layer % 2 === 0;
    return {
      model_type: "gemma2",
      sliding_window: window,
      layer_types: readLayerTypes(fields, layers, { window, absent }),
      query_pre_attn_scalar: readQueryScalar(fields),
      attn_logit_softcapping: readCap(fields, "attn_logit_softcapping", 50),
      final_logit_softcapping: readCap(fields, "final_logit_softcapping", 30),
      attention_bias: fields.boolean("attention_bias", false),
      mlp_bias: refuseBias(fields, "mlp_bias", "a Gemma 2"),
    };
  },
  spec(config) {
    const spec = gemmaSpec(config), softcap = config.attn_logit_softcapping;
    return { ...spec, layers: spec.layers.map((layer) => ({ ...layer, softcap })) };
  },
  json: (config) => ({
    ...gemmaJson(config),
    attn_logit_softcapping: capJson(config.attn_logit_softcapping),
  }),
  withBias: withAttentionBias,
};
