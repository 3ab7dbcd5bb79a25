/**
 * LoRA adapters in PEFT's format: a folder with `adapter_config.json` and
 * `adapter_model.safetensors`. https://huggingface.co/docs/peft/developer_guides/checkpoint
 *
 * @module
 */

import { join } from "node:path";
import { UserError } from "../kernels/errors.ts";
import { type LlamaConfig, weightShapes } from "./config.ts";
import { toFloat32 } from "./half.ts";
import { openSafetensors, type SafetensorsFile, writeSafetensors } from "./safetensors.ts";
import {
  brief,
  exists,
  type FileDtype,
  isObject,
  readJson,
  sameShape,
  writeFolder,
  writeJson,
} from "./weights.ts";

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

/** A float32 tensor in host memory. */
export interface AdapterTensor {
  /** `[r, in]` for A, `[out, r]` for B. */
  shape: number[];
  data: Float32Array<ArrayBuffer>;
}

/** An adapter in host memory; tensors under PEFT's names. */
export interface Adapter {
  config: AdapterConfig;
  tensors: Map<string, AdapterTensor>;
}

const CONFIG_FILE = "adapter_config.json";
const TENSORS_FILE = "adapter_model.safetensors";

/** PEFT's name of A `[r, in]` or B `[out, r]` of one linear layer. */
export function adapterTensorName(layer: number, module: LinearModule, matrix: "A" | "B"): string {
  const parent = LINEAR_MODULES[module];
  return `base_model.model.model.layers.${layer}.${parent}.${module}.lora_${matrix}.weight`;
}

/** Every tensor of an adapter for a model, by name, with its shape; layers in order, A before B. */
export function adapterShapes(
  model: LlamaConfig,
  { r, target_modules }: Pick<AdapterConfig, "r" | "target_modules">,
): Map<string, number[]> {
  const weights = weightShapes(model), shapes = new Map<string, number[]>();
  for (let layer = 0; layer < model.num_hidden_layers; layer++) {
    for (const module of target_modules) {
      const weight = `model.layers.${layer}.${LINEAR_MODULES[module]}.${module}.weight`;
      const [out, input] = weights.get(weight)!;
      shapes.set(adapterTensorName(layer, module, "A"), [r, input]);
      shapes.set(adapterTensorName(layer, module, "B"), [out, r]);
    }
  }
  return shapes;
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

/** Reads `adapter_config.json`; whatever is not plain LoRA of linear layers is refused by name. */
function parseAdapterConfig(json: unknown, file: string): AdapterConfig {
  if (!isObject(json)) throw new UserError(`${file}: expected a JSON object`);
  const known: Record<string, [ok: (value: unknown) => boolean, expected: string]> = {
    peft_type: [(v) => v === "LORA", `"LORA"`],
    task_type: [(v) => v === undefined || v === null || v === "CAUSAL_LM", `"CAUSAL_LM"`],
    r: [
      (v) => Number.isSafeInteger(v) && (v as number) >= 1 && (v as number) <= 65536,
      "a whole number from 1 to 65536",
    ],
    lora_alpha: [
      (v) => typeof v === "number" && Number.isFinite(v) && v > 0,
      "a positive number",
    ],
    lora_dropout: [
      (v) => v === undefined || (typeof v === "number" && v >= 0 && v < 1),
      "a number from 0 to below 1",
    ],
    target_modules: [
      (v) => Array.isArray(v) && v.length > 0 && v.every(isLinearModule),
      `a list out of ${Object.keys(LINEAR_MODULES).join(", ")}`,
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
  return {
    r: json.r as number,
    lora_alpha: json.lora_alpha as number,
    lora_dropout: (json.lora_dropout ?? 0) as number,
    target_modules: [...new Set(json.target_modules as LinearModule[])],
    base_model_name_or_path: (json.base_model_name_or_path ?? null) as string | null,
  };
}

/** Checks names, shapes and completeness of an adapter's tensors as far as its config tells them. */
function checkTensors(file: SafetensorsFile, config: AdapterConfig): void {
  const fail = (name: string, problem: string): never => {
    throw new UserError(`${file.path}: tensor ${brief(name)} ${problem}`);
  };
  const layers = new Set<number>();
  for (const [name, { dtype, shape }] of file.tensors) {
    const match = name.match(/\.layers\.(0|[1-9]\d{0,5})\.\w+\.(\w+)\.lora_([AB])\.weight$/);
    const [layer, module, matrix] = match === null ? [] : [Number(match[1]), match[2], match[3]];
    if (
      layer === undefined || !isLinearModule(module) ||
      name !== adapterTensorName(layer, module, matrix as "A" | "B")
    ) {
      return fail(name, "is no LoRA matrix of a Llama's linear layer");
    }
    if (!config.target_modules.includes(module)) {
      fail(name, `is for ${module}, which is not in target_modules of ${CONFIG_FILE}`);
    }
    if (shape.length !== 2 || shape[matrix === "A" ? 0 : 1] !== config.r || shape.includes(0)) {
      const form = matrix === "A" ? `[${config.r}, in]` : `[out, ${config.r}]`;
      fail(name, `has shape ${brief(shape)}, expected ${form} since r is ${config.r}`);
    }
    if (!["F32", "F16", "BF16"].includes(dtype)) {
      fail(name, `has dtype ${dtype}, expected F32, F16 or BF16`);
    }
    layers.add(layer);
  }
  if (layers.size === 0) throw new UserError(`${file.path}: holds no LoRA matrices`);
  for (const layer of layers) {
    for (const module of config.target_modules) {
      for (const matrix of ["A", "B"] as const) {
        const name = adapterTensorName(layer, module, matrix);
        if (!file.tensors.has(name)) fail(name, "is missing");
      }
    }
  }
}

/**
 * Reads an adapter folder. Tensors stored as f16 or bf16 are widened to float32.
 *
 * That it fits a model is checked by `checkAdapter`.
 *
 * @throws UserError that names the file and the field or tensor, for everything that is not plain
 *   LoRA of a Llama's linear layers (DoRA, rsLoRA, trained biases, rank patterns ...).
 */
export function readAdapter(folder: string): Adapter {
  const configPath = join(folder, CONFIG_FILE), tensorsPath = join(folder, TENSORS_FILE);
  const config = parseAdapterConfig(readJson(configPath), configPath);
  if (!exists(tensorsPath)) {
    throw new UserError(`${folder}: expected ${TENSORS_FILE} beside ${CONFIG_FILE}`);
  }
  const file = openSafetensors(tensorsPath);
  try {
    checkTensors(file, config);
    const tensors = new Map<string, AdapterTensor>();
    for (const name of [...file.tensors.keys()].sort()) {
      const { dtype, shape, begin, end } = file.tensors.get(name)!;
      const [bytes] = file.read(name, Math.ceil((end - begin) / 4) * 4); // one chunk: all of it
      tensors.set(name, { shape, data: toFloat32(bytes, dtype as FileDtype) });
    }
    return { config, tensors };
  } finally {
    file.close();
  }
}

/**
 * Checks that an adapter fits a model: the same layers, and matrices of its sizes.
 *
 * @param folder What the adapter is called in messages.
 * @throws UserError that names the tensor and the two shapes.
 */
export function checkAdapter(
  { config, tensors }: Adapter,
  model: LlamaConfig,
  folder: string,
): void {
  const shapes = adapterShapes(model, config);
  for (const [name, expected] of shapes) {
    const tensor = tensors.get(name);
    const problem = tensor === undefined
      ? `is missing, but the model has ${model.num_hidden_layers} layers`
      : !sameShape(tensor.shape, expected)
      ? `has shape ${brief(tensor.shape)}, but the model needs ${brief(expected)}`
      : undefined;
    if (problem !== undefined) {
      throw new UserError(`${folder}: adapter tensor ${brief(name)} ${problem}`);
    }
  }
  for (const name of tensors.keys()) {
    if (shapes.has(name)) continue;
    throw new UserError(
      `${folder}: adapter tensor ${brief(name)} is for a layer that the model, ` +
        `with ${model.num_hidden_layers} layers, does not have`,
    );
  }
}

/** `adapter_config.json` as PEFT writes it: sorted keys, and only fields that every release knows. */
function adapterConfigJson(config: AdapterConfig): Record<string, unknown> {
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

/**
 * Writes an adapter folder that PEFT and `readAdapter` load, as float32. The folder appears under its
 * name only when it is complete.
 *
 * @param tensors Under the names of `adapterTensorName`, with the shapes of `adapterShapes`.
 * @throws UserError where the folder exists or can't be written.
 */
export async function writeAdapter(
  folder: string,
  config: AdapterConfig,
  tensors: ReadonlyMap<string, { shape: readonly number[]; data: Float32Array }>,
): Promise<void> {
  const sorted = [...tensors].sort(([a], [b]) => a < b ? -1 : 1);
  await writeFolder(folder, async (temporary) => {
    writeJson(join(temporary, CONFIG_FILE), adapterConfigJson(config));
    await writeSafetensors(
      join(temporary, TENSORS_FILE),
      sorted.map(([name, { shape, data }]) => ({
        name,
        dtype: "F32",
        shape,
        data: [new Uint8Array(data.buffer, data.byteOffset, data.byteLength)],
      })),
    );
  });
}
