/**
 * What a folder holds that is no model to be read, for messages that say what to do about it.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { regularFileSize } from "../../kernels/regular_file.ts";
import { brief, isObject, readJson } from "../files/json_file.ts";
import { exists, isFolder, namesIn } from "../files/whole_file.ts";

/** Weights that are not read, by a pattern of their names, and what they are. */
const OTHER_WEIGHTS: [pattern: RegExp, what: string][] = [
  [
    /^consolidated.*\.safetensors$/,
    "weights in Mistral's own layout, which is not read; expected the model-*.safetensors with config.json and " +
    "their index that the hub has beside them",
  ],
  [
    /^(?:model|pytorch_model)-\d+-of-\d+\.(?:safetensors|bin)$/,
    "one of several files of weights, but not the index that says what is in which " +
    "(model.safetensors.index.json or pytorch_model.bin.index.json)",
  ],
  [
    /^(?:model|pytorch_model)\.[\w-]+?(?:-\d+-of-\d+)?\.(?:safetensors|bin)$/,
    "weights of a variant, which are read under their plain name alone; expected model.safetensors: rename it, " +
    "or link it",
  ],
  [/\.gguf$/, "a model in the GGUF format, which is read where the file itself is named"],
  [/^tf_model.*\.h5$/, "weights of TensorFlow, which are not read; expected model.safetensors"],
  [/^flax_model.*\.msgpack$/, "weights of Flax, which are not read; expected model.safetensors"],
  [/\.onnx$/, "weights in ONNX, which are not read; expected model.safetensors"],
  [
    /^consolidated\.\d\d\.pth$/,
    "weights in Meta's layout, which is read from a folder with params.json and without config.json",
  ],
];

/** What else of weights lies in a folder, as `holds NAME, WHAT`. */
export function otherWeights(folder: string): string | undefined {
  const names = namesIn(folder);
  for (const [pattern, what] of OTHER_WEIGHTS) {
    const name = names.find((name) => pattern.test(name));
    if (name !== undefined) return `holds ${name}, ${what}`;
  }
}

/** What is said of a folder with an adapter where a model was expected. */
function adapterAsModel(folder: string): string {
  const config = readJson(join(folder, "adapter_config.json"));
  const base = isObject(config) ? config.base_model_name_or_path : undefined;
  const of = typeof base === "string" && base !== "" ? ` (made for ${brief(base)})` : "";
  return `holds an adapter, not a model; expected it as --adapter, and its base model${of} as --model`;
}

/** The first version in a folder that is the hub's cache; undefined where it is none. */
function cachedVersion(folder: string, names: readonly string[]): string | undefined {
  if (!names.includes("snapshots") || !names.includes("blobs")) return undefined;
  const [snapshot = "…"] = namesIn(join(folder, "snapshots"));
  return join(folder, "snapshots", snapshot);
}

/**
 * The refusal of a folder without `config.json`, which says what the folder is instead, where that can be told.
 */
export function noModel(folder: string): UserError {
  const names = namesIn(folder), has = (name: string) => names.includes(name);
  const say = (problem: string) => new UserError(`${folder}: ${problem}`);
  if (names.length === 0) return say("is empty, expected a model folder with config.json");
  if (has("adapter_config.json")) return say(adapterAsModel(folder));
  const cached = cachedVersion(folder, names);
  if (cached !== undefined) {
    return say(`is the hub's cache of a model, expected a version in it: ${cached}`);
  }
  if (exists(join(folder, "model", "config.json"))) {
    return say(`holds no model itself, expected the one in it: ${join(folder, "model")}`);
  }
  if (exists(join(folder, "adapter", "adapter_config.json"))) {
    return say(
      "holds no model, but the output of a training run; expected --model as in that run, and " +
        `--adapter ${join(folder, "adapter")}`,
    );
  }
  const weights = otherWeights(folder);
  if (weights !== undefined && !/consolidated\.\d\d\.pth/.test(weights)) return say(weights);
  if (names.some((name) => /^consolidated\.\d\d\.pth$/.test(name))) {
    return say("holds weights in Meta's layout, but not the params.json that belongs to them");
  }
  if (
    names.some((name) => /^(?:model|pytorch_model).*\.(?:safetensors|bin|index\.json)$/.test(name))
  ) {
    return say("holds weights, but not the config.json that belongs to them");
  }
  if (has("tokenizer.json") || has("tokenizer.model")) {
    return say("holds a tokenizer, but no model: config.json and weights are missing");
  }
  return new UserError(`cannot read ${join(folder, "config.json")}: it does not exist`);
}

/** The refusal of an adapter without `adapter_config.json`, which says what is there instead. */
export function noAdapter(path: string): UserError {
  const say = (problem: string) => new UserError(`${path}: ${problem}`);
  if (!isFolder(path)) {
    regularFileSize(path);
    return say(`is a file, expected the folder that holds the adapter's files: ${dirname(path)}`);
  }
  const names = namesIn(path), config = "adapter_config.json";
  if (names.length === 0) return say(`is empty, expected an adapter's folder with ${config}`);
  const inner = ["adapter", ...names.filter((name) => /^checkpoint-\d+$/.test(name))]
    .filter((name) => exists(join(path, name, config)));
  if (inner.length > 0) {
    const last = inner.toSorted((a, b) => Number(a.slice(11)) - Number(b.slice(11))).at(-1) ?? "";
    return say(`holds no adapter itself, expected one in it: ${join(path, last)}`);
  }
  const cached = cachedVersion(path, names);
  if (cached !== undefined) {
    return say(`is the hub's cache of an adapter, expected a version in it: ${cached}`);
  }
  if (names.includes("config.json")) {
    return say("holds a model, not an adapter; expected it as --model");
  }
  if (names.some((name) => /^adapter_model\.(?:safetensors|bin)$/.test(name))) {
    return say(`holds tensors of an adapter, but not the ${config} that belongs to them`);
  }
  return new UserError(`cannot read ${join(path, config)}: it does not exist`);
}
