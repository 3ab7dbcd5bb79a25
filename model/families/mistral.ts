/**
 * Mistral 7B and its successors: a Llama without biases, whose queries attend to a window of keys.
 * Source: Jiang et al., "Mistral 7B", 2023.
 *
 * @module
 */
import type { Fields } from "../files/json_fields.ts";
import {
  type BaseConfig,
  checkLayerTypes,
  type Family,
  llamaSpec,
  MOST_WINDOW,
} from "./base_config.ts";

/** `transformers`' MistralConfig. */
export interface MistralConfig extends BaseConfig {
  model_type: "mistral";
}

/** The window where `config.json` leaves it out: `transformers`' MistralConfig. */
const WINDOW_DEFAULT = 4096;

/**
 * Keys that a query attends to. Keys by which other families switch the window off, wholly or for some layers,
 * must not contradict it.
 */
function readWindow(fields: Fields): number | null {
  const isUsed = fields.boolean("use_sliding_window", true), { json } = fields;
  let window = fields.has("sliding_window") ? fields.count("sliding_window", MOST_WINDOW) : null;
  if (json.sliding_window === undefined) window = WINDOW_DEFAULT;
  if (window === null) return null;
  if (!isUsed) fields.fail("use_sliding_window", "true beside sliding_window");
  if (fields.has("max_window_layers") && json.max_window_layers !== 0) {
    fields.fail("max_window_layers", "0: a window in some layers only is not supported");
  }
  return window;
}

function refuseBias(fields: Fields, field: "attention_bias" | "mlp_bias"): false {
  if (fields.boolean(field, false)) fields.fail(field, "false: a Mistral has no biases");
  return false;
}

export const MISTRAL: Family<MistralConfig> = {
  model_type: "mistral",
  architecture: "MistralForCausalLM",
  defaults: { max_position_embeddings: 131072, num_key_value_heads: 8 },
  reads: [],
  read(fields) {
    const window = readWindow(fields);
    checkLayerTypes(fields, window);
    return {
      model_type: "mistral",
      sliding_window: window,
      attention_bias: refuseBias(fields, "attention_bias"),
      mlp_bias: refuseBias(fields, "mlp_bias"),
    };
  },
  spec: llamaSpec,
  json: ({ sliding_window }) => ({ sliding_window }),
  withBias: () => undefined,
};
