/**
 * Llama 1 to 3.2, and what is made like it. Source: Touvron et al., "Llama 2: Open Foundation and Fine-Tuned
 * Chat Models", 2023.
 *
 * @module
 */
import type { Fields } from "../files/json_fields.ts";
import { type BaseConfig, type Family, LLAMA_DEFAULTS, MOST_WINDOW } from "./base_config.ts";
import { withKeyedBias } from "./biases.ts";
import { LLAMA_GGUF } from "./gguf.ts";
import { checkLayerTypes } from "./layer_types.ts";
import { llamaSpec } from "./llama_spec.ts";

/** `transformers`' LlamaConfig. */
export interface LlamaConfig extends BaseConfig {
  model_type: "llama";
}

/** A window, which other classes of the same keys have, must not be in use. */
function refuseWindow(fields: Fields): void {
  const isUsed = fields.boolean("use_sliding_window", true);
  if (!fields.has("sliding_window")) return;
  fields.count("sliding_window", MOST_WINDOW);
  if (isUsed) {
    fields.fail("sliding_window", `none: a window with model_type "llama" is not supported`);
  }
}

export const LLAMA: Family<LlamaConfig> = {
  model_type: "llama",
  architecture: "LlamaForCausalLM",
  gguf: LLAMA_GGUF,
  defaults: LLAMA_DEFAULTS,
  ropeFields: (fields) => fields,
  activationKey: "hidden_act",
  reads: [],
  byLayer: [],
  read(fields) {
    refuseWindow(fields);
    checkLayerTypes(fields, null);
    return {
      model_type: "llama",
      sliding_window: null,
      attention_bias: fields.boolean("attention_bias", false),
      mlp_bias: fields.boolean("mlp_bias", false),
    };
  },
  spec: llamaSpec,
  json: ({ attention_bias, mlp_bias }) => ({ attention_bias, mlp_bias, pretraining_tp: 1 }),
  withBias: withKeyedBias,
};
