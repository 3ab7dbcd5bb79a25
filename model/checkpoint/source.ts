/**
 * From a model's name on the command line to its configuration, weights and tokenizer: `builtin`,
 * `random:PRESET`, `random:PATH/config.json`, a Hugging Face folder, one in Meta's layout, or a GGUF file.
 *
 * @module
 */
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { UserError } from "../../kernels/errors.ts";
import { regularFileSize } from "../../kernels/regular_file.ts";
import { type ModelConfig, parseConfig, withLayers } from "../families/config.ts";
import { presetConfig } from "../families/presets.ts";
import { isGguf } from "../formats/gguf/header.ts";
import { openGguf } from "../formats/gguf/weights.ts";
import { openHuggingFace } from "../formats/huggingface.ts";
import { isMetaFolder, openMeta } from "../formats/meta.ts";
import { readJson } from "../files/json_file.ts";
import type { WeightSource } from "../formats/weights.ts";
import { exists, isFolder } from "../files/whole_file.ts";
import { loadTokenizer } from "../text/tokenizer/load.ts";
import type { AddBos, Tokenizer } from "../text/tokenizer/tokenizer.ts";
import { holdsTokenizer } from "../text/tokenizer/tokenizer_folder.ts";
import { tokenizerForModel, withBos } from "../text/tokenizer/vocabulary_check.ts";

/** Where a model's weights come from. */
export interface ModelSource {
  /** What the user called it. */
  name: string;
  config: ModelConfig;
  /** Absent for random weights. */
  weights?: WeightSource;
  /** The model's folder; absent for random weights, and for a model in a file of its own. */
  folder?: string;
  /** The `config.json` that random weights were described by, where it was a file. */
  configPath?: string;
  /** Folder or file the tokenizer is in, where the model brings one. */
  tokenizerPath?: string;
}

/** A form in which a model lies on a disk. */
interface ModelFormat {
  fits(path: string): boolean;
  open(path: string, options: { layers?: number }): WeightSource;
  /** Whether all of the model, its tokenizer too, is in a file, or lies in a folder. */
  is: "file" | "folder";
}

/** The forms; the first that fits is taken. */
const FORMATS: readonly ModelFormat[] = [
  { fits: isGguf, open: openGguf, is: "file" },
  { fits: isMetaFolder, open: openMeta, is: "folder" },
  { fits: isFolder, open: openHuggingFace, is: "folder" },
];

/** The folder of the built-in model. */
function builtinModelFolder(): string {
  return fileURLToPath(new URL("../../examples/builtin/model", import.meta.url));
}

/**
 * Finds a model and reads its configuration; weights are read later.
 *
 * @param layers Only the first so many blocks.
 * @throws {UserError} where there is no such model or its files are wrong.
 */
export function openModel(name: string, layers?: number): ModelSource {
  if (name.startsWith("random:")) {
    const what = name.slice("random:".length);
    const isFile = what.endsWith(".json");
    const config = isFile ? parseConfig(readJson(what), what) : presetConfig(what);
    const beside = isFile ? tokenizerBeside(dirname(what)) : undefined;
    return {
      name,
      config: layers === undefined ? config : withLayers(config, layers, name),
      configPath: isFile ? what : undefined,
      tokenizerPath: beside,
    };
  }
  const path = name === "builtin" ? builtinModelFolder() : name;
  if (!exists(path)) {
    // A name on the hub has one slash; nothing is downloaded here.
    const onHub = /^[\w.-]+\/[\w.-]+$/.test(name)
      ? `; "hf download ${name} --local-dir DIR" would bring one of that name from the hub`
      : "";
    throw new UserError(
      `model "${name}" does not exist; expected builtin, random:llama2-7b (-13b, llama-1b, tiny) ` +
        `or a model folder in Hugging Face's or Meta's layout, or a GGUF file${onHub}`,
    );
  }
  if (!isFolder(path)) regularFileSize(path);
  const format = FORMATS.find(({ fits }) => fits(path));
  if (format === undefined) {
    throw new UserError(
      `model "${path}" is a file; expected the folder that holds the model's files: ${
        dirname(path)
      }`,
    );
  }
  const weights = format.open(path, { layers }), { config } = weights;
  if (format.is === "file") return { name, config, weights, tokenizerPath: path };
  return { name, config, weights, folder: path, tokenizerPath: tokenizerBeside(path) };
}

/** The folder, where it holds a tokenizer: `loadTokenizer` knows which file to read. */
function tokenizerBeside(folder: string): string | undefined {
  return holdsTokenizer(folder) ? folder : undefined;
}

/** A model and the tokenizer that goes with it. */
export interface ModelWithTokenizer {
  source: ModelSource;
  tokenizer: Tokenizer;
  /** Folder or file that the tokenizer came from. */
  tokenizerPath: string;
}

/**
 * Finds a model as {@linkcode openModel} does, and its tokenizer: the one named, or the one beside it.
 *
 * @param given.add_bos Whether BOS is put before every text.
 * @throws {UserError} also where there is no tokenizer, or one of another vocabulary.
 */
export async function openModelWithTokenizer(
  { model, layers, tokenizer: given, add_bos = "auto" }: {
    model: string;
    layers?: number;
    tokenizer?: string;
    add_bos?: AddBos;
  },
): Promise<ModelWithTokenizer> {
  const source = openModel(model, layers);
  const tokenizerPath = given ?? source.tokenizerPath;
  if (tokenizerPath === undefined) {
    throw new UserError(
      `model "${source.name}" brings no tokenizer.model; give one with --tokenizer FILE`,
    );
  }
  const names = { tokenizer: tokenizerPath, model };
  const own = withBos(await loadTokenizer(tokenizerPath), add_bos, tokenizerPath);
  const tokenizer = tokenizerForModel(own, source.config.vocab_size, names);
  return { source, tokenizer, tokenizerPath };
}
