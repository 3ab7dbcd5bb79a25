/**
 * `adapter_config.json` as PEFT writes it: which linear layers LoRA adapts, and how.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import { brief, isObject } from "./weights.ts";

/** The linear layers of a block, and the submodule that each belongs to. */
export const LINEAR_MODULES = {
  q_proj: "self_attn",
  k_proj: "self_attn",
  v_proj: "self_attn",
  o_proj: "self_attn",
  gate_proj: "mlp",
  up_proj: "mlp",
  down_proj: "mlp",
} as const;

/** A linear layer that LoRA can adapt. */
export type LinearModule = keyof typeof LINEAR_MODULES;

/** Whether a word names one of the seven linear layers. */
export function isLinearModule(name: unknown): name is LinearModule {
  return typeof name === "string" && Object.hasOwn(LINEAR_MODULES, name);
}

/** What `adapter_config.json` says, as far as it is used here. */
export interface AdapterConfig {
  /** Rank. */
  r: number;
  /** The update is scaled by `lora_alpha / r`. */
  lora_alpha: number;
  /** Probability in training, from 0 to below 1. */
  lora_dropout: number;
  target_modules: LinearModule[];
  /** The model that the adapter was trained for, or null where nothing is said. */
  base_model_name_or_path: string | null;
}

/**
 * Fields of `adapter_config.json` that do not change what an adapter computes: provenance, defaults
 * of other fields, and recipes for an initialisation that has already happened.
 */
const INERT_FIELDS = new Set([
  "auto_mapping",
  "corda_config",
  "ensure_weight_tying",
  "eva_config",
  "inference_mode",
  "layers_pattern",
  "lora_ga_config",
  "megatron_core",
  "peft_version",
  "qalora_group_size",
  "revision",
  "runtime_config",
]);

/** Initialisations that leave the base model's weights alone, so that only A and B matter. */
const PLAIN_INITIALISATIONS = [true, false, "gaussian", "orthogonal", "eva"];

function isNeutral(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

/** PEFT's word for every linear layer of the blocks, in any case of letters. */
const ALL_LINEAR = "all-linear";

/** A linear layer as a list names it: PEFT matches the end of its full name. */
const TARGET = /^(?:(?:(?:model\.)?layers\.(0|[1-9]\d{0,5})\.)?(self_attn|mlp)\.)?(\w+)$/;

/** The linear layers of `target_modules`; for those that it names block by block, the blocks. */
export type Targets = Map<LinearModule, Set<number> | "every">;

/**
 * Reads `target_modules`: `all-linear`, or a list of names with or without what stands before them in a
 * model (`q_proj`, `self_attn.q_proj`, `model.layers.0.self_attn.q_proj`).
 *
 * @returns Undefined for anything else; another string is a regular expression to PEFT.
 */
function parseTargets(value: unknown): Targets | undefined {
  if (typeof value === "string" && value.toLowerCase() === ALL_LINEAR) {
    const modules = Object.keys(LINEAR_MODULES) as LinearModule[];
    return new Map(modules.map((module) => [module, "every"]));
  }
  if (!Array.isArray(value) || value.length === 0) return undefined;
  const targets: Targets = new Map();
  for (const name of value) {
    const [, block, parent, module] = typeof name === "string" ? TARGET.exec(name) ?? [] : [];
    if (!isLinearModule(module) || (parent ?? LINEAR_MODULES[module]) !== LINEAR_MODULES[module]) {
      return undefined;
    }
    const before = targets.get(module);
    if (block === undefined || before === "every") targets.set(module, "every");
    else targets.set(module, (before ?? new Set()).add(Number(block)));
  }
  return targets;
}

/**
 * Reads `adapter_config.json`.
 *
 * @throws UserError that names the file and the field, for whatever is not plain LoRA of linear layers.
 */
export function parseAdapterConfig(
  json: unknown,
  file: string,
): { config: AdapterConfig; targets: Targets } {
  if (!isObject(json)) throw new UserError(`${file}: expected a JSON object`);
  const targets = parseTargets(json.target_modules);
  const known: Record<string, [ok: (value: unknown) => boolean, expected: string]> = {
    peft_type: [(v) => v === "LORA", `"LORA"`],
    task_type: [(v) => v === undefined || v === null || v === "CAUSAL_LM", `"CAUSAL_LM"`],
    r: [
      (v) => Number.isSafeInteger(v) && (v as number) >= 1 && (v as number) <= 65536,
      "a whole number from 1 to 65536",
    ],
    lora_alpha: [
      (v) => typeof v === "number" && v >= 1e-37 && v <= 1e37, // as float32 holds it, divided by r
      "a number from 1e-37 to 1e37",
    ],
    lora_dropout: [
      (v) => v === undefined || (typeof v === "number" && v >= 0 && v < 1),
      "a number from 0 to below 1",
    ],
    target_modules: [
      () => targets !== undefined,
      `"${ALL_LINEAR}" or a list out of ${Object.keys(LINEAR_MODULES).join(", ")}`,
    ],
    bias: [(v) => v === undefined || v === "none", `"none"`],
    init_lora_weights: [
      (v) => v === undefined || PLAIN_INITIALISATIONS.includes(v as string | boolean),
      "one that leaves the base model's weights unchanged (true, false, gaussian, orthogonal, eva)",
    ],
    base_model_name_or_path: [
      (v) => v === undefined || v === null || typeof v === "string",
      "a string",
    ],
  };
  for (const [field, [ok, expected]] of Object.entries(known)) {
    if (ok(json[field])) continue;
    const has = json[field] === undefined ? "is missing" : `is ${brief(json[field])}`;
    throw new UserError(`${file}: ${field} ${has}, expected ${expected}`);
  }
  for (const [field, value] of Object.entries(json)) {
    if (Object.hasOwn(known, field) || INERT_FIELDS.has(field) || isNeutral(value)) continue;
    throw new UserError(`${file}: ${field} is ${brief(value)}, which is not supported`);
  }
  const config = {
    r: json.r as number,
    lora_alpha: json.lora_alpha as number,
    lora_dropout: (json.lora_dropout ?? 0) as number,
    target_modules: [...targets!.keys()],
    base_model_name_or_path: (json.base_model_name_or_path ?? null) as string | null,
  };
  return { config, targets: targets! };
}

/** `adapter_config.json` as PEFT writes it: sorted keys, and only fields that every release knows. */
export function adapterConfigJson(config: AdapterConfig): Record<string, unknown> {
  return {
    alpha_pattern: {},
    auto_mapping: null,
    base_model_name_or_path: config.base_model_name_or_path,
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: config.lora_alpha,
    lora_dropout: config.lora_dropout,
    modules_to_save: null,
    peft_type: "LORA",
    r: config.r,
    rank_pattern: {},
    revision: null,
    target_modules: config.target_modules,
    task_type: "CAUSAL_LM",
    use_dora: false,
    use_rslora: false,
  };
}
