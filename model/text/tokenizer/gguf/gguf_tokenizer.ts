/**
 * The tokenizer of a GGUF file: SentencePiece's (`llama`) or byte-level BPE (`gpt2`), as what a tokenizer.json describes.
 *
 * @module
 */
import { UserError } from "../../../../kernels/errors.ts";
import { noteLine } from "../../../../kernels/terminal.ts";
import type { Metadata } from "../../../formats/gguf/metadata.ts";
import { openFirstSplit } from "../../../formats/gguf/split.ts";
import {
  CONTROL,
  type GgufVocabulary,
  readVocabulary,
  UNKNOWN,
  USER_DEFINED,
} from "../../../formats/gguf/vocabulary.ts";
import { brief } from "../../../files/json_file.ts";
import { addedToken } from "../pipeline/added_tokens.ts";
import { hasPatterns, loadPatterns, noPatterns } from "../pipeline/oniguruma.ts";
import { Pipeline } from "../pipeline/pipeline.ts";
import { BYTE, type SentencePieceFile } from "../sentencepiece/sentencepiece_file.ts";
import { sentencePiecePipeline } from "../sentencepiece/sentencepiece_folder.ts";
import type { FolderTokenizer } from "../pipeline_tokenizer.ts";
import { templateProcessing } from "../pipeline/template_processing.ts";
import { PRE_NAMES, preTokenizationOf } from "./pre_tokenizers.ts";

const key = (name: string) => `tokenizer.ggml.${name}`;

/** A tokenizer without what stands around a text, and whether BOS does where the file doesn't say. */
interface BareTokenizer {
  pipeline: Pipeline;
  adds_bos: boolean;
}

/** SentencePiece's pairs, of which those of better scores are merged first; its texts are not normalized. */
export interface ScoredPieces {
  pieces: SentencePieceFile["pieces"];
  ids: GgufVocabulary["ids"];
  add_space_prefix: boolean;
  remove_extra_whitespaces: boolean;
}

/** What is computed with them. */
export function scoredPieces(
  { pieces, ids, add_space_prefix, remove_extra_whitespaces }: ScoredPieces,
): Promise<Pipeline> {
  return sentencePiecePipeline({
    pieces,
    model_type: "bpe",
    byte_fallback: pieces.some(({ type }) => type === BYTE),
    unk_id: ids.unknown ?? -1,
    bos_id: ids.bos ?? -1,
    eos_id: ids.eos ?? -1,
    unk_piece: "",
    bos_piece: "",
    eos_piece: "",
    unk_surface: "",
    precompiled_charsmap: new Uint8Array(),
    add_dummy_prefix: add_space_prefix,
    remove_extra_whitespaces,
  });
}

async function sentencePieceBpe(
  metadata: Metadata,
  { tokens, types, ids }: GgufVocabulary,
): Promise<BareTokenizer> {
  const scores = metadata.numbers(key("scores"));
  if (scores !== undefined && scores.length !== tokens.length) {
    metadata.fail(key("scores"), `one for each of ${tokens.length} tokens`);
  }
  const pipeline = await scoredPieces({
    pieces: tokens.map((piece, id) => ({
      piece,
      score: Number(scores?.[id] ?? 0),
      type: types[id],
    })),
    ids,
    add_space_prefix: metadata.flag(key("add_space_prefix")) ?? true,
    remove_extra_whitespaces: metadata.flag(key("remove_extra_whitespaces")) ?? false,
  });
  return { pipeline, adds_bos: true };
}

/** A merge's two tokens, of which the first may be a space itself. */
function merge(text: string, metadata: Metadata): [string, string] {
  const space = text.indexOf(" ", 1);
  if (space > 0 && space < text.length - 1) return [text.slice(0, space), text.slice(space + 1)];
  throw new UserError(
    `${metadata.path}: ${key("merges")} holds ${
      brief(text)
    }, expected two tokens with a space between`,
  );
}

/** Byte-level BPE. */
async function byteLevelBpe(
  metadata: Metadata,
  { tokens, types }: GgufVocabulary,
): Promise<BareTokenizer> {
  const name = metadata.text(key("pre")), found = preTokenizationOf(name ?? "default");
  if (name === undefined) {
    noteLine(
      `${metadata.path} does not say how its texts are cut (${
        key("pre")
      }): they are cut as llama.cpp ` +
        "does by default, which may not be what the model was trained with",
    );
  }
  if (found === undefined) return metadata.fail(key("pre"), `one of ${PRE_NAMES.join(", ")}`);
  const merges = metadata.texts(key("merges")) ??
    metadata.fail(key("merges"), "the merges of a byte-level tokenizer");
  const { steps, normalizer = null, gpt2_words: use_regex = false } = found;
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex };
  const pre_tokenizer = { type: "Sequence", pretokenizers: [...steps, byteLevel] };
  const pipeline = new Pipeline({
    model: {
      type: "BPE",
      settings: {
        vocab: new Map(tokens.map((token, id) => [token, id])),
        merges: merges.map((text) => merge(text, metadata)),
        continuing_subword_prefix: "",
        end_of_word_suffix: "",
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: found.ignore_merges ?? false,
      },
    },
    normalizer,
    pre_tokenizer,
    post_processor: null,
    decoder: byteLevel,
  }, hasPatterns(pre_tokenizer) ? await loadPatterns() : noPatterns);
  tokens.forEach((token, id) => {
    if (token === "" || ![UNKNOWN, CONTROL, USER_DEFINED].includes(types[id])) return;
    pipeline.added.add(
      addedToken(token, { special: types[id] !== USER_DEFINED, normalized: false }),
    );
  });
  return { pipeline, adds_bos: found.adds_bos ?? false };
}

/** What is put before and after a text, and what the named tokens are. */
function withSpecialTokens(
  path: string,
  metadata: Metadata,
  { tokens, ids }: GgufVocabulary,
  { pipeline, adds_bos }: BareTokenizer,
): FolderTokenizer {
  const text = (id: number | undefined) => id === undefined ? undefined : tokens[id];
  const names = Object.entries({
    bos_token: text(ids.bos),
    eos_token: text(ids.eos),
    unk_token: text(ids.unknown),
    pad_token: text(ids.padding),
  });
  if (ids.eos === undefined) metadata.fail(key("eos_token_id"), "the id of a token");
  const bos = metadata.flag(key("add_bos_token")) ?? adds_bos ? text(ids.bos) : undefined;
  const eos = metadata.flag(key("add_eos_token")) ? text(ids.eos) : undefined;
  pipeline.parts.post_processor = templateProcessing(pipeline, bos, eos);
  return {
    file: path,
    pipeline,
    named: new Map(names.flatMap(([name, token]) => token ? [[name, token] as const] : [])),
    extra: [],
    split_special_tokens: false,
    tokenizer_class: "TokenizersBackend",
    config_eos_id: undefined,
  };
}

/**
 * The tokenizer of a GGUF file.
 *
 * @throws {UserError} that names the file, for a file without a tokenizer or with one that is not supported.
 */
export async function ggufTokenizer(path: string): Promise<FolderTokenizer> {
  const { file, metadata } = openFirstSplit(path);
  try {
    const vocabulary = readVocabulary(metadata);
    if (vocabulary === undefined) {
      throw new UserError(`${path}: holds no tokenizer; name one with --tokenizer`);
    }
    const kinds: Record<string, typeof sentencePieceBpe> = {
      llama: sentencePieceBpe,
      gpt2: byteLevelBpe,
    };
    const kind = Object.hasOwn(kinds, vocabulary.model)
      ? kinds[vocabulary.model]
      : metadata.fail(key("model"), `"llama" or "gpt2"`);
    return withSpecialTokens(path, metadata, vocabulary, await kind(metadata, vocabulary));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UserError(`tokenizer "${path}" ${error.message}`);
  } finally {
    file.close();
  }
}
