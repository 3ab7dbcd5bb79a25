/**
 * A tokenizer as the metadata of a GGUF file: SentencePiece's pairs (`llama`), or byte-level BPE (`gpt2`).
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { noteLine } from "../../../kernels/terminal.ts";
import type { ModelConfig } from "../../families/config.ts";
import {
  flag,
  floats,
  type GgufMetadata,
  type GgufValue,
  integers,
  text,
  texts,
  u32,
} from "../../formats/gguf/values.ts";
import {
  CONTROL,
  type GgufVocabulary,
  isEndText,
  NORMAL,
  UNKNOWN,
  UNUSED,
  USER_DEFINED,
} from "../../formats/gguf/vocabulary.ts";
import { brief } from "../../files/json_file.ts";
import { isFolder } from "../../files/whole_file.ts";
import { tokenizerOrigin } from "./load.ts";
import { pieceByte } from "./pieces.ts";
import type { BpeSettings } from "./pipeline/bpe.ts";
import { unknownId } from "./pipeline/models.ts";
import type { Pipeline } from "./pipeline/pipeline.ts";
import { pipelineTokenizer } from "./pipeline_tokenizer.ts";
import { BYTE } from "./sentencepiece/sentencepiece_file.ts";
import { sentencePieceTokenizer, unmarked } from "./sentencepiece/sentencepiece_folder.ts";
import { stopTokens } from "./stop_tokens.ts";
import type { Tokenizer } from "./tokenizer.ts";
import type { FolderTokenizer } from "./pipeline_tokenizer.ts";
import { readTokenizerFolder } from "./tokenizer_folder.ts";
import { vocabularyCheck } from "./vocabulary_check.ts";
import { ggufTokenizer } from "./gguf/gguf_tokenizer.ts";
import { byteLevelStep, PRE_NAMES, preNameOf } from "./gguf/pre_tokenizers.ts";
import { asScoredPieces, pieceScores } from "./gguf/written_pieces.ts";

type Entries = [name: string, value: GgufValue][];

/** The tokenizer at a path, whatever it is read from. */
async function readFolder(path: string): Promise<FolderTokenizer> {
  const origin = tokenizerOrigin(path, isFolder(path));
  switch (origin.kind) {
    case "sentencepiece":
      return await sentencePieceTokenizer(origin.file);
    case "gguf":
      return await ggufTokenizer(origin.file);
    case "folder":
      return await readTokenizerFolder(origin.path);
  }
}

/** A tokenizer's settings, where it is of the only model that GGUF's two kinds are of. */
function bpeSettings({ parts: { model } }: Pipeline): BpeSettings {
  const { type } = model;
  if (type !== "BPE") {
    throw new RangeError(`is a ${type} model, which is not written to GGUF; expected BPE`);
  }
  const { continuing_subword_prefix: prefix, end_of_word_suffix: suffix } = model.settings;
  if (prefix === "" && suffix === "") return model.settings;
  throw new RangeError(
    `has a continuing_subword_prefix or an end_of_word_suffix, ${
      brief(prefix || suffix)
    }, which GGUF ` +
      "has no key for",
  );
}

/** `tokenizer.ggml.token_type` of a token. */
function tokenType(pipeline: Pipeline, settings: BpeSettings, id: number): number {
  const { added, texts } = pipeline, content = texts.get(id);
  if (content === undefined) return UNUSED;
  if (id === unknownId(pipeline.parts.model)) return UNKNOWN;
  if (added.isSpecial(content)) return CONTROL;
  if (added.tokens.has(id)) return USER_DEFINED;
  return settings.byte_fallback && pieceByte(content) !== undefined ? BYTE : NORMAL;
}

/** Every row of the embedding has a token; rows that no id uses have one that stands for none. */
function vocabularyOf(
  pipeline: Pipeline,
  settings: BpeSettings,
  count: number,
): Pick<GgufVocabulary, "tokens"> & { types: number[] } {
  const types = Array.from({ length: count }, (_, id) => tokenType(pipeline, settings, id));
  const tokens = types.map((type, id) => {
    const content = unmarked(pipeline.texts.get(id) ?? `[PAD${id}]`);
    // llama.cpp looks for these in the text as it is.
    return type === USER_DEFINED ? content.replaceAll("\u2581", " ") : content;
  });
  return { tokens, types };
}

/** Tokens with a role. Of those that end an answer GGUF names three; those that are known by their texts need no name. */
function roles(tokenizer: Tokenizer, endTokens: readonly number[]): GgufVocabulary["ids"] {
  const { bos_id: bos, eos_id: eos, named_tokens } = tokenizer;
  const named = (name: string) => {
    const content = named_tokens.get(name);
    return content === undefined ? undefined : tokenizer.special_tokens.get(content);
  };
  const others = endTokens.filter((id) => id !== eos);
  const eom = others.find((id) => tokenizer.token(id) === "<|eom_id|>");
  const [eot, ...unnamed] = others.filter((id) => id !== eom);
  const lost = unnamed.map((id) => tokenizer.token(id) ?? "").filter((token) => !isEndText(token));
  if (lost.length > 0) {
    noteLine(`GGUF has no place for these tokens that end an answer: ${lost.join(", ")}.`);
  }
  const unknown = named("unk_token"), padding = named("pad_token");
  const all = { bos, eos, eot, eom, unknown, padding };
  return Object.fromEntries(Object.entries(all).filter(([, id]) => id !== undefined));
}

/** What stands around a text. @throws {RangeError} where that is more than BOS and EOS. */
function around({ prefix_ids, suffix_ids, bos_id, eos_id }: Tokenizer): Entries {
  const adds = (ids: readonly number[], id: number | undefined, where: string): boolean => {
    if (ids.length === 0) return false;
    if (ids.length === 1 && ids[0] === id) return true;
    throw new RangeError(
      `puts tokens ${ids.join(", ")} ${where} a text, expected ${
        id ?? "none"
      }: GGUF has no other there`,
    );
  };
  return [
    ["add_bos_token", flag(adds(prefix_ids, bos_id, "before"))],
    ["add_eos_token", flag(adds(suffix_ids, eos_id, "after"))],
  ];
}

/** Byte-level BPE. */
function byteLevel(pipeline: Pipeline, { merges, ignore_merges }: BpeSettings): Entries {
  const { normalizer, pre_tokenizer } = pipeline.parts;
  const pre = preNameOf({ normalizer, pre_tokenizer, ignore_merges });
  if (pre === undefined) {
    throw new RangeError(
      `normalizes and cuts texts in a way that llama.cpp has no name for: pre_tokenizer is ${
        brief(pre_tokenizer)
      }, expected that of ${PRE_NAMES.join(", ")}`,
    );
  }
  return [
    ["model", text("gpt2")],
    ["pre", text(pre)],
    ["merges", texts(merges.map((pair) => pair.join(" ")))],
  ];
}

/** SentencePiece's pairs. */
async function sentencePieces(
  pipeline: Pipeline,
  settings: BpeSettings,
  { tokens, types, ids }: Pick<GgufVocabulary, "tokens" | "ids"> & { types: number[] },
): Promise<Entries> {
  const score = pieceScores(settings);
  const pieces = tokens.map((piece, id) => ({ piece, score: score(piece), type: types[id] }));
  const scored = await asScoredPieces(pipeline, { pieces, ids });
  if (scored.remove_extra_whitespaces) {
    noteLine(
      "This tokenizer removes spaces at the ends of a text and second spaces in it. The GGUF file says so, but " +
        "llama.cpp keeps them: its ids of such texts will be others.",
    );
  }
  return [
    ["model", text("llama")],
    ["pre", text("default")],
    ["scores", floats(pieces.map(({ score }) => score))],
    ["add_space_prefix", flag(scored.add_space_prefix)],
    ["remove_extra_whitespaces", flag(scored.remove_extra_whitespaces)],
  ];
}

/**
 * The metadata of a tokenizer.
 *
 * @param path The file or folder that it is in.
 * @param of The model: its name for messages, its configuration, and its folder where it has one.
 * @throws {UserError} that names the file, for a tokenizer that is another model's, or that GGUF can't hold.
 */
export async function tokenizerMetadata(
  path: string,
  of: { model: string; config: ModelConfig; folder?: string },
): Promise<GgufMetadata> {
  const folder = await readFolder(path), { pipeline } = folder;
  const tokenizer = pipelineTokenizer(folder), { vocab_size } = of.config;
  vocabularyCheck(tokenizer, vocab_size, { tokenizer: path, model: of.model });
  try {
    const settings = bpeSettings(pipeline);
    const vocabulary = vocabularyOf(pipeline, settings, vocab_size);
    const ids = roles(tokenizer, stopTokens(of.config, tokenizer, of.folder));
    const isBytes = byteLevelStep(pipeline.parts.pre_tokenizer) !== undefined;
    const kind = isBytes
      ? byteLevel(pipeline, settings)
      : await sentencePieces(pipeline, settings, { ...vocabulary, ids });
    const entries: Entries = [
      ...kind,
      ["tokens", texts(vocabulary.tokens)],
      ["token_type", integers(vocabulary.types)],
      ...Object.entries(ids).map(([role, id]): Entries[number] => [`${role}_token_id`, u32(id)]),
      ...around(tokenizer),
    ];
    return new Map(entries.map(([name, value]) => [`tokenizer.ggml.${name}`, value]));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UserError(`tokenizer "${folder.file}" ${error.message}`);
  }
}
