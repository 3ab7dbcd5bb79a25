/**
 * From SentencePiece's vocabularies to those of a tokenizer.json, as `transformers` 5.18 converts them.
 *
 * @module
 */
import { type AddedToken, addedToken } from "../pipeline/added_tokens.ts";
import type { ModelSettings } from "../pipeline/models.ts";
import { CONTROL, type SentencePieceFile, USER_DEFINED } from "./sentencepiece_file.ts";

/** The ids of the pieces; of one that stands there twice the last. */
export function pieceIds({ pieces }: SentencePieceFile): Map<string, number> {
  return new Map(pieces.map(({ piece }, id) => [piece, id]));
}

/** The ways to make a piece of two others that `has` knows, those with the shortest first part first. */
export function* pairsOf(
  piece: string,
  has: (part: string) => boolean,
): Generator<[string, string]> {
  let cut = 0;
  for (const character of piece) {
    cut += character.length;
    const left = piece.slice(0, cut), right = piece.slice(cut);
    if (right !== "" && has(left) && has(right)) yield [left, right];
  }
}

/**
 * The merges that a vocabulary holds: every way to make a piece of two others. Those of lower ids come
 * first, since SentencePiece's ids are in the order of its merges.
 */
export function vocabularyMerges(ids: ReadonlyMap<string, number>): [string, string][] {
  const merges: [string, string][] = [];
  const has = (part: string) => ids.has(part);
  for (const [piece] of [...ids].sort(([, a], [, b]) => a - b)) {
    for (const pair of pairsOf(piece, has)) merges.push(pair);
  }
  return merges;
}

/** Control pieces and pieces that the maker defined, which are found in a text before anything else. */
export function addedPieces({ pieces }: SentencePieceFile): AddedToken[] {
  return pieces.filter(({ type }) => type === CONTROL || type === USER_DEFINED)
    .map(({ piece, type }) => addedToken(piece, { special: type === CONTROL, normalized: false }));
}

/** What decoding does for pieces with U+2581 for spaces. */
export const PIECE_DECODERS = [
  { type: "Replace", pattern: { String: "\u2581" }, content: " " },
  { type: "ByteFallback" },
  { type: "Fuse" },
];

/** Takes off the space that was put before a text. */
export const STRIP_FIRST_SPACE = { type: "Strip", content: " ", start: 1, stop: 0 };

/** The parts of a tokenizer.json. */
export interface ConvertedParts {
  model: ModelSettings;
  normalizer: unknown;
  pre_tokenizer: unknown;
  decoder: unknown;
}

/**
 * A model file by itself, without a class that says more: no space before the text, and spaces become
 * U+2581.
 *
 * @param renamed Texts that pieces have instead of their own, by id.
 */
export function plainConversion(
  file: SentencePieceFile,
  renamed: ReadonlyMap<number, string>,
): ConvertedParts {
  const { byte_fallback, unk_id, unk_piece, precompiled_charsmap } = file;
  const precompiled = precompiled_charsmap.length === 0
    ? []
    : [{ type: "Precompiled", precompiled_charsmap: precompiled_charsmap.toBase64() }];
  const replace = { type: "Replace", pattern: { String: "\u2581" }, content: " " };
  const decoders = byte_fallback ? PIECE_DECODERS : [replace];
  return {
    model: file.model_type === "unigram"
      ? {
        type: "Unigram",
        settings: {
          vocab: file.pieces.map(({ piece, score }): [string, number] => [piece, score]),
          unk_id,
          byte_fallback,
        },
      }
      : plainBpe(file, renamed, unk_piece),
    normalizer: {
      type: "Sequence",
      normalizers: [
        ...precompiled,
        { type: "Replace", pattern: { String: " " }, content: "\u2581" },
      ],
    },
    pre_tokenizer: null,
    decoder: { type: "Sequence", decoders },
  };
}

function plainBpe(
  file: SentencePieceFile,
  renamed: ReadonlyMap<number, string>,
  unk_token: string,
): ModelSettings {
  const ids = pieceIds(file);
  const merges = vocabularyMerges(ids);
  for (const [id, text] of renamed) {
    const old = file.pieces[id]?.piece;
    if (!old || old === text || ids.has(text) || ids.get(old) !== id) continue;
    ids.delete(old);
    ids.set(text, id);
  }
  return {
    type: "BPE",
    settings: {
      vocab: ids,
      merges,
      unk_token,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: true,
      byte_fallback: file.byte_fallback,
      ignore_merges: false,
    },
  };
}
