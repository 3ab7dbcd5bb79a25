/**
 * Phi-3 and Phi-4-mini: a Llama whose q, k and v are one linear layer, and gate and up another. A part of each head may
 * be rotated, with other frequencies in long texts. Source: Abdin et al., "Phi-3 Technical Report", 2024.
 *
 * @module
 */
import type { Fields } from "../files/json_fields.ts";
import { isObject } from "../files/json_file.ts";
import { type BaseConfig, type Family, LLAMA_DEFAULTS } from "./base_config.ts";
import { refuseBias } from "./biases.ts";
import { PLAIN_GGUF, WINDOW_FIELD } from "./gguf.ts";
import { checkLayerTypes, readWindow } from "./layer_types.ts";
import { FUSED_LAYERS } from "./linear_modules.ts";
import { llamaSpec } from "./llama_spec.ts";

/** `transformers`' Phi3Config. */
export interface Phi3Config extends BaseConfig {
  model_type: "phi3";
  /** Which part of each head is rotated; rounded down to whole elements. */
  partial_rotary_factor: number;
}

/** Its class in `transformers`. */
const ARCHITECTURE = "Phi3ForCausalLM";

/** The part of each head that is rotated, which releases 5 write with the rest of RoPE. */
function readPart(fields: Fields): number {
  const { rope_scaling, rope_parameters, partial_rotary_factor } = fields.json;
  const nested = [rope_scaling, rope_parameters].filter(isObject)
    .map((rope) => rope.partial_rotary_factor);
  const part = [...nested, partial_rotary_factor].find((value) => (value ?? null) !== null) ?? 1;
  const isPart = typeof part === "number" && part > 0 && part <= 1;
  return isPart ? part : fields.fail("partial_rotary_factor", "a number above 0, up to 1");
}

/** Published files name code of their own, which `transformers` has as this family since release 4.41. */
function checkCode(fields: Fields): void {
  if (!fields.has("auto_map")) return;
  const { auto_map: map } = fields.json;
  const code = isObject(map) ? map.AutoModelForCausalLM : undefined;
  if (code === undefined || typeof code === "string" && code.endsWith(`.${ARCHITECTURE}`)) return;
  fields.fail("auto_map", `none, or the code of ${ARCHITECTURE}`);
}

/** `transformers` opens no Phi-3 with another scaling. */
function checkScaling(fields: Fields): void {
  for (const field of ["rope_scaling", "rope_parameters"]) {
    const value = fields.json[field];
    if (!isObject(value)) continue;
    const type = value.rope_type ?? value.type ?? "default";
    if (["default", "longrope", "su"].includes(String(type))) continue;
    fields.fail(field, 'type "default" or "longrope"');
  }
}

export const PHI3: Family<Phi3Config> = {
  model_type: "phi3",
  architecture: ARCHITECTURE,
  gguf: {
    ...PLAIN_GGUF,
    architecture: "phi3",
    rotatesParts: true,
    scalings: ["longrope"],
    fields: [WINDOW_FIELD],
  },
  defaults: {
    ...LLAMA_DEFAULTS,
    max_position_embeddings: 4096,
    original_max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
    eos_token_id: 32000,
  },
  ropeFields: (fields) => fields,
  activationKey: "hidden_act",
  reads: ["auto_map", "partial_rotary_factor"],
  byLayer: [],
  read(fields) {
    checkCode(fields);
    checkScaling(fields);
    const window = readWindow(fields, null);
    checkLayerTypes(fields, window);
    return {
      model_type: "phi3",
      sliding_window: window,
      partial_rotary_factor: readPart(fields),
      attention_bias: refuseBias(fields, "attention_bias", "a Phi-3"),
      mlp_bias: refuseBias(fields, "mlp_bias", "a Phi-3"),
    };
  },
  spec(config) {
    const spec = llamaSpec(config), { head_dim, partial_rotary_factor: part } = config;
    const rotary = { dims: Math.floor(head_dim * part), pairs: "halves" } as const;
    return {
      ...spec,
      linears: FUSED_LAYERS,
      layers: spec.layers.map((layer) => ({
        ...layer,
        rope: layer.rope && { ...layer.rope, rotary },
      })),
    };
  },
  json: ({ sliding_window, partial_rotary_factor, rope_scaling }) => ({
    sliding_window,
    partial_rotary_factor,
    ...rope_scaling?.type === "longrope"
      ? { original_max_position_embeddings: rope_scaling.original_max_position_embeddings }
      : {},
  }),
  withBias: () => undefined,
};
