/**
 * Ministral 3: a Mistral with YaRN, whose queries grow with their position in texts beyond the context before YaRN.
 * Source: https://huggingface.co/mistralai/Ministral-3-8B-Base-2512
 *
 * @module
 */
import { Fields } from "../files/json_fields.ts";
import { isObject } from "../files/json_file.ts";
import { type BaseConfig, type Family, LLAMA_DEFAULTS } from "./base_config.ts";
import { refuseBias } from "./biases.ts";
import { type GgufFamily, PLAIN_GGUF } from "./gguf.ts";
import { checkLayerTypes, readWindow } from "./layer_types.ts";
import { llamaSpec } from "./llama_spec.ts";
import { ropeTypeJson } from "./rope_scaling.ts";

/** `transformers`' Ministral3Config. */
export interface Ministral3Config extends BaseConfig {
  model_type: "ministral3";
  /** β of what queries at position p are multiplied by: 1 + β·ln(1 + ⌊p / original_max_position_embeddings⌋). */
  llama_4_scaling_beta: number;
  original_max_position_embeddings: number;
}

/** RoPE where `config.json` says nothing of it. */
const ROPE_DEFAULT = {
  type: "yarn",
  rope_theta: 1e6,
  factor: 16,
  original_max_position_embeddings: 16384,
  beta_fast: 32,
  beta_slow: 1,
  mscale_all_dim: 1,
  mscale: 1,
  llama_4_scaling_beta: 0.1,
};

/** The key that has RoPE's parameters, and these. */
function ropeOf(fields: Fields): [field: string, values: Record<string, unknown>] {
  const field = fields.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (!fields.has(field)) return [field, ROPE_DEFAULT];
  const values = fields.json[field];
  return [field, isObject(values) ? values : fields.fail(field, "an object or null")];
}

/** The same without what is no RoPE's: the growth of queries, and where it begins if RoPE itself doesn't need to know. */
function ropeFields(fields: Fields): Fields {
  const [field, values] = ropeOf(fields);
  const { llama_4_scaling_beta: _, max_position_embeddings: __, ...rope } = values;
  if (["default", "linear"].includes(String(rope.rope_type ?? rope.type ?? "default"))) {
    delete rope.original_max_position_embeddings;
  }
  return new Fields({ ...fields.json, rope_parameters: undefined, [field]: rope }, fields.file);
}

/** As llama.cpp has it since December 2025. Queries grow beyond the context before YaRN, or beyond the whole. */
const GGUF: GgufFamily = {
  ...PLAIN_GGUF,
  architecture: "mistral3",
  permutesHeads: true,
  fields: [{ key: "attention.temperature_scale", field: "llama_4_scaling_beta", type: "f32" }],
  flat({ rope_parameters, ...json }) {
    const { llama_4_scaling_beta, original_max_position_embeddings, rope_theta, ...scaling } =
      rope_parameters as Record<string, unknown>;
    const rope_scaling = scaling.rope_type === "default" ? null : scaling;
    return {
      ...json,
      llama_4_scaling_beta,
      original_max_position_embeddings,
      rope_theta,
      rope_scaling,
    };
  },
  implied: ({ rope_scaling, original_max_position_embeddings, ...said }) => ({
    rope_scaling: null,
    rope_parameters: {
      ...rope_scaling ?? { rope_type: "default" },
      rope_theta: said.rope_theta,
      llama_4_scaling_beta: said.llama_4_scaling_beta ?? 0,
      original_max_position_embeddings: original_max_position_embeddings ??
        said.max_position_embeddings,
    },
  }),
};

export const MINISTRAL3: Family<Ministral3Config> = {
  model_type: "ministral3",
  architecture: "Ministral3ForCausalLM",
  gguf: GGUF,
  defaults: {
    ...LLAMA_DEFAULTS,
    max_position_embeddings: 262144,
    num_key_value_heads: 8,
    head_dim: 128,
    rms_norm_eps: 1e-5,
  },
  ropeFields,
  activationKey: "hidden_act",
  reads: [],
  byLayer: [],
  read(fields, { max_position_embeddings: context }) {
    const [field, values] = ropeOf(fields), rope = new Fields(values, `${fields.file}: ${field}`);
    const window = readWindow(fields, null);
    checkLayerTypes(fields, window);
    const expected = "a number from 0 on";
    return {
      model_type: "ministral3",
      sliding_window: window,
      attention_bias: refuseBias(fields, "attention_bias", "a Ministral 3"),
      mlp_bias: refuseBias(fields, "mlp_bias", "a Ministral 3"),
      llama_4_scaling_beta: rope.number("llama_4_scaling_beta", (beta) => beta >= 0, expected),
      original_max_position_embeddings: rope.has("original_max_position_embeddings")
        ? rope.count("original_max_position_embeddings", context)
        : context,
    };
  },
  spec(config) {
    const { llama_4_scaling_beta: beta, original_max_position_embeddings: period } = config;
    return { ...llamaSpec(config), queryGrowth: beta === 0 ? null : { beta, period } };
  },
  json: (config) => ({
    pad_token_id: null,
    rope_parameters: {
      rope_type: "default",
      ...ropeTypeJson(config.rope_scaling),
      llama_4_scaling_beta: config.llama_4_scaling_beta,
      original_max_position_embeddings: config.original_max_position_embeddings,
      rope_theta: config.rope_theta,
    },
    // Releases that know the family would take it instead.
    rope_scaling: null,
    sliding_window: config.sliding_window,
  }),
  withBias: () => undefined,
};
