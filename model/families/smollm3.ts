/**
 * SmolLM3: a Llama in which every fourth layer doesn't encode positions.
 * Source: https://huggingface.co/HuggingFaceTB/SmolLM3-3B
 *
 * @module
 */
import type { Fields } from "../files/json_fields.ts";
import { type Family, LLAMA_DEFAULTS } from "./base_config.ts";
import { withKeyedBias } from "./biases.ts";
import { type LayeredConfig, layeredSpec, readLayerTypes, readWindow } from "./layer_types.ts";
import { LLAMA_LIKE_GGUF, PLAIN_GGUF } from "./gguf.ts";

/** `transformers`' SmolLM3Config. */
export interface SmolLM3Config extends LayeredConfig {
  model_type: "smollm3";
  /** Whether a layer rotates q and k, against what the name says: 1 where it does, else 0. */
  no_rope_layers: number[];
}

const INTERVAL = 4;

/** The layers that rotate: those that a list marks, else all but every so many. */
function readRotated(fields: Fields, layers: number): number[] {
  const interval = fields.has("no_rope_layer_interval")
    ? fields.count("no_rope_layer_interval", Number.MAX_SAFE_INTEGER)
    : INTERVAL;
  if (!fields.has("no_rope_layers")) {
    return Array.from({ length: layers }, (_, i) => Number((i + 1) % interval !== 0));
  }
  const list = fields.json.no_rope_layers;
  if (!Array.isArray(list) || list.length < layers || list.some((v) => v !== 0 && v !== 1)) {
    fields.fail("no_rope_layers", `a list of 0 or 1 for each of ${layers} layers`);
  }
  return list.slice(0, layers);
}

export const SMOLLM3: Family<SmolLM3Config> = {
  model_type: "smollm3",
  architecture: "SmolLM3ForCausalLM",
  gguf: {
    ...LLAMA_LIKE_GGUF,
    architecture: "smollm3",
    biases: [],
    scalings: PLAIN_GGUF.scalings,
    implied: () => ({ no_rope_layer_interval: INTERVAL }),
  },
  defaults: {
    ...LLAMA_DEFAULTS,
    max_position_embeddings: 32768,
    num_key_value_heads: 4,
    rope_theta: 2e6,
    tie_word_embeddings: true,
    bos_token_id: 128000,
    eos_token_id: 128001,
  },
  ropeFields: (fields) => fields,
  activationKey: "hidden_act",
  reads: ["no_rope_layers"],
  byLayer: ["layer_types", "no_rope_layers"],
  read(fields, { num_hidden_layers: layers }) {
    const rotated = readRotated(fields, layers);
    const isUsed = fields.boolean("use_sliding_window", false), said = readWindow(fields, null);
    const window = isUsed ? said : null;
    const absent = (layer: number) => window !== null && rotated[layer] === 0;
    return {
      model_type: "smollm3",
      sliding_window: window,
      layer_types: readLayerTypes(fields, layers, { window, isUsed, absent }),
      no_rope_layers: rotated,
      attention_bias: fields.boolean("attention_bias", false),
      mlp_bias: fields.boolean("mlp_bias", false),
    };
  },
  spec(config) {
    const spec = layeredSpec(config);
    return {
      ...spec,
      layers: spec.layers.map((layer, i) =>
        config.no_rope_layers[i] === 0 ? { ...layer, rope: null } : layer
      ),
    };
  },
  json: ({ attention_bias, layer_types, mlp_bias, no_rope_layers, sliding_window }) => ({
    attention_bias,
    layer_types,
    mlp_bias,
    no_rope_layers,
    pad_token_id: null,
    sliding_window,
    use_sliding_window: sliding_window !== null,
  }),
  withBias: withKeyedBias,
};
