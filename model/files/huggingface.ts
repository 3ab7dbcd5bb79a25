/**
 * Model folders as Hugging Face's `transformers` writes them: `config.json` with `model.safetensors`,
 * or with several shards and `model.safetensors.index.json` that says which tensor is where.
 *
 * @module
 */

import { basename, dirname, join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import {
  configJson,
  type LlamaConfig,
  parseLlamaConfig,
  weightShapes,
  withLayers,
} from "../config.ts";
import {
  openSafetensors,
  type SafetensorsFile,
  tensorBytes,
  type TensorToWrite,
  writeSafetensors,
} from "./safetensors.ts";
import {
  brief,
  exists,
  type FileDtype,
  fileError,
  isFileDtype,
  isObject,
  readJson,
  sameShape,
  type WeightSource,
  writeFolder,
  writeJson,
} from "./weights.ts";

const SINGLE_FILE = "model.safetensors";
const INDEX_FILE = "model.safetensors.index.json";

/** `transformers` names of the dtypes, for `torch_dtype`. */
const TORCH_DTYPES: Record<FileDtype, string> = {
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
};

/** Which file of the folder holds which tensor, as the index says. */
function readIndex(path: string): Map<string, string> {
  const index = readJson(path);
  if (!isObject(index) || !isObject(index.weight_map)) {
    throw new UserError(`${path}: expected an object with a "weight_map" of tensors and files`);
  }
  const files = new Map<string, string>();
  for (const [tensor, file] of Object.entries(index.weight_map)) {
    // A shard lies in the model's own folder; an index must not make us read anything else.
    if (typeof file !== "string" || !/^[^/\\\0:]+\.safetensors$/.test(file)) {
      throw new UserError(
        `${path}: tensor ${brief(tensor)} is said to be in ${brief(file)}, ` +
          `expected the name of a .safetensors file beside the index`,
      );
    }
    files.set(tensor, file);
  }
  return files;
}

/** Opens the files that hold the wanted tensors, and finds each tensor in them. */
function locate(
  folder: string,
  wanted: Iterable<string>,
  open: (path: string) => SafetensorsFile,
): Map<string, SafetensorsFile> {
  const single = join(folder, SINGLE_FILE), indexPath = join(folder, INDEX_FILE);
  const places = new Map<string, SafetensorsFile>();
  const missing = (name: string, where: string): never => {
    throw new UserError(`${where}: tensor ${brief(name)} is missing`);
  };
  if (exists(single)) {
    const file = open(single);
    for (const name of wanted) {
      if (!file.tensors.has(name)) missing(name, single);
      places.set(name, file);
    }
    return places;
  }
  if (!exists(indexPath)) {
    throw new UserError(
      `${folder}: expected ${SINGLE_FILE} or ${INDEX_FILE} (PyTorch .bin files have to be ` +
        `converted to safetensors first)`,
    );
  }
  const files = readIndex(indexPath), shards = new Map<string, SafetensorsFile>();
  for (const name of wanted) {
    const shard = files.get(name) ?? missing(name, indexPath);
    const file = shards.get(shard) ?? open(join(folder, shard));
    shards.set(shard, file);
    if (!file.tensors.has(name)) {
      throw new UserError(
        `${file.path}: tensor ${brief(name)} is missing, though ${INDEX_FILE} says it is there`,
      );
    }
    places.set(name, file);
  }
  return places;
}

/** A tensor must be as config.json says, in a dtype that can be loaded. */
function checkTensor(name: string, file: SafetensorsFile, expected: readonly number[]): void {
  const { dtype, shape } = file.tensors.get(name)!;
  const fail = (problem: string): never => {
    throw new UserError(`${file.path}: tensor ${brief(name)} has ${problem}`);
  };
  if (!sameShape(shape, expected)) {
    fail(`shape ${brief(shape)}, but config.json needs ${brief(expected)}`);
  }
  if (!isFileDtype(dtype)) fail(`dtype ${dtype}, expected F32, F16 or BF16`);
}

/**
 * Opens a model folder for reading. Only headers are read here; every weight's presence, shape and
 * dtype are checked against `config.json`. Tensors that a Llama does not use (rotary `inv_freq`, an
 * `lm_head` where the embedding is tied) are ignored; biases that `config.json` does not announce, which
 * would change the result, are not.
 *
 * @param folder Holds `config.json` and `model.safetensors` or its shards with their index.
 * @param options `layers`: the model cut after its first blocks; only shards that hold one are opened.
 * @throws UserError that names the file, and the field or the tensor.
 */
export function openHuggingFace(folder: string, options: { layers?: number } = {}): WeightSource {
  const configPath = join(folder, "config.json");
  const whole = parseLlamaConfig(readJson(configPath), configPath);
  const { layers } = options;
  const config = layers === undefined ? whole : withLayers(whole, layers, folder);
  const shapes = weightShapes(config);
  const open: SafetensorsFile[] = [];
  const close = () => open.splice(0).forEach((file) => file.close());
  let places: Map<string, SafetensorsFile>;
  try {
    places = locate(folder, shapes.keys(), (path) => {
      const file = openSafetensors(path);
      open.push(file);
      return file;
    });
    for (const [name, file] of places) checkTensor(name, file, shapes.get(name)!);
    const announced = weightShapes(whole);
    for (const file of open) {
      const names = [...file.tensors.keys()];
      const bias = names.find((name) => name.endsWith(".bias") && !announced.has(name));
      if (bias === undefined) continue;
      throw new UserError(
        `${file.path}: tensor ${brief(bias)} is a bias, expected only those that config.json ` +
          `announces (attention_bias ${config.attention_bias}, mlp_bias ${config.mlp_bias})`,
      );
    }
  } catch (error) {
    close();
    throw error;
  }
  const place = (name: string): SafetensorsFile => {
    const file = places.get(name);
    if (file === undefined) throw new RangeError(`${folder} has no weight "${name}"`);
    return file;
  };
  return {
    config,
    info(name) {
      const { dtype, shape, begin, end } = place(name).tensors.get(name)!;
      return { dtype: dtype as FileDtype, shape: [...shape], bytes: end - begin };
    },
    read: (name, begin, target) => place(name).read(name, begin, target),
    close,
  };
}

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
function inLoadOrder(config: LlamaConfig, tensors: Iterable<TensorToWrite>): TensorToWrite[] {
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

/** What a tokenizer consists of: one or both of the first two, and what goes with them. */
const TOKENIZER_FILES = ["tokenizer.model", "tokenizer.json"];
const TOKENIZER_SETTINGS = [
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
];

/**
 * Copies the tokenizer, given as a file or as the folder that holds it, with the settings beside it. A
 * file of another name gets the usual one; what is beside such a file need not belong to it.
 */
async function copyTokenizer(from: string, folder: string): Promise<void> {
  const copy = async (file: string, name: string) => {
    try {
      await Deno.copyFile(file, join(folder, name));
    } catch (error) {
      throw fileError(file, "read", error);
    }
  };
  const copyAll = async (source: string, names: string[]) => {
    for (const name of names) {
      const file = join(source, name);
      if (exists(file)) await copy(file, name);
    }
  };
  if (exists(from) && Deno.statSync(from).isDirectory) {
    if (!TOKENIZER_FILES.some((name) => exists(join(from, name)))) {
      throw new UserError(`folder "${from}" holds no tokenizer.model or tokenizer.json`);
    }
    return await copyAll(from, [...TOKENIZER_FILES, ...TOKENIZER_SETTINGS]);
  }
  await copy(from, from.endsWith(".json") ? "tokenizer.json" : "tokenizer.model");
  if (TOKENIZER_FILES.includes(basename(from))) await copyAll(dirname(from), TOKENIZER_SETTINGS);
}

/** Copies generation_config.json, the settings that `transformers` generates with. */
async function copyGenerationConfig(from: string, folder: string): Promise<void> {
  try {
    await Deno.copyFile(from, join(folder, "generation_config.json"));
  } catch (error) {
    throw fileError(from, "read", error);
  }
}

/** What a model folder holds besides configuration and weights, and how large its files may be. */
export interface FolderOptions {
  /** A tokenizer to copy: its file, or a folder that holds one. */
  tokenizerPath?: string;
  /** A `generation_config.json` to copy. */
  generationConfig?: string;
  /** Largest file before the weights are sharded. Default: 4 GB. */
  maxFileBytes?: number;
}

/**
 * Writes a model folder that `transformers` and `openHuggingFace` load: `config.json`,
 * `model.safetensors` (above 4 GB shards and their index) and the tokenizer's files. The folder appears
 * under its name only when it is complete.
 *
 * @param tensors Every weight of `weightShapes(config)`, in any order; data is pulled in load order,
 *   wider dtypes of a file first.
 * @throws UserError where the folder exists or a file can't be read or written; RangeError where the
 *   tensors are not the model's.
 */
export async function writeHuggingFace(
  folder: string,
  config: LlamaConfig,
  tensors: Iterable<TensorToWrite>,
  { tokenizerPath, generationConfig, maxFileBytes = 4e9 }: FolderOptions = {},
): Promise<void> {
  const ordered = inLoadOrder(config, tensors);
  await writeFolder(folder, async (temporary) => {
    if (tokenizerPath !== undefined) await copyTokenizer(tokenizerPath, temporary);
    if (generationConfig !== undefined) await copyGenerationConfig(generationConfig, temporary);
    const torch_dtype = TORCH_DTYPES[ordered[0].dtype];
    writeJson(join(temporary, "config.json"), { ...configJson(config), torch_dtype });
    const shards = intoShards(ordered, maxFileBytes);
    if (shards.length === 1) return await writeSafetensors(join(temporary, SINGLE_FILE), ordered);
    const digits = (n: number) => String(n).padStart(5, "0");
    const weight_map: Record<string, string> = {};
    for (const [i, shard] of shards.entries()) {
      const file = `model-${digits(i + 1)}-of-${digits(shards.length)}.safetensors`;
      await writeSafetensors(join(temporary, file), shard);
      for (const { name } of shard) weight_map[name] = file;
    }
    const total_size = ordered.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
    writeJson(join(temporary, INDEX_FILE), { metadata: { total_size }, weight_map });
  });
}
