/**
 * OLMo 3: an OLMo 2 with a window in three of four layers, and RoPE by type of layer.
 * Source: https://huggingface.co/allenai/Olmo-3-1025-7B
 *
 * @module
 */
import type { Fields } from "../files/json_fields.ts";
import type { Family } from "./base_config.ts";
import { refuseBias, withAttentionBias } from "./biases.ts";
import { type LayerRopes, readLocalRope, ropesJson, withLayerRopes } from "./layer_ropes.ts";
import { layeredSpec, readLayerTypes, readWindow } from "./layer_types.ts";
import { ropeFieldsOf } from "./rope_scaling.ts";
import { OLMO_DEFAULTS, OLMO_GGUF, OLMO_NORMS } from "./olmo2.ts";

/** `transformers`' Olmo3Config. */
export interface Olmo3Config extends LayerRopes {
  model_type: "olmo3";
}

const THETA = 500000, WINDOW = 4096, PATTERN = 4;

/** Releases of `transformers` disagree on which layers another `rope_theta` is for unless the types have their own. */
function refuseCommonTheta(fields: Fields): void {
  if (!fields.has("rope_theta") || fields.json.rope_theta === THETA) return;
  if (fields.has("rope_parameters")) return;
  fields.fail("rope_theta", `${THETA}, or rope_parameters by type of layer`);
}

export const OLMO3: Family<Olmo3Config> = {
  model_type: "olmo3",
  architecture: "Olmo3ForCausalLM",
  gguf: OLMO_GGUF,
  defaults: { ...OLMO_DEFAULTS, rope_theta: THETA },
  ropeFields: (fields) => ropeFieldsOf(fields, "full_attention"),
  activationKey: "hidden_act",
  reads: [],
  byLayer: ["layer_types"],
  read(fields, { num_hidden_layers: layers, max_position_embeddings: context }) {
    refuseCommonTheta(fields);
    const window = readWindow(fields, WINDOW);
    const absent = (layer: number) => (layer + 1) % PATTERN !== 0;
    return {
      model_type: "olmo3",
      sliding_window: window,
      layer_types: readLayerTypes(fields, layers, { window, absent }),
      local_rope: readLocalRope(fields, { context, theta: THETA }),
      attention_bias: fields.boolean("attention_bias", false),
      mlp_bias: refuseBias(fields, "mlp_bias", "an OLMo 3"),
    };
  },
  spec: (config) => ({ ...withLayerRopes(layeredSpec(config), config), ...OLMO_NORMS }),
  json: (config) => ({
    attention_bias: config.attention_bias,
    layer_types: config.layer_types,
    pad_token_id: null,
    ...ropesJson(config),
    sliding_window: config.sliding_window,
  }),
  withBias: withAttentionBias,
};
