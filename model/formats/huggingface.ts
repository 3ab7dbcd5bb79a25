/**
 * Model folders as Hugging Face's `transformers` writes them: `config.json` with `model.safetensors`, or with
 * several shards and `model.safetensors.index.json` that says which tensor is where; or the same of
 * `pytorch_model.bin`.
 *
 * @module
 */

import { join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { parseConfig, weightShapes, withLayers } from "../families/config.ts";
import { noModel, otherWeights } from "./folder_contents.ts";
import { openTorchFile } from "./pth.ts";
import { openSafetensors } from "./safetensors.ts";
import type { TensorFile } from "./tensor_file.ts";
import { brief, isObject, readJson } from "../files/json_file.ts";
import { sameNumbers } from "./tied_head.ts";
import {
  isFileDtype,
  sameShape,
  type StoredWeight,
  type WeightSource,
  weightSource,
} from "./weights.ts";
import { exists } from "../files/whole_file.ts";

/** Weights as they lie in a folder: in one file, or in several with an index. */
interface Layout {
  single: string;
  index: string;
  /** How the files' names end that an index may name. */
  extension: ".safetensors" | ".bin";
  open: (path: string) => TensorFile;
}

/** In the order of preference that `transformers` has. */
const LAYOUTS: readonly Layout[] = [
  {
    single: "model.safetensors",
    index: "model.safetensors.index.json",
    extension: ".safetensors",
    open: openSafetensors,
  },
  {
    single: "pytorch_model.bin",
    index: "pytorch_model.bin.index.json",
    extension: ".bin",
    open: openTorchFile,
  },
];

/** Which file of the folder holds which tensor, as the index says. */
function readIndex(path: string, extension: string): Map<string, string> {
  const index = readJson(path);
  if (!isObject(index) || !isObject(index.weight_map)) {
    throw new UserError(`${path}: expected an object with a "weight_map" of tensors and files`);
  }
  const files = new Map<string, string>();
  for (const [tensor, file] of Object.entries(index.weight_map)) {
    // A shard lies in the model's own folder; an index must not make us read anything else. File systems take
    // names of 255 bytes at most.
    const inFolder = typeof file === "string" && /^[^/\\\0:]{1,200}$/.test(file);
    if (!inFolder || !file.endsWith(extension) || file === extension) {
      throw new UserError(
        `${path}: tensor ${brief(tensor)} is said to be in ${brief(file)}, ` +
          `expected the name of a ${extension} file beside the index`,
      );
    }
    files.set(tensor, file);
  }
  return files;
}

/** Opens a shard; where it is missing, says how many of the index's files are. */
function openShard(
  folder: string,
  shard: string,
  files: Map<string, string>,
  layout: Layout,
): TensorFile {
  const path = join(folder, shard);
  if (exists(path)) return layout.open(path);
  const named = [...new Set(files.values())];
  const missing = named.filter((name) => !exists(join(folder, name))).length;
  const count = `${missing} of the ${named.length} files that ${layout.index} names`;
  throw new UserError(`cannot read ${path}: it does not exist, as ${count} do not`);
}

/** Embedding and output projection. */
const EMBEDDING = "model.embed_tokens.weight", HEAD = "lm_head.weight";

/**
 * Opens the files that hold the wanted tensors, and finds each tensor in them; the output projection also where it
 * isn't wanted, if there is one.
 */
function locate(
  folder: string,
  wanted: Iterable<string>,
  opened: (file: TensorFile) => TensorFile,
): Map<string, TensorFile> {
  const places = new Map<string, TensorFile>();
  const missing = (name: string, where: string): never => {
    throw new UserError(`${where}: tensor ${brief(name)} is missing`);
  };
  for (const layout of LAYOUTS) {
    const single = join(folder, layout.single), indexPath = join(folder, layout.index);
    if (exists(single)) {
      const file = opened(layout.open(single));
      for (const name of wanted) {
        if (!file.tensors.has(name)) missing(name, single);
        places.set(name, file);
      }
      if (file.tensors.has(HEAD)) places.set(HEAD, file);
      return places;
    }
    if (!exists(indexPath)) continue;
    const files = readIndex(indexPath, layout.extension), shards = new Map<string, TensorFile>();
    for (const name of new Set([...wanted, ...(files.has(HEAD) ? [HEAD] : [])])) {
      const shard = files.get(name) ?? missing(name, indexPath);
      const file = shards.get(shard) ?? opened(openShard(folder, shard, files, layout));
      shards.set(shard, file);
      if (!file.tensors.has(name)) {
        throw new UserError(
          `${file.path}: tensor ${brief(name)} is missing, though ${layout.index} says it is there`,
        );
      }
      places.set(name, file);
    }
    return places;
  }
  const expected = LAYOUTS.flatMap(({ single, index }) => [single, index]).join(", ");
  throw new UserError(`${folder}: ${otherWeights(folder) ?? `expected one of ${expected}`}`);
}

/** A tensor that a model can be made of, and the file that it is in. */
interface CheckedTensor extends StoredWeight {
  file: TensorFile;
}

/** A tensor must be as config.json says, in a dtype that can be loaded. */
function checkTensor(name: string, file: TensorFile, expected: readonly number[]): CheckedTensor {
  const entry = file.tensors.get(name);
  if (entry === undefined) throw new RangeError(`${file.path} has no tensor "${name}"`);
  const { dtype, shape, begin, end } = entry;
  const fail = (problem: string): never => {
    throw new UserError(`${file.path}: tensor ${brief(name)} has ${problem}`);
  };
  if (!sameShape(shape, expected)) {
    fail(`shape ${brief(shape)}, but config.json needs ${brief(expected)}`);
  }
  if (!isFileDtype(dtype)) return fail(`dtype ${dtype}, expected F32, F16 or BF16`);
  const read = (from: number, target: Uint8Array) => file.read(name, from, target);
  return { file, info: { dtype, shape, bytes: end - begin }, read };
}

/**
 * Opens a model folder for reading. Only headers are read here; every weight's presence, shape and
 * dtype are checked against `config.json`. Tensors that a Llama does not use (rotary `inv_freq`) are ignored;
 * biases that `config.json` does not announce, which would change the result, are not.
 *
 * Where `config.json` ties the embedding and the files hold an `lm_head` of other numbers, the model is untied, as
 * `transformers` has it: `config` then says so, and so does a line on stderr.
 *
 * @param folder Holds `config.json` and `model.safetensors`, or its shards with their index, or the same of
 *   `pytorch_model.bin`, which is read without executing anything in it.
 * @param options `layers`: the model cut after its first blocks; only shards that hold one are opened.
 * @throws UserError that names the file, and the field or the tensor.
 */
export function openHuggingFace(folder: string, options: { layers?: number } = {}): WeightSource {
  const configPath = join(folder, "config.json");
  if (!exists(configPath) && exists(folder)) throw noModel(folder);
  const whole = parseConfig(readJson(configPath), configPath);
  const { layers } = options;
  let config = layers === undefined ? whole : withLayers(whole, layers, folder);
  const shapes = weightShapes(config);
  const open: TensorFile[] = [];
  const close = () => open.splice(0).forEach((file) => file.close());
  const tensors = new Map<string, CheckedTensor>();
  try {
    const places = locate(folder, shapes.keys(), (file) => {
      open.push(file);
      return file;
    });
    for (const [name, shape] of shapes) {
      const file = places.get(name);
      if (file !== undefined) tensors.set(name, checkTensor(name, file, shape));
    }
    const embedding = tensors.get(EMBEDDING), headFile = places.get(HEAD);
    if (config.tie_word_embeddings && embedding !== undefined && headFile !== undefined) {
      const head = checkTensor(HEAD, headFile, embedding.info.shape);
      const matrix = (name: string, { file, info }: CheckedTensor) => ({ name, file, ...info });
      if (!sameNumbers(matrix(EMBEDDING, embedding), matrix(HEAD, head))) {
        config = { ...config, tie_word_embeddings: false };
        tensors.set(HEAD, head);
        console.error(
          `${configPath} says tie_word_embeddings true, but ${HEAD} of ${head.file.path} differs from ` +
            `${EMBEDDING}: the model is read as untied`,
        );
      }
    }
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
  return weightSource(folder, { config, weights: tensors, close });
}
