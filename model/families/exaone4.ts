/**
 * EXAONE 4: norms after attention and MLP, normed heads of q and k; where some layers have a window, the others don't
 * encode positions. Source: LG AI Research, "EXAONE 4.0", 2025.
 *
 * @module
 */
import type { Fields } from "../files/json_fields.ts";
import { type Family, LLAMA_DEFAULTS } from "./base_config.ts";
import { refuseBias } from "./biases.ts";
import {
  type LayeredConfig,
  layeredSpec,
  patternOf,
  readLayerTypes,
  readWindow,
} from "./layer_types.ts";
import { POST_NORMS } from "./olmo2.ts";
import { PLAIN_GGUF, WINDOW_FIELD } from "./gguf.ts";

/** `transformers`' Exaone4Config. */
export interface Exaone4Config extends LayeredConfig {
  model_type: "exaone4";
}

const WINDOW = 4096, PATTERN = 4;

/** Every how many layers one has no window, which `layer_types` says too. */
function readPattern(fields: Fields): number {
  if (fields.has("layer_types")) return PATTERN;
  if (fields.json.sliding_window_pattern === undefined) return PATTERN;
  return fields.count("sliding_window_pattern", Number.MAX_SAFE_INTEGER);
}

export const EXAONE4: Family<Exaone4Config> = {
  model_type: "exaone4",
  architecture: "Exaone4ForCausalLM",
  gguf: {
    ...PLAIN_GGUF,
    architecture: "exaone4",
    scalings: ["linear", "llama3", "yarn"],
    fields: [WINDOW_FIELD],
    // Windows are those of the 32B alone, which is told by its layers.
    implied: ({ num_hidden_layers, sliding_window }) => ({
      sliding_window: num_hidden_layers === 64 ? sliding_window ?? WINDOW : null,
    }),
  },
  defaults: {
    ...LLAMA_DEFAULTS,
    num_key_value_heads: 32,
    rms_norm_eps: 1e-5,
    bos_token_id: 0,
  },
  ropeFields: (fields) => fields,
  activationKey: "hidden_act",
  reads: [],
  byLayer: ["layer_types"],
  read(fields, { num_hidden_layers: layers }) {
    const window = readWindow(fields, WINDOW), every = window === null ? 1 : readPattern(fields);
    const absent = (layer: number) => (layer + 1) % every !== 0;
    return {
      model_type: "exaone4",
      sliding_window: window,
      layer_types: readLayerTypes(fields, layers, { window, absent }),
      attention_bias: refuseBias(fields, "attention_bias", "an EXAONE 4"),
      mlp_bias: refuseBias(fields, "mlp_bias", "an EXAONE 4"),
    };
  },
  spec(config) {
    const spec = layeredSpec(config), isHybrid = config.sliding_window !== null;
    return {
      ...spec,
      norms: POST_NORMS,
      qkNorm: { over: "head", q: "self_attn.q_norm", k: "self_attn.k_norm" },
      layers: spec.layers.map((layer) =>
        isHybrid && layer.window === null ? { ...layer, rope: null } : layer
      ),
    };
  },
  json: ({ layer_types, sliding_window }) => ({
    layer_types,
    sliding_window,
    sliding_window_pattern: sliding_window === null ? null : patternOf(layer_types),
  }),
  withBias: () => undefined,
};
