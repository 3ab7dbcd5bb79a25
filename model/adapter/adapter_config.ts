/**
 * `adapter_config.json` as PEFT writes it: which layers LoRA adapts, and how.
 * https://huggingface.co/docs/peft/package_reference/lora
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import { brief, isObject } from "../files/json_file.ts";

/** What `adapter_config.json` says, as far as it decides what an adapter computes; fields as in PEFT. */
export interface AdapterConfig {
  /** Rank, where `rank_pattern` says nothing else. */
  r: number;
  /** The update is scaled by `lora_alpha / r`, or with `use_rslora` by `lora_alpha / √r`. */
  lora_alpha: number;
  /** Probability in training, from 0 to below 1. */
  lora_dropout: number;
  /** Names of modules or their ends; or `all-linear`, or a pattern of whole names. */
  target_modules: string | readonly string[];
  /** Modules that are no targets after all, in the same form; null for none. */
  exclude_modules: string | readonly string[] | null;
  /** The blocks whose modules are targets; null for all. */
  layers_to_transform: readonly number[] | null;
  /** Patterns of what the list of blocks is called; null for any. */
  layers_pattern: readonly string[] | null;
  /** Other ranks and alphas, by a pattern of the end of a module's name. */
  rank_pattern: Readonly<Record<string, number>>;
  alpha_pattern: Readonly<Record<string, number>>;
  /** Ends of names of modules that are trained whole and stored with the adapter; null for none. */
  modules_to_save: readonly string[] | null;
  /** Tokens whose rows of an embedding are trained, by the end of the embedding's name; null for none. */
  trainable_token_indices: Readonly<Record<string, readonly number[]>> | null;
  /** Which of the model's own biases are trained. */
  bias: "none" | "all" | "lora_only";
  /** Whether B has a bias. */
  lora_bias: boolean;
  use_rslora: boolean;
  use_dora: boolean;
  /** Whether what is trained of a tied embedding is tied too. */
  ensure_weight_tying: boolean;
  /** The model that the adapter was trained for, or null where nothing is said. */
  base_model_name_or_path: string | null;
}

/** PEFT's word for every linear layer but the output projection, in any case of letters. */
export const ALL_LINEAR = "all-linear";

/** A configuration with PEFT's defaults where nothing is said. */
export function adapterConfig(
  said: Partial<AdapterConfig> & Pick<AdapterConfig, "r" | "target_modules">,
): AdapterConfig {
  return {
    lora_alpha: 8,
    lora_dropout: 0,
    exclude_modules: null,
    layers_to_transform: null,
    layers_pattern: null,
    rank_pattern: {},
    alpha_pattern: {},
    modules_to_save: null,
    trainable_token_indices: null,
    bias: "none",
    lora_bias: false,
    use_rslora: false,
    use_dora: false,
    ensure_weight_tying: false,
    base_model_name_or_path: null,
    ...said,
  };
}

/**
 * Fields that do not change what an adapter computes: provenance, recipes for an initialisation that has
 * already happened, and `fan_in_fan_out`, which PEFT turns off for a Llama's layers.
 */
const INERT_FIELDS = new Set([
  "auto_mapping",
  "corda_config",
  "eva_config",
  "fan_in_fan_out",
  "inference_mode",
  "loftq_config",
  "lora_ga_config",
  "megatron_core",
  "peft_version",
  "qalora_group_size",
  "revision",
  "runtime_config",
]);

/** Initialisations that leave the base model's weights alone, so that only A and B matter. */
const PLAIN_INITIALISATIONS: readonly unknown[] = [true, false, "gaussian", "orthogonal", "eva"];
/** Those that change the base model's weights, and that PEFT can turn into plain LoRA. */
const CONVERTIBLE = /^(pissa(_niter_\d+)?|olora|corda|lora_ga)$/;

function isNeutral(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

const isWhole = (low: number, high: number) => (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) >= low && Number(value) <= high;
const isRank = isWhole(1, 65536);
// As float32 holds it, divided by the rank.
const isAlpha = (value: unknown): value is number =>
  typeof value === "number" && value >= 1e-37 && value <= 1e37;
const isName = (value: unknown): value is string => typeof value === "string" && value !== "";
const isListOf = <T>(is: (value: unknown) => value is T) => (value: unknown): value is T[] =>
  Array.isArray(value) && value.every(is);
const isNames = isListOf(isName);
const isTokens = isListOf(isWhole(0, 2 ** 31));
const isRecordOf =
  <T>(is: (value: unknown) => value is T) => (value: unknown): value is Record<string, T> =>
    isObject(value) && Object.values(value).every(is);
const isMissing = (value: unknown) => value === undefined || value === null;
const orMissing = (ok: (value: unknown) => boolean) => (value: unknown) =>
  isMissing(value) || ok(value);
const isFlag = (value: unknown) => typeof value === "boolean";
const isPattern = (value: unknown) => isName(value) || isNames(value);

const NAMES = "a list of names of modules, or a pattern";

/** Each field that is read: what it may be, and how that is said. */
const FIELDS: Record<string, [ok: (value: unknown) => boolean, expected: string]> = {
  peft_type: [(v) => v === "LORA", `"LORA"`],
  task_type: [(v) => isMissing(v) || v === "CAUSAL_LM", `"CAUSAL_LM"`],
  r: [isRank, "a whole number from 1 to 65536"],
  lora_alpha: [isAlpha, "a number from 1e-37 to 1e37"],
  lora_dropout: [
    (v) => v === undefined || (typeof v === "number" && v >= 0 && v < 1),
    "a number from 0 to below 1",
  ],
  target_modules: [
    (v) => isName(v) || (isNames(v) && v.length > 0),
    `"${ALL_LINEAR}", ${NAMES}`,
  ],
  exclude_modules: [orMissing(isPattern), NAMES],
  layers_to_transform: [
    orMissing((v) => isWhole(0, 1e6)(v) || isListOf(isWhole(0, 1e6))(v)),
    "a block's number, or a list of them",
  ],
  layers_pattern: [orMissing(isPattern), "a pattern, or a list of them"],
  rank_pattern: [orMissing(isRecordOf(isRank)), "ranks from 1 to 65536 by pattern"],
  alpha_pattern: [orMissing(isRecordOf(isAlpha)), "numbers from 1e-37 to 1e37 by pattern"],
  modules_to_save: [orMissing(isNames), "a list of names of modules"],
  trainable_token_indices: [
    orMissing((v) => isTokens(v) || isRecordOf(isTokens)(v)),
    "a list of tokens, or such lists by an embedding's name",
  ],
  bias: [
    (v) => v === undefined || v === "none" || v === "all" || v === "lora_only",
    `"none", "all" or "lora_only"`,
  ],
  lora_bias: [orMissing(isFlag), "true or false"],
  use_rslora: [orMissing(isFlag), "true or false"],
  use_dora: [orMissing(isFlag), "true or false"],
  ensure_weight_tying: [orMissing(isFlag), "true or false"],
  init_lora_weights: [
    (v) => v === undefined || PLAIN_INITIALISATIONS.includes(v),
    "one that leaves the base model's weights unchanged (true, false, gaussian, orthogonal, eva)",
  ],
  base_model_name_or_path: [orMissing((v) => typeof v === "string"), "a string"],
};

/** What to do about an initialisation that changed the base model's weights. */
function initialisationRemedy(value: unknown): string {
  if (typeof value !== "string" || !CONVERTIBLE.test(value)) return "";
  return `: A and B belong to the weights that ${value} left in the base model. Where the adapter was trained, ` +
    `PEFT writes one that belongs to the model itself with model.save_pretrained("converted", ` +
    `path_initial_model_for_weight_conversion="INITIAL"), INITIAL being the adapter as it was saved before training`;
}

/** Refuses what PEFT refuses together. */
function checkTogether(json: Record<string, unknown>, file: string): void {
  const { target_modules, layers_to_transform, layers_pattern, lora_bias, use_dora } = json;
  const fail = (what: string): never => {
    throw new UserError(`${file}: ${what}, which PEFT does not have together`);
  };
  const layers = [layers_to_transform, layers_pattern];
  if (typeof target_modules === "string" && !layers.every(isMissing)) {
    const is = `target_modules is ${brief(target_modules)}`;
    fail(`${is} and layers_to_transform or layers_pattern is given`);
  }
  const isPattern = !isMissing(layers_pattern) && !isNeutral(layers_pattern);
  if (isPattern && isMissing(layers_to_transform)) {
    fail("layers_pattern is given without layers_to_transform");
  }
  if (lora_bias && use_dora) fail("lora_bias and use_dora are true");
}

/**
 * Reads `adapter_config.json`.
 *
 * @throws UserError that names the file and the field, for whatever is not LoRA as this project computes it.
 */
export function parseAdapterConfig(json: unknown, file: string): AdapterConfig {
  if (!isObject(json)) throw new UserError(`${file}: expected a JSON object`);
  for (const [field, [ok, expected]] of Object.entries(FIELDS)) {
    const value = json[field];
    if (ok(value)) continue;
    const has = value === undefined ? "is missing" : `is ${brief(value)}`;
    const remedy = field === "init_lora_weights" ? initialisationRemedy(value) : "";
    throw new UserError(`${file}: ${field} ${has}, expected ${expected}${remedy}`);
  }
  for (const [field, value] of Object.entries(json)) {
    if (Object.hasOwn(FIELDS, field) || INERT_FIELDS.has(field) || isNeutral(value)) continue;
    const name = /^\w{1,80}$/.test(field) ? field : brief(field);
    throw new UserError(`${file}: ${name} is ${brief(value)}, which is not supported`);
  }
  checkTogether(json, file);
  return configOf(json);
}

/** The values of checked fields. An empty list means the same as none. */
function configOf(json: Record<string, unknown>): AdapterConfig {
  const names = Object.keys(adapterConfig({ r: 1, target_modules: [] }));
  const said = Object.entries(json).filter(([field, value]) =>
    names.includes(field) && !isMissing(value) && !(Array.isArray(value) && value.length === 0)
  );
  const config = adapterConfig(
    Object.fromEntries(said) as unknown as Parameters<typeof adapterConfig>[0],
  );
  const { layers_to_transform: layers, layers_pattern: pattern } = json;
  const tokens: unknown = config.trainable_token_indices;
  return {
    ...config,
    layers_to_transform: typeof layers === "number" ? [layers] : config.layers_to_transform,
    layers_pattern: config.layers_to_transform === null
      ? null
      : isName(pattern)
      ? [pattern]
      : config.layers_pattern,
    trainable_token_indices: isTokens(tokens)
      ? { embed_tokens: tokens }
      : config.trainable_token_indices,
  };
}

/**
 * `adapter_config.json` as PEFT writes it: sorted keys. Fields that not every release knows are there only where
 * they say something.
 */
export function adapterConfigJson(config: AdapterConfig): Record<string, unknown> {
  const { trainable_token_indices: tokens } = config;
  const names = Object.keys(tokens ?? {});
  const recent = {
    ensure_weight_tying: config.ensure_weight_tying || undefined,
    exclude_modules: config.exclude_modules ?? undefined,
    lora_bias: config.lora_bias || undefined,
    // Every release that has it takes the short form.
    trainable_token_indices: tokens && names.length === 1 && names[0] === "embed_tokens"
      ? tokens.embed_tokens
      : tokens ?? undefined,
  };
  const json: Record<string, unknown> = {
    alpha_pattern: config.alpha_pattern,
    auto_mapping: null,
    base_model_name_or_path: config.base_model_name_or_path,
    bias: config.bias,
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: config.layers_pattern,
    layers_to_transform: config.layers_to_transform,
    lora_alpha: config.lora_alpha,
    lora_dropout: config.lora_dropout,
    modules_to_save: config.modules_to_save,
    peft_type: "LORA",
    r: config.r,
    rank_pattern: config.rank_pattern,
    revision: null,
    target_modules: config.target_modules,
    task_type: "CAUSAL_LM",
    use_dora: config.use_dora,
    use_rslora: config.use_rslora,
  };
  for (const [field, value] of Object.entries(recent)) {
    if (value !== undefined) json[field] = value;
  }
  return Object.fromEntries(Object.entries(json).sort(([a], [b]) => a < b ? -1 : 1));
}
