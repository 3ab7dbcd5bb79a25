/**
 * Model folders as Hugging Face's `transformers` writes them: `config.json` with `model.safetensors`, or with
 * several shards and `model.safetensors.index.json` that says which tensor is where; or the same of
 * `pytorch_model.bin`.
 *
 * @module
 */

import { join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { noteLine } from "../../kernels/terminal.ts";
import { type ModelConfig, parseConfig, weightShapes, withLayers } from "../families/config.ts";
import { type Quantization, readQuantization } from "../families/quantization_config.ts";
import { Fields } from "../files/json_fields.ts";
import { brief, isObject, readJson } from "../files/json_file.ts";
import { exists } from "../files/whole_file.ts";
import { eightBitWeight } from "./bitsandbytes/eight_bit.ts";
import { fourBitWeight } from "./bitsandbytes/four_bit.ts";
import { noModel } from "./folder_contents.ts";
import { FolderTensors, type FoundTensor } from "./folder_tensors.ts";
import { Scratch } from "./joined.ts";
import { sameNumbers } from "./tied_head.ts";
import {
  isFileDtype,
  sameShape,
  type StoredWeight,
  type WeightSource,
  weightSource,
} from "./weights.ts";

/** Embedding and output projection. */
const EMBEDDING = "model.embed_tokens.weight", HEAD = "lm_head.weight";

/** A tensor must be as config.json says, in a dtype that can be loaded. */
function denseWeight(
  { name, file, entry }: FoundTensor,
  expected: readonly number[],
): StoredWeight {
  const { dtype, shape, begin, end } = entry;
  const fail = (problem: string): never => {
    throw new UserError(`${file.path}: tensor ${brief(name)} has ${problem}`);
  };
  if (!sameShape(shape, expected)) {
    fail(`shape ${brief(shape)}, but config.json needs ${brief(expected)}`);
  }
  if (!isFileDtype(dtype)) return fail(`dtype ${dtype}, expected F32, F16 or BF16`);
  const read = (from: number, target: Uint8Array) => file.read(name, from, target);
  return { info: { dtype, shape, bytes: end - begin }, read };
}

/** Whether an output projection has other numbers than the embedding that it is said to be. */
function isUntied(
  embedding: { found: FoundTensor; weight: StoredWeight },
  head: { found: FoundTensor; weight: StoredWeight },
): boolean {
  // A quantised matrix has been rounded.
  if ([embedding, head].some(({ weight }) => weight.info.stored !== undefined)) return true;
  const [a, b] = [embedding, head].map(({ found: { name, file }, weight: { info } }) => {
    return { name, file, ...info };
  });
  return !sameNumbers(a, b);
}

/**
 * Opens a model folder for reading. Only headers are read here; every weight's presence, shape and dtype are checked
 * against `config.json`. What bitsandbytes quantised is read as f32, and as kernels have it. Tensors that a Llama does
 * not use (rotary `inv_freq`) are ignored;
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
  const json = readJson(configPath), whole = parseConfig(json, configPath);
  const quantization = isObject(json) ? readQuantization(new Fields(json, configPath)) : undefined;
  const { layers } = options;
  let config = layers === undefined ? whole : withLayers(whole, layers, folder);
  const tensors = new FolderTensors(folder), scratch = new Scratch();
  const quantized = quantization && { 4: fourBitWeight, 8: eightBitWeight }[quantization.bits];
  const weightOf = (found: FoundTensor, shape: readonly number[]): StoredWeight => {
    const isMatrix = shape.length === 2;
    const stored = isMatrix ? quantized?.(tensors, found, shape, scratch) : undefined;
    return stored ?? denseWeight(found, shape);
  };
  const weights = new Map<string, StoredWeight>();
  try {
    const shapes = weightShapes(config);
    const found = Array.from(shapes, ([name, shape]) => ({ found: tensors.get(name), shape }));
    const head = tensors.find(HEAD);
    for (const { found: tensor, shape } of found) weights.set(tensor.name, weightOf(tensor, shape));
    const embedding = weights.get(EMBEDDING);
    if (config.tie_word_embeddings && embedding !== undefined && head !== undefined) {
      const weight = weightOf(head, embedding.info.shape);
      const tied = { found: tensors.get(EMBEDDING), weight: embedding };
      if (isUntied(tied, { found: head, weight })) {
        config = { ...config, tie_word_embeddings: false };
        weights.set(HEAD, weight);
        noteLine(
          `${configPath} says tie_word_embeddings true, but ${HEAD} of ${head.file.path} differs from ` +
            `${EMBEDDING}: the model is read as untied`,
        );
      }
    }
    refuseBiases(tensors, whole);
  } catch (error) {
    tensors.close();
    throw error;
  }
  if (quantization !== undefined) note(quantization, { configPath, weights });
  return weightSource(folder, { config, weights, close: () => tensors.close() });
}

/** Biases that `config.json` doesn't announce would change the result. */
function refuseBiases({ open }: FolderTensors, config: ModelConfig): void {
  const announced = weightShapes(config);
  for (const file of open) {
    const names = [...file.tensors.keys()];
    const bias = names.find((name) => name.endsWith(".bias") && !announced.has(name));
    if (bias === undefined) continue;
    throw new UserError(
      `${file.path}: tensor ${brief(bias)} is a bias, expected only those that config.json ` +
        `announces (attention_bias ${config.attention_bias}, mlp_bias ${config.mlp_bias})`,
    );
  }
}

/** Says what of a quantisation is not done here. */
function note(
  { bits, threshold }: Quantization,
  { configPath, weights }: { configPath: string; weights: ReadonlyMap<string, StoredWeight> },
): void {
  if (![...weights.values()].some(({ info: { stored } }) => stored !== undefined)) {
    noteLine(
      `${configPath} has a quantization_config, but none of the weights is quantised: they are read as they are`,
    );
  } else if (bits === 8) {
    noteLine(
      `${configPath}: weights of LLM.int8() are read as they are, but activations are neither rounded to 8 bits ` +
        `nor computed with apart where they exceed llm_int8_threshold ${threshold}`,
    );
  }
}
