/**
 * Ministral: a Mistral with the window in some layers.
 * Source: https://huggingface.co/mistralai/Ministral-8B-Instruct-2410
 *
 * @module
 */
import type { Family } from "./base_config.ts";
import { refuseBias } from "./biases.ts";
import { type LayeredConfig, layeredSpec, readLayerTypes, readWindow } from "./layer_types.ts";
import { MISTRAL_DEFAULTS, MISTRAL_WINDOW } from "./mistral.ts";

/** `transformers`' MinistralConfig. */
export interface MinistralConfig extends LayeredConfig {
  model_type: "ministral";
}

export const MINISTRAL: Family<MinistralConfig> = {
  model_type: "ministral",
  architecture: "MinistralForCausalLM",
  gguf: null,
  defaults: MISTRAL_DEFAULTS,
  ropeFields: (fields) => fields,
  activationKey: "hidden_act",
  reads: [],
  byLayer: ["layer_types"],
  read(fields, { num_hidden_layers: layers }) {
    const window = readWindow(fields, MISTRAL_WINDOW);
    const absent = () => window !== null;
    return {
      model_type: "ministral",
      sliding_window: window,
      layer_types: readLayerTypes(fields, layers, { window, absent }),
      attention_bias: refuseBias(fields, "attention_bias", "a Ministral"),
      mlp_bias: refuseBias(fields, "mlp_bias", "a Ministral"),
    };
  },
  spec: layeredSpec,
  json: ({ layer_types, sliding_window }) => ({ layer_types, sliding_window }),
  withBias: () => undefined,
};
