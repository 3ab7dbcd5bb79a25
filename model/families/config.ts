/**
 * The configuration of a model of any family: read from Hugging Face's `config.json` and written, and what
 * follows from it.
 *
 * A family is a file of this folder and a line in {@linkcode FAMILIES}.
 *
 * @module
 */

import { UsageError, UserError } from "../../kernels/errors.ts";
import type { GgufFamily } from "./gguf.ts";
import type { LinearModule } from "./linear_modules.ts";
import { modernConfig } from "./first_conversions.ts";
import { Fields } from "../files/json_fields.ts";
import { isObject } from "../files/json_file.ts";
import { type BaseConfig, baseJson, type Family, readConfig } from "./base_config.ts";
import { EXAONE4 } from "./exaone4.ts";
import { GEMMA2 } from "./gemma2.ts";
import { GEMMA3_TEXT } from "./gemma3.ts";
import { GRANITE } from "./granite.ts";
import { HELIUM } from "./helium.ts";
import { LLAMA } from "./llama.ts";
import { MINISTRAL } from "./ministral.ts";
import { MINISTRAL3 } from "./ministral3.ts";
import { MISTRAL } from "./mistral.ts";
import { OLMO2 } from "./olmo2.ts";
import { OLMO3 } from "./olmo3.ts";
import { PHI3 } from "./phi3.ts";
import { QWEN2 } from "./qwen2.ts";
import { QWEN3 } from "./qwen3.ts";
import { SEED_OSS } from "./seed_oss.ts";
import { SMOLLM3 } from "./smollm3.ts";
import { type ArchSpec, specShapes } from "./spec.ts";

/** The families, by `model_type`. */
const FAMILIES = {
  llama: LLAMA,
  mistral: MISTRAL,
  ministral: MINISTRAL,
  ministral3: MINISTRAL3,
  qwen2: QWEN2,
  qwen3: QWEN3,
  smollm3: SMOLLM3,
  granite: GRANITE,
  olmo2: OLMO2,
  olmo3: OLMO3,
  seed_oss: SEED_OSS,
  exaone4: EXAONE4,
  gemma2: GEMMA2,
  gemma3_text: GEMMA3_TEXT,
  phi3: PHI3,
  helium: HELIUM,
};

type Families = typeof FAMILIES;
/** The configuration of a family. */
type ConfigOf<K extends keyof Families> = Families[K] extends Family<infer C> ? C : never;

/** A model's hyperparameters, named as in Hugging Face's `config.json`. */
export type ModelConfig = { [K in keyof Families]: ConfigOf<K> }[keyof Families];

/** The family of a configuration, which takes that configuration: the types are those of one entry. */
const familyOf = ({ model_type }: ModelConfig): Family<BaseConfig> => FAMILIES[model_type];

/**
 * Reads a Hugging Face `config.json` of a known model type, as `transformers` 4 and 5
 * write it, and as the first conversions of LLaMA have it (model/families/first_conversions.ts). What the file
 * leaves out is what `transformers` takes, but for the five sizes of the model: those are never guessed.
 *
 * The dtype of the weights (`torch_dtype`, `dtype`) is not read: the files with the weights say it.
 *
 * @param json The parsed file.
 * @param file Its name, for messages.
 * @throws UserError that names the field, for everything that is missing, malformed or not honoured
 *   (another architecture, mrope, layers of another type, ...).
 */
export function parseConfig(json: unknown, file: string): ModelConfig {
  if (!isObject(json)) throw new UserError(`${file}: expected a JSON object`);
  const fields = new Fields(modernConfig(json), file), type = fields.json.model_type;
  if (typeof type !== "string" || !Object.hasOwn(FAMILIES, type)) {
    return fields.fail("model_type", oneOf(Object.keys(FAMILIES)));
  }
  const family: Family<ModelConfig> = FAMILIES[type as keyof Families];
  return readConfig(fields, family);
}

/** `"a", "b" or "c"`. */
function oneOf(names: readonly string[]): string {
  const quoted = names.map((name) => `"${name}"`);
  return `${quoted.slice(0, -1).join(", ")} or ${quoted.at(-1)}`;
}

/**
 * A `config.json` for `transformers`, in the spelling that releases 4 and 5 read; {@linkcode parseConfig}
 * reads it back unchanged.
 *
 * The dtype of the weights is not part of the shape: whoever writes them adds `torch_dtype`.
 */
export function configJson(config: ModelConfig): Record<string, unknown> {
  const family = familyOf(config);
  return { ...baseJson(config, family.architecture), ...family.json(config) };
}

/** What the model computes. */
export function archSpec(config: ModelConfig): ArchSpec {
  return familyOf(config).spec(config);
}

/** Every weight of a model in load order, with its shape; see {@linkcode specShapes}. */
export function weightShapes(config: ModelConfig): Map<string, number[]> {
  return specShapes(archSpec(config));
}

/** The model with a bias in a linear layer of its blocks; undefined where its family has no place for it. */
export function withBias(config: ModelConfig, module: LinearModule): ModelConfig | undefined {
  return familyOf(config).withBias(config, module) as ModelConfig | undefined;
}

/**
 * Most tokens of a text that the model can be given: `max_position_embeddings`, times the factor where
 * RoPE is scaled as `linear` or `dynamic`. With `llama3` and `longrope` the factor is in max_position_embeddings already,
 * with `yarn` in some files. A specification may be of shorter texts only.
 */
export function contextLength(config: ModelConfig): number {
  return Math.min(stretchedContext(config), archSpec(config).longestText ?? Infinity);
}

function stretchedContext(
  { max_position_embeddings: trained, rope_scaling: scaling }: ModelConfig,
): number {
  if (scaling?.type === "yarn") {
    const { factor, original_max_position_embeddings: original } = scaling;
    return Math.max(trained, Math.floor(factor * original));
  }
  const stretched = scaling?.type === "linear" || scaling?.type === "dynamic";
  return stretched ? Math.floor(trained * scaling.factor) : trained;
}

/**
 * The model cut after its first `layers` blocks.
 *
 * @param what What the model is called, for the message.
 * @throws {UsageError} where it has fewer blocks.
 */
export function withLayers(config: ModelConfig, layers: number, what: string): ModelConfig {
  const most = config.num_hidden_layers;
  if (!Number.isSafeInteger(layers) || layers < 1 || layers > most) {
    throw new UsageError(
      `layers is ${layers}, expected a whole number from 1 to the ${most} of ${what}`,
    );
  }
  const { byLayer } = familyOf(config);
  const lists = Object.entries(config).filter(([key]) => byLayer.some((name) => name === key));
  const cut = lists.map(([key, list]) => [key, list.slice(0, layers)]);
  return { ...config, num_hidden_layers: layers, ...Object.fromEntries(cut) };
}

/** How llama.cpp has its family. @throws {UserError} where the family is not written as GGUF. */
export function ggufFamily(config: ModelConfig): GgufFamily {
  const { gguf } = familyOf(config);
  if (gguf !== null) return gguf;
  throw new UserError(
    `model_type is "${config.model_type}", which is not written as GGUF; expected a model of another family`,
  );
}

/** The families that llama.cpp has, by `model_type`; the first of an architecture stands for it. */
export function ggufFamilies(): [model_type: string, gguf: GgufFamily][] {
  return Object.entries(FAMILIES).flatMap(([type, { gguf }]): [string, GgufFamily][] =>
    gguf === null ? [] : [[type, gguf]]
  );
}
