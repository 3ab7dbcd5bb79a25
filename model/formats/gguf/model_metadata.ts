/**
 * From a model's configuration to a GGUF file's metadata.
 *
 * @module
 */

import { UserError } from "../../../kernels/errors.ts";
import {
  archSpec,
  configJson,
  ggufFamily,
  type ModelConfig,
  parseConfig,
} from "../../families/config.ts";
import type { GgufFamily } from "../../families/gguf.ts";
import type { LinearModule } from "../../families/linear_modules.ts";
import type { ArchSpec } from "../../families/spec.ts";
import { brief } from "../../files/json_file.ts";
import { scalingKeys } from "./rope_keys.ts";
import { f32, type GgufMetadata, type GgufValue, text, u32 } from "./values.ts";
import type { GgufFormat } from "./quantization_mix.ts";

/** `general.file_type`: what most matrices are in. */
const FILE_TYPES: Readonly<Record<GgufFormat, number>> = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q8_0: 7,
  Q4_K_M: 15,
  BF16: 32,
};

/** The layout of blocks, which has been the same since 2023. */
const QUANTIZATION_VERSION = 2;

/** Fields of config.json that the files of every family say. */
const SAID = [
  "vocab_size",
  "hidden_size",
  "intermediate_size",
  "num_hidden_layers",
  "num_attention_heads",
  "num_key_value_heads",
  "head_dim",
  "max_position_embeddings",
  "rms_norm_eps",
  "rope_theta",
  "rope_scaling",
  "original_max_position_embeddings",
  "partial_rotary_factor",
  "attention_bias",
  "mlp_bias",
  "tie_word_embeddings",
  "bos_token_id",
  "eos_token_id",
];

/** Elements of a head that are rotated. */
function rotatedElements({ layers, head_dim }: ArchSpec): number {
  return layers.find(({ rope }) => rope !== null)?.rope?.rotary.dims ?? head_dim;
}

/** Whether two specifications compute the same, as far as f32 tells their numbers apart. */
function isSame(a: unknown, b: unknown): boolean {
  if (typeof a === "number" && typeof b === "number") {
    return a === b || Math.abs(a - b) <= 1e-6 * Math.abs(a);
  }
  if (a instanceof Set && b instanceof Set) return a.symmetricDifference(b).size === 0;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return a === b;
  const [first, second] = [a, b].map((value) => Object.entries(value));
  const other = new Map(second);
  return first.length === second.length &&
    first.every(([key, value]) => other.has(key) && isSame(value, other.get(key)));
}

/**
 * Refuses a model that the file would not say: its reader would make another one of it.
 *
 * @throws UserError that names the field of config.json.
 */
function checkSaid(config: ModelConfig, family: GgufFamily): void {
  const json = configJson(config), { architecture, fields, biases } = family;
  const spec = archSpec(config);
  const without = [...spec.biases].find((module: LinearModule) => !biases.includes(module));
  if (without !== undefined) {
    throw new UserError(
      `the model has a bias in ${without}, which GGUF has no place for with architecture "${architecture}"; expected ` +
        "a model without it",
    );
  }
  const names = new Set([...SAID, ...fields.map(({ field }) => field)]);
  const held = Object.entries(json).filter(([field]) => names.has(field));
  const said = { model_type: config.model_type, ...Object.fromEntries(held) };
  const read = parseConfig({ ...said, ...family.implied(said) }, "the GGUF file");
  if (isSame(spec, archSpec(read))) return;
  const other = configJson(read);
  const field = Object.keys(json).find((key) =>
    key !== "model_type" && key !== "architectures" && !isSame(json[key], other[key])
  );
  throw new UserError(
    `${field} is ${
      brief(field && json[field])
    }, which GGUF has no key for with architecture "${architecture}"; ` +
      `expected ${brief(field && other[field])}, which llama.cpp computes with`,
  );
}

/** The keys of a family's own fields. */
function ownKeys(config: ModelConfig, { fields }: GgufFamily): [string, GgufValue][] {
  const json = configJson(config);
  return fields.flatMap(({ key, field, type }): [string, GgufValue][] => {
    const value = json[field];
    if (value === null || value === undefined) return [];
    return [[key, type === "u32" ? u32(Number(value)) : f32(Number(value))]];
  });
}

/**
 * The metadata of a model, its tokenizer apart.
 *
 * @param options `name`: what it is called; `format`: what most matrices are written in.
 * @throws UserError that names the key of a configuration that GGUF can't hold.
 */
export function modelMetadata(
  config: ModelConfig,
  { name, format }: { name: string; format: GgufFormat },
): GgufMetadata {
  const family = ggufFamily(config), { architecture } = family;
  const scaling = scalingKeys(config, family);
  checkSaid(config, family);
  const keys: [string, GgufValue][] = [
    ["block_count", u32(config.num_hidden_layers)],
    ["context_length", u32(config.max_position_embeddings)],
    ["embedding_length", u32(config.hidden_size)],
    ["feed_forward_length", u32(config.intermediate_size)],
    ["attention.head_count", u32(config.num_attention_heads)],
    ["attention.head_count_kv", u32(config.num_key_value_heads)],
    ["attention.key_length", u32(config.head_dim)],
    ["attention.value_length", u32(config.head_dim)],
    ["attention.layer_norm_rms_epsilon", f32(config.rms_norm_eps)],
    ["rope.dimension_count", u32(rotatedElements(archSpec(config)))],
    ["rope.freq_base", f32(config.rope_theta)],
    ["vocab_size", u32(config.vocab_size)],
    ...scaling,
    ...ownKeys(config, family),
  ];
  return new Map([
    ["general.architecture", text(architecture)],
    ["general.type", text("model")],
    ["general.name", text(name)],
    ["general.file_type", u32(FILE_TYPES[format])],
    ["general.quantization_version", u32(QUANTIZATION_VERSION)],
    ...keys.map(([key, value]): [string, GgufValue] => [`${architecture}.${key}`, value]),
  ]);
}
