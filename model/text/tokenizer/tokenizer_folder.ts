/**
 * One reading of all files that a folder has of its tokenizer: tokenizer.json, tokenizer.model,
 * added_tokens.json, tokenizer_config.json and special_tokens_map.json together are what `transformers`
 * 5.18 makes of them.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { modernConfig, modernTokenizerConfig } from "../../families/first_conversions.ts";
import { brief, isObject, readJsonObject } from "../../files/json_file.ts";
import { exists, isFolder } from "../../files/whole_file.ts";
import { CLASS_FORMS, type Vocabulary } from "./class_parts.ts";
import {
  type Named,
  type NamedTokens,
  namedTokens,
  type SettingsFiles,
  textOf,
  TOKEN_NAMES,
} from "./named_tokens.ts";
import {
  addedPieces,
  type ConvertedParts,
  pieceIds,
  plainConversion,
  vocabularyMerges,
} from "./sentencepiece/sentencepiece_conversion.ts";
import {
  readSentencePieceFile,
  type SentencePieceFile,
} from "./sentencepiece/sentencepiece_file.ts";
import { type AddedToken, addedToken, tokenFromJson } from "./pipeline/added_tokens.ts";
import { readMerges, readModel, readPieces, readVocab } from "./pipeline/models.ts";
import { hasPatterns, loadPatterns, noPatterns } from "./pipeline/oniguruma.ts";
import { Pipeline } from "./pipeline/pipeline.ts";
import type { FolderTokenizer } from "./pipeline_tokenizer.ts";
import { templateProcessing } from "./pipeline/template_processing.ts";
import { type TokenizerClass, transformersClass } from "./transformers_class.ts";

/** The file that holds the vocabulary: tokenizer.json, or else tokenizer.model. */
type VocabularyFile =
  | { json: Record<string, unknown>; sentencepiece?: undefined }
  | { json?: undefined; sentencepiece: SentencePieceFile };

/** The files. */
type Files = VocabularyFile & {
  settings: SettingsFiles;
  /** config.json. */
  model_config: Record<string, unknown>;
};

/** @throws {UserError} where the file is there and holds no object. */
function readObject(path: string): Record<string, unknown> | undefined {
  return exists(path) ? readJsonObject(path) : undefined;
}

/** `added_tokens` of a tokenizer.json. */
function readAdded(added: unknown): (AddedToken & { id: number })[] {
  if (added === undefined || added === null) return [];
  if (!Array.isArray(added)) throw new RangeError("has an added_tokens that is no list");
  return added.map((token) => {
    if (!isObject(token) || typeof token.content !== "string" || token.content === "") {
      throw new RangeError(`has ${brief(token)} among added_tokens, expected an id and a content`);
    }
    if (!Number.isSafeInteger(token.id) || (token.id as number) < 0) {
      throw new RangeError(
        `has id ${brief(token.id)} for ${brief(token.content)} among added_tokens, expected an id`,
      );
    }
    return { id: token.id as number, ...tokenFromJson(token.content, token) };
  });
}

/** Reads the files of a folder, or a tokenizer.json of whatever name with what is beside it. */
function readFiles(path: string): Files {
  const isFile = !isFolder(path);
  const folder = isFile ? dirname(path) : path;
  const at = (name: string) => isFile && name === "tokenizer.json" ? path : join(folder, name);
  const json = readObject(at("tokenizer.json"));
  const config = readObject(at("tokenizer_config.json"));
  const settings: SettingsFiles = {
    path: at,
    tokenizer_config: config && modernTokenizerConfig(config),
    special_tokens_map: readObject(at("special_tokens_map.json")),
    added_tokens: readObject(at("added_tokens.json")),
    tokenizer_json: json && readAdded(json.added_tokens),
  };
  const vocabulary: VocabularyFile = json === undefined
    ? { sentencepiece: readSentencePieceFile(at("tokenizer.model")) }
    : { json };
  const model_config = modernConfig(readObject(at("config.json")) ?? {});
  return { ...vocabulary, settings, model_config };
}

/** The vocabulary of a tokenizer.json, for a class with a form of its own. */
function jsonVocabulary(json: Record<string, unknown>): Vocabulary {
  const { model } = json;
  if (!isObject(model)) throw new RangeError("has no model");
  const ids = Array.isArray(model.vocab)
    ? new Map(readPieces(model.vocab).map(([piece], id) => [piece, id]))
    : readVocab(model.vocab);
  return { ids, merges: model.merges === undefined ? [] : readMerges(model.merges) };
}

/** The same of a tokenizer.model. */
function sentencePieceVocabulary(file: SentencePieceFile): Vocabulary {
  const ids = pieceIds(file);
  return { ids, merges: vocabularyMerges(ids) };
}

/** The parts of the tokenizer before anything is added to it. */
function convertedParts(
  name: TokenizerClass,
  { json, sentencepiece, settings }: Files,
  { named, decoder }: NamedTokens,
): ConvertedParts {
  if (name === "TokenizersBackend") {
    if (json !== undefined) {
      const { normalizer, pre_tokenizer, decoder } = json;
      return { model: readModel(json.model), normalizer, pre_tokenizer, decoder };
    }
    const renamed = new Map(decoder.map(([id, { content }]) => [id, content]));
    if (sentencepiece.model_type === "unigram" && renamed.size > 0) {
      throw new RangeError(
        "is a Unigram model with added tokens beside it, which transformers does not open without " +
          "a tokenizer.json; expected one",
      );
    }
    return plainConversion(sentencepiece, renamed);
  }
  const form = CLASS_FORMS[name];
  const vocabulary = sentencepiece === undefined
    ? jsonVocabulary(json)
    : sentencePieceVocabulary(sentencepiece);
  const config = settings.tokenizer_config ?? {};
  const unknown = named.get("unk_token") === undefined
    ? form.tokens.unk_token
    : named.get("unk_token");
  return form.parts(vocabulary, {
    legacy: config.legacy === true,
    add_prefix_space: typeof config.add_prefix_space === "boolean" ? config.add_prefix_space : null,
    unk_token: unknown ? textOf(unknown) : undefined,
  });
}

/** The named tokens with those of the class, and those of a SentencePiece model without one. */
function allNamed(name: TokenizerClass, { named }: NamedTokens, files: Files): Map<string, Named> {
  const all = new Map<string, Named | null>(
    Object.entries(name === "TokenizersBackend" ? {} : CLASS_FORMS[name].tokens),
  );
  const padding = files.json?.padding;
  if (isObject(padding) && typeof padding.pad_token === "string") {
    all.set("pad_token", padding.pad_token);
  }
  if (name === "TokenizersBackend" && files.sentencepiece !== undefined) {
    const { bos_id, bos_piece, eos_id, eos_piece, unk_id, unk_piece } = files.sentencepiece;
    if (bos_id >= 0) all.set("bos_token", bos_piece || "<s>");
    if (eos_id >= 0) all.set("eos_token", eos_piece || "</s>");
    if (unk_id >= 0) all.set("unk_token", unk_piece || "<unk>");
  }
  for (const [key, token] of named) all.set(key, token);
  const order = [...TOKEN_NAMES, ...[...all.keys()].filter((key) => !TOKEN_NAMES.includes(key))];
  return new Map(order.flatMap((key): [string, Named][] => {
    const token = all.get(key);
    return token ? [[key, token]] : [];
  }));
}

/** Adds to the vocabulary what the settings list and name. */
function addTokens(
  pipeline: Pipeline,
  named: ReadonlyMap<string, Named>,
  extra: readonly Named[],
  decoder: NamedTokens["decoder"],
): void {
  const { added } = pipeline;
  const list: Named[] = decoder.map(([, token]) => token);
  const known = new Set([...added.tokens.values(), ...list].map(textOf));
  // Of a token that is named and listed again, the settings of the last count.
  list.push(...[...named.values(), ...extra].filter((token) => !known.has(textOf(token))));
  const names = new Set([...named.values()].map(textOf));
  for (const token of list) {
    if (typeof token === "string") added.add(addedToken(token, { special: true }));
    else added.add({ ...token, special: token.special || names.has(token.content) });
  }
}

/** `eos_token_id` of config.json. */
function configEos({ eos_token_id }: Record<string, unknown>): number | undefined {
  const id = Array.isArray(eos_token_id) ? eos_token_id[0] : eos_token_id;
  return Number.isSafeInteger(id) && id >= 0 ? id : undefined;
}

async function build(files: Files): Promise<Omit<FolderTokenizer, "file">> {
  const { settings, json, sentencepiece } = files;
  const config = settings.tokenizer_config ?? {};
  const name = transformersClass(config, files.model_config);
  const tokens = namedTokens(settings);
  const parts = convertedParts(name, files, tokens);
  const { normalizer, pre_tokenizer, decoder } = parts;
  const patterns = hasPatterns([normalizer, pre_tokenizer, decoder])
    ? await loadPatterns()
    : noPatterns;
  const form = name === "TokenizersBackend" ? undefined : CLASS_FORMS[name];
  const pipeline = new Pipeline({ ...parts, post_processor: json?.post_processor }, patterns);
  // A class with a form of its own takes the tokens of tokenizer.json from the settings' lists alone.
  if (form === undefined) {
    for (const { id: _, ...token } of settings.tokenizer_json ?? []) pipeline.added.add(token);
  }
  const named = allNamed(name, tokens, files);
  const extra = tokens.extra ??
    (sentencepiece === undefined ? tokens.older ?? [] : addedPieces(sentencepiece));
  addTokens(pipeline, named, extra, tokens.decoder);
  if (form?.plain_control_tokens) {
    for (const token of [...named.values(), ...extra]) {
      pipeline.added.add(addedToken(textOf(token), { special: true }));
    }
  }
  const text = (key: string) => {
    const token = named.get(key);
    return token === undefined ? undefined : textOf(token);
  };
  // Beside a tokenizer.json, what stands around a text is its post-processor's affair.
  const says = json === undefined && ("add_bos_token" in config || "add_eos_token" in config);
  const explicit = says || form?.adds_bos || form?.ignores_post_processor;
  if (explicit || !pipeline.parts.post_processor) {
    const addsBos = json === undefined && "add_bos_token" in config
      ? config.add_bos_token === true
      : form?.adds_bos === true;
    const addsEos = json === undefined && config.add_eos_token === true;
    pipeline.parts.post_processor = templateProcessing(
      pipeline,
      addsBos ? text("bos_token") : undefined,
      addsEos ? text("eos_token") : undefined,
    );
  }
  return {
    pipeline,
    named: new Map([...named].map(([key, token]) => [key, textOf(token)])),
    extra: extra.map(textOf),
    split_special_tokens: config.split_special_tokens === true,
    tokenizer_class: name,
    config_eos_id: configEos(files.model_config),
  };
}

/**
 * Reads a folder's tokenizer, or a tokenizer.json with what is beside it.
 *
 * @param path A folder that holds a tokenizer.json or a tokenizer.model, or a tokenizer.json of whatever name.
 * @throws {UserError} naming the file and what is wrong with it or can't be computed.
 */
export async function readTokenizerFolder(path: string): Promise<FolderTokenizer> {
  const json = isFolder(path) ? join(path, "tokenizer.json") : path;
  const file = exists(json) ? json : join(path, "tokenizer.model");
  try {
    return { file, ...await build(readFiles(path)) };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UserError(`tokenizer "${file}" ${error.message}`);
  }
}

/** Whether a folder holds a tokenizer. */
export function holdsTokenizer(folder: string): boolean {
  return ["tokenizer.json", "tokenizer.model"].some((name) => exists(join(folder, name)));
}
