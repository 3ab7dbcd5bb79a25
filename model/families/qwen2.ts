/**
 * Qwen2 and Qwen2.5: a Llama with biases of q, k and v, and a window in the last layers where it is in use.
 * Source: Yang et al., "Qwen2 Technical Report", 2024.
 *
 * @module
 */
import type { Fields } from "../files/json_fields.ts";
import { type Family, LLAMA_DEFAULTS } from "./base_config.ts";
import { refuseBias } from "./biases.ts";
import { PLAIN_GGUF, QKV_BIASES } from "./gguf.ts";
import { type LayeredConfig, layeredSpec, readLayerTypes, readWindow } from "./layer_types.ts";
import type { LinearModule } from "./linear_modules.ts";

/** `transformers`' Qwen2Config. */
export interface Qwen2Config extends LayeredConfig {
  model_type: "qwen2";
}

/** What `transformers`' configurations of Qwen take where `config.json` leaves it out. */
export const QWEN_DEFAULTS = {
  ...LLAMA_DEFAULTS,
  max_position_embeddings: 32768,
  num_key_value_heads: 32,
  bos_token_id: null,
  eos_token_id: null,
};
const WINDOW = 4096, MAX_WINDOW_LAYERS = 28;

const BIASED: readonly LinearModule[] = ["q_proj", "k_proj", "v_proj"];

/** The window, which is off unless `use_sliding_window` says otherwise, and its layers: those from the first on. */
export function readQwenWindow(
  fields: Fields,
  layers: number,
): Pick<LayeredConfig, "sliding_window" | "layer_types"> {
  const isUsed = fields.boolean("use_sliding_window", false), said = readWindow(fields, WINDOW);
  const first = fields.has("max_window_layers")
    ? fields.number("max_window_layers", (n) => Number.isSafeInteger(n) && n >= 0, "a whole number")
    : MAX_WINDOW_LAYERS;
  const window = isUsed ? said : null;
  const rule = { window, isUsed, absent: (layer: number) => window !== null && layer >= first };
  return { sliding_window: window, layer_types: readLayerTypes(fields, layers, rule) };
}

/** The keys of it, as those releases read it too that know no `layer_types`. */
export function qwenWindowJson(
  { sliding_window, layer_types }: LayeredConfig,
): Record<string, unknown> {
  const first = layer_types.indexOf("sliding_attention");
  return {
    layer_types,
    max_window_layers: first < 0 ? layer_types.length : first,
    sliding_window,
    use_sliding_window: sliding_window !== null,
  };
}

export const QWEN2: Family<Qwen2Config> = {
  model_type: "qwen2",
  architecture: "Qwen2ForCausalLM",
  gguf: { ...PLAIN_GGUF, architecture: "qwen2", biases: QKV_BIASES },
  defaults: QWEN_DEFAULTS,
  ropeFields: (fields) => fields,
  activationKey: "hidden_act",
  reads: [],
  byLayer: ["layer_types"],
  read(fields, { num_hidden_layers }) {
    if (!fields.boolean("attention_bias", true)) {
      fields.fail("attention_bias", "true: a Qwen2 has biases of q, k and v");
    }
    return {
      model_type: "qwen2",
      ...readQwenWindow(fields, num_hidden_layers),
      attention_bias: true,
      mlp_bias: refuseBias(fields, "mlp_bias", "a Qwen2"),
    };
  },
  spec: (config) => ({ ...layeredSpec(config), biases: new Set(BIASED) }),
  json: qwenWindowJson,
  withBias: () => undefined,
};
