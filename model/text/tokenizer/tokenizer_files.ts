/**
 * The files of a tokenizer, as a new model folder is to hold them: all that there were, and a tokenizer.json
 * and tokenizer_config.json where they are missing, so that `transformers` reads what Lorikeet reads.
 *
 * @module
 */
import { basename, dirname, join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import type { FileToMake } from "../../formats/carried_files.ts";
import { modernTokenizerConfig } from "../../families/first_conversions.ts";
import { isObject, readJsonToWrite } from "../../files/json_file.ts";
import {
  CHAT_TEMPLATES,
  moreTemplates,
  TOKENIZER_SETTINGS,
  VOCABULARY_FILES,
} from "../../formats/tokenizer_names.ts";
import { OwnFiles } from "../../formats/own_files.ts";
import { exists, isFolder } from "../../files/whole_file.ts";
import { readTemplates } from "../../formats/gguf/vocabulary.ts";
import { ggufTokenizer } from "./gguf/gguf_tokenizer.ts";
import { sentencePieceTokenizer } from "./sentencepiece/sentencepiece_folder.ts";
import { tokenizerOrigin } from "./load.ts";
import { holdsTokenizer, readTokenizerFolder } from "./tokenizer_folder.ts";
import type { FolderTokenizer } from "./pipeline_tokenizer.ts";

/** What belongs to a tokenizer of this folder, its vocabulary apart. */
function settings(folder: string): string[] {
  return [...TOKENIZER_SETTINGS, ...CHAT_TEMPLATES, ...moreTemplates(folder)];
}

/** Copies of those files that a folder has itself; its vocabulary, which was read as one, may be a link to anywhere. */
function copies(folder: string, names: readonly string[]): FileToMake[] {
  const own = new OwnFiles(folder);
  return names.filter((name) => exists(join(folder, name)))
    .filter((name) => VOCABULARY_FILES.includes(name) || own.has(join(folder, name)))
    .map((name) => ({ name, content: { copyOf: join(folder, name) } }));
}

function json(name: string, value: unknown, indent?: number): FileToMake {
  return { name, content: { text: `${JSON.stringify(value, null, indent)}\n` } };
}

/** Without the files that are made anew. */
function except(files: readonly FileToMake[], made: readonly FileToMake[]): FileToMake[] {
  const names = new Set(made.map(({ name }) => name));
  return files.filter(({ name }) => !names.has(name));
}

/** tokenizer_config.json of a folder. */
function configOf(folder: string): Record<string, unknown> {
  const path = join(folder, "tokenizer_config.json");
  const config = exists(path) ? readJsonToWrite(path) : {};
  return isObject(config) ? modernTokenizerConfig(config) : {};
}

/** The named tokens for tokenizer_config.json; the end token is the one that is used. */
function tokenSettings({ pipeline, named, config_eos_id }: FolderTokenizer) {
  const settings: Record<string, unknown> = Object.fromEntries(named);
  const eos = config_eos_id === undefined ? undefined : pipeline.texts.get(config_eos_id);
  if (!named.has("eos_token") && eos !== undefined) settings.eos_token = eos;
  return settings;
}

/** tokenizer.json and tokenizer_config.json of a tokenizer that was read from tokenizer.model. */
function made(tokenizer: FolderTokenizer, config: Record<string, unknown>): FileToMake[] {
  const { pipeline, extra } = tokenizer;
  const added = [...pipeline.added.tokens].sort(([a], [b]) => a - b);
  const { additional_special_tokens: _, ...others } = config;
  return [
    json("tokenizer.json", pipeline.json()),
    json("tokenizer_config.json", {
      clean_up_tokenization_spaces: false,
      ...others,
      ...tokenSettings(tokenizer),
      ...(extra.length > 0 && !isObject(config.extra_special_tokens)
        ? { extra_special_tokens: extra }
        : {}),
      added_tokens_decoder: Object.fromEntries(added),
      tokenizer_class: "PreTrainedTokenizerFast",
    }, 2),
  ];
}

/** The files of a model folder. */
async function folderFiles(folder: string): Promise<FileToMake[]> {
  if (!holdsTokenizer(folder)) {
    throw new UserError(`folder "${folder}" holds no tokenizer.model or tokenizer.json`);
  }
  const there = copies(folder, [...VOCABULARY_FILES, ...settings(folder)]);
  if (!there.some(({ name }) => name === "tokenizer.json")) {
    const fresh = made(await readTokenizerFolder(folder), configOf(folder));
    return [...except(there, fresh), ...fresh];
  }
  return await withConfig(there, folder);
}

/** With a tokenizer_config.json, where there is none. @param path What the tokenizer is read from. */
async function withConfig(there: FileToMake[], path: string): Promise<FileToMake[]> {
  if (there.some(({ name }) => name === "tokenizer_config.json")) return there;
  const tokenizer = await readTokenizerFolder(path);
  const { tokenizer_class } = tokenizer;
  const config = { ...tokenSettings(tokenizer), tokenizer_class };
  return [...there, json("tokenizer_config.json", config, 2)];
}

/** The files for a tokenizer.model that is read as SentencePiece does. */
async function sentencePieceFiles(file: string): Promise<FileToMake[]> {
  const beside = dirname(file);
  const own = basename(file) === "tokenizer.model";
  const { chat_template } = own ? configOf(beside) : {};
  const fresh = made(
    await sentencePieceTokenizer(file),
    chat_template === undefined ? {} : { chat_template },
  );
  const chat = own ? copies(beside, [...CHAT_TEMPLATES, ...moreTemplates(beside)]) : [];
  return [{ name: "tokenizer.model", content: { copyOf: file } }, ...chat, ...fresh];
}

/** The files for the tokenizer of a GGUF file. */
async function ggufFiles(file: string): Promise<FileToMake[]> {
  const named = Array.from(readTemplates(file), ([name, template]) => ({ name, template }));
  const isMain = named.length === 1 && named[0].name === "default";
  const chat_template = isMain ? named[0].template : named;
  return made(await ggufTokenizer(file), named.length > 0 ? { chat_template } : {});
}

/**
 * The files that make a folder's tokenizer the one at `path`, for Lorikeet and for `transformers`.
 *
 * @param path What the tokenizer was read from: a folder, or a file of one.
 * @throws {UserError} where it is missing or can't be read.
 */
export async function tokenizerFiles(path: string): Promise<FileToMake[]> {
  const folder = isFolder(path), origin = tokenizerOrigin(path, folder);
  if (origin.kind === "sentencepiece") return await sentencePieceFiles(origin.file);
  if (origin.kind === "gguf") return await ggufFiles(origin.file);
  if (folder) return await folderFiles(path);
  const beside = dirname(path);
  const own: FileToMake = { name: "tokenizer.json", content: { copyOf: path } };
  return await withConfig([own, ...copies(beside, settings(beside))], path);
}
