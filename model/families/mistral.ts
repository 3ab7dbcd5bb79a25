/**
 * Mistral 7B and its successors: a Llama without biases, whose queries attend to a window of keys.
 * Source: Jiang et al., "Mistral 7B", 2023.
 *
 * @module
 */
import type { Fields } from "../files/json_fields.ts";
import { type BaseConfig, type Family, LLAMA_DEFAULTS } from "./base_config.ts";
import { refuseBias } from "./biases.ts";
import { LLAMA_GGUF } from "./gguf.ts";
import { checkLayerTypes, readWindow } from "./layer_types.ts";
import { llamaSpec } from "./llama_spec.ts";

/** `transformers`' MistralConfig. */
export interface MistralConfig extends BaseConfig {
  model_type: "mistral";
}

/** What `transformers`' MistralConfig takes where `config.json` leaves it out. */
export const MISTRAL_DEFAULTS = {
  ...LLAMA_DEFAULTS,
  max_position_embeddings: 131072,
  num_key_value_heads: 8,
};
/** The window there. */
export const MISTRAL_WINDOW = 4096;

/**
 * Keys that a query attends to. Keys by which other families switch the window off, wholly or for some layers,
 * must not contradict it.
 */
function everyLayersWindow(fields: Fields): number | null {
  const isUsed = fields.boolean("use_sliding_window", true);
  const window = readWindow(fields, MISTRAL_WINDOW);
  if (window === null) return null;
  if (!isUsed) fields.fail("use_sliding_window", "true beside sliding_window");
  if (fields.has("max_window_layers") && fields.json.max_window_layers !== 0) {
    fields.fail("max_window_layers", "0: a Mistral has the window in all layers");
  }
  return window;
}

export const MISTRAL: Family<MistralConfig> = {
  model_type: "mistral",
  architecture: "MistralForCausalLM",
  gguf: LLAMA_GGUF,
  defaults: MISTRAL_DEFAULTS,
  ropeFields: (fields) => fields,
  activationKey: "hidden_act",
  reads: [],
  byLayer: [],
  read(fields) {
    const window = everyLayersWindow(fields);
    checkLayerTypes(fields, window);
    return {
      model_type: "mistral",
      sliding_window: window,
      attention_bias: refuseBias(fields, "attention_bias", "a Mistral"),
      mlp_bias: refuseBias(fields, "mlp_bias", "a Mistral"),
    };
  },
  spec: llamaSpec,
  json: ({ sliding_window }) => ({ sliding_window }),
  withBias: () => undefined,
};
