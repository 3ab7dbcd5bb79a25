/**
 * Model folders written as Hugging Face's `transformers` loads them: the model's own `config.json` with what changed,
 * its weights, and everything else that its folder held.
 *
 * @module
 */

import { join } from "node:path";
import { configJson, type ModelConfig, parseConfig, weightShapes } from "../families/config.ts";
import {
  type Carried,
  carriedFiles,
  copyFiles,
  type FileToMake,
  makeFiles,
} from "./carried_files.ts";
import { modernConfig, modernGeneration } from "../families/first_conversions.ts";
import { generationConfig } from "./generation_config.ts";
import { tensorBytes, type TensorToWrite, writeSafetensors } from "./write_safetensors.ts";
import { brief, isObject, readJson, readJsonToWrite, writeJson } from "../files/json_file.ts";
import { type FileDtype, sameShape } from "./weights.ts";
import { exists } from "../files/whole_file.ts";
import { writeFolder } from "../files/write_folder.ts";
import { VOCABULARY_FILES } from "./tokenizer_names.ts";

const SINGLE_FILE = "model.safetensors", INDEX_FILE = "model.safetensors.index.json";
const CONFIG_FILE = "config.json", GENERATION_FILE = "generation_config.json";

/** `transformers` names of the dtypes, for `dtype` and `torch_dtype`. */
const TORCH_DTYPES: Record<FileDtype, string> = {
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
};

/** Distributes tensors over files of at most `maxBytes` each, except where one alone is larger. */
function intoShards(tensors: readonly TensorToWrite[], maxBytes: number): TensorToWrite[][] {
  const shards: TensorToWrite[][] = [];
  let room = 0;
  for (const tensor of tensors) {
    const bytes = tensorBytes(tensor);
    if (shards.length === 0 || bytes > room) {
      shards.push([]);
      room = maxBytes;
    }
    shards[shards.length - 1].push(tensor);
    room -= bytes;
  }
  return shards;
}

/** The weights a model needs, in load order, out of those given; nothing may be missing or extra. */
function inLoadOrder(config: ModelConfig, tensors: Iterable<TensorToWrite>): TensorToWrite[] {
  const given = new Map([...tensors].map((tensor) => [tensor.name, tensor]));
  const shapes = weightShapes(config);
  const extra = [...given.keys()].find((name) => !shapes.has(name));
  if (extra !== undefined) throw new RangeError(`"${extra}" is no weight of this model`);
  return [...shapes].map(([name, shape]) => {
    const tensor = given.get(name);
    if (tensor === undefined) throw new RangeError(`weight "${name}" is not given`);
    if (!sameShape(tensor.shape, shape)) {
      throw new RangeError(`weight "${name}" is ${brief(tensor.shape)}, expected ${brief(shape)}`);
    }
    return tensor;
  });
}

/** The dtype that `transformers` makes of all tensors: one that holds the values of every matrix, of the first if it can be. */
function matrixDtype(tensors: readonly TensorToWrite[]): FileDtype {
  const wide = tensors.some(({ dtype, shape }) => dtype === "F32" && shape.length === 2);
  return wide ? "F32" : tensors[0].dtype;
}

/** Where a model that is written came from, and what belongs to it besides its weights. */
export interface FolderOptions {
  /** Its folder, whose other files are carried over. */
  base?: string;
  /** Its `config.json`, whose keys stay. Default: the one in `base`, where there is one. */
  baseConfig?: string;
  /**
   * Files of its tokenizer (model/text/tokenizer/tokenizer_files.ts), and what becomes of those in `base`: they
   * belong to the same one, or to another that it replaces. Where nothing is given they are carried over with
   * the rest.
   */
  tokenizer?: { files: readonly FileToMake[]; others: "carried" | "replaced" };
  /** Tokens that end a text of the model here. */
  endTokens?: readonly number[];
  /** Largest file before the weights are sharded. Default: 4 GB. */
  maxFileBytes?: number;
}

/**
 * `config.json` of a model made from another: all of its keys with their values as they were spelled, except what
 * changed (layers that were cut) and the dtype, under the name that the file has for it.
 *
 * @param path Where the other's `config.json` is.
 */
function changedConfig(path: string, config: ModelConfig, dtype: string): Record<string, unknown> {
  const json = readJsonToWrite(path);
  if (!isObject(json)) throw new RangeError(`${path} is no object`);
  const written = modernConfig(json);
  delete written.quantization_config; // What is written is not quantised.
  const before = configJson(parseConfig(readJson(path), path));
  for (const [key, value] of Object.entries(configJson(config))) {
    if (JSON.stringify(value) !== JSON.stringify(before[key])) written[key] = value;
  }
  const { layer_types: types } = written;
  if (Array.isArray(types)) written.layer_types = types.slice(0, config.num_hidden_layers);
  written.architectures ??= before.architectures;
  const names = ["dtype", "torch_dtype"].filter((name) => Object.hasOwn(written, name));
  for (const name of names.length > 0 ? names : ["torch_dtype"]) written[name] = dtype;
  return written;
}

/** The file's object where there is one. */
function objectIn(path: string): Record<string, unknown> | undefined {
  const json = exists(path) ? readJsonToWrite(path) : undefined;
  return isObject(json) ? json : undefined;
}

/** Writes one file of weights, or shards and their index. */
async function writeWeights(
  folder: string,
  tensors: readonly TensorToWrite[],
  maxFileBytes: number,
): Promise<void> {
  const shards = intoShards(tensors, maxFileBytes);
  if (shards.length === 1) return await writeSafetensors(join(folder, SINGLE_FILE), tensors);
  const digits = (n: number) => String(n).padStart(5, "0");
  const weight_map: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const file = `model-${digits(i + 1)}-of-${digits(shards.length)}.safetensors`;
    await writeSafetensors(join(folder, file), shard);
    for (const { name } of shard) weight_map[name] = file;
  }
  const total_size = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
  writeJson(join(folder, INDEX_FILE), { metadata: { total_size }, weight_map });
}

/**
 * Writes a model folder that `transformers` and `openHuggingFace` load: `config.json`, `model.safetensors` (above
 * 4 GB shards and their index), and where the model came from a folder everything else that it held. The folder
 * appears under its name only when it is complete.
 *
 * @param tensors Every weight of `weightShapes(config)`, in any order; data is pulled in load order,
 *   wider dtypes of a file first.
 * @returns What was carried over from the model's folder and what was left out.
 * @throws UserError where the folder exists or a file can't be read or written; RangeError where the
 *   tensors are not the model's.
 */
export async function writeHuggingFace(
  folder: string,
  config: ModelConfig,
  tensors: Iterable<TensorToWrite>,
  { base, tokenizer, endTokens, maxFileBytes = 4e9, ...options }: FolderOptions = {},
): Promise<Carried> {
  const ordered = inLoadOrder(config, tensors), dtype = TORCH_DTYPES[matrixDtype(ordered)];
  const ownConfig = base === undefined ? undefined : join(base, CONFIG_FILE);
  const found = ownConfig !== undefined && exists(ownConfig) ? ownConfig : undefined;
  const baseConfig = options.baseConfig ?? found;
  let carried: Carried = { files: [], left: [] };
  await writeFolder(folder, async (temporary) => {
    const json = baseConfig === undefined
      ? { ...configJson(config), torch_dtype: dtype }
      : changedConfig(baseConfig, config, dtype);
    if (base !== undefined) {
      const written = [CONFIG_FILE, SINGLE_FILE, INDEX_FILE];
      const keeps = tokenizer?.others !== "replaced";
      const read = tokenizer === undefined ? [] : VOCABULARY_FILES;
      carried = carriedFiles(base, {
        written,
        tokenizer: keeps,
        read,
        meta: found === undefined,
      });
      await copyFiles(base, carried.files, temporary);
    }
    if (tokenizer !== undefined) await makeFiles(temporary, tokenizer.files);
    writeJson(join(temporary, CONFIG_FILE), json);
    if (endTokens !== undefined) {
      const path = join(temporary, GENERATION_FILE);
      const given = objectIn(path), before = baseConfig && readJson(baseConfig);
      const generation = given && modernGeneration(given, before);
      const changed = generationConfig({ config: json, generation }, endTokens);
      if (changed !== undefined) writeJson(path, changed);
      else if (generation !== given) writeJson(path, generation);
    }
    await writeWeights(temporary, ordered, maxFileBytes);
  });
  return carried;
}
