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
import type { GgufFamily, GgufField } from "../../families/gguf.ts";
import type { ArchSpec } from "../../families/spec.ts";
import { brief } from "../../files/json_file.ts";
import { scalingKeys } from "./rope_keys.ts";
import { f32, flags, type GgufMetadata, type GgufValue, text, u32 } from "./values.ts";
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

/** What a `config.json` of the model says, every number as one. */
function saidBy(config: ModelConfig, { flat }: GgufFamily): Record<string, unknown> {
  return flat(JSON.parse(JSON.stringify(configJson(config))));
}

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

/** What a reader makes of a file that has these fields. */
function readAs(
  config: ModelConfig,
  family: GgufFamily,
  fields: readonly GgufField[],
): ModelConfig {
  const names = new Set([...SAID, ...fields.map(({ field }) => field)]);
  const held = Object.entries(saidBy(config, family)).filter(([field]) => names.has(field));
  const said = { model_type: config.model_type, ...Object.fromEntries(held) };
  return parseConfig({ ...said, ...family.implied(said) }, "the GGUF file");
}

/**
 * The family's own fields that a file needs, so that its reader makes the same model of it.
 *
 * @throws UserError that names the field of config.json which no key holds.
 */
function neededFields(config: ModelConfig, family: GgufFamily): GgufField[] {
  const { architecture, fields, biases } = family, spec = archSpec(config);
  const without = [...spec.biases].find((module) => !biases.includes(module));
  if (without !== undefined) {
    throw new UserError(
      `the model has a bias in ${without}, which GGUF has no place for with architecture "${architecture}"; expected ` +
        "a model without it",
    );
  }
  // Windows by layer are said where they are others than the family's: llama.cpp has the key since 2025.
  const few = fields.filter(({ type }) => type !== "windows");
  if (isSame(spec, archSpec(readAs(config, family, few)))) return few;
  const read = readAs(config, family, fields);
  if (isSame(spec, archSpec(read))) return [...fields];
  const json = saidBy(config, family), other = saidBy(read, family);
  const field =
    Object.keys(json).find((key) =>
      key !== "model_type" && key !== "architectures" && !isSame(json[key], other[key])
    ) ?? "model_type";
  throw new UserError(
    `${field} is ${
      brief(json[field])
    }, which GGUF has no key for with architecture "${architecture}"; expected ` +
      `${brief(other[field])}, which llama.cpp computes with`,
  );
}

/** The keys of a family's own fields. */
function ownKeys(config: ModelConfig, family: GgufFamily): [string, GgufValue][] {
  const json = saidBy(config, family), fields = neededFields(config, family);
  return fields.flatMap(({ key, field, type }): [string, GgufValue][] => {
    const value = json[field];
    if (value === null || value === undefined) return [];
    if (Array.isArray(value)) return [[key, flags(value.map((v) => v === "sliding_attention"))]];
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
