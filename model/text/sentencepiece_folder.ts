/**
 * A SentencePiece model as a tokenizer.json that gives the ids of SentencePiece itself: a space before the
 * text where the model asks for one, and BOS at its beginning.
 *
 * @module
 */
import { addedToken, PIECE_DECODERS, pieceIds } from "./sentencepiece_conversion.ts";
import {
  BYTE,
  CONTROL,
  type SentencePieceFile,
  UNKNOWN,
  USER_DEFINED,
} from "./sentencepiece_file.ts";
import type { ModelSettings } from "./tokenization/models.ts";
import { loadPatterns, noPatterns } from "./tokenization/oniguruma.ts";
import { Pipeline } from "./tokenization/pipeline.ts";
import { type FolderTokenizer, templateProcessing } from "./tokenizer_folder.ts";

/** Merges of ordinary pieces, those of better scores first, as SentencePiece makes them. */
function scoredMerges({ pieces }: SentencePieceFile): [string, string][] {
  const fixed = [UNKNOWN, CONTROL, BYTE, USER_DEFINED];
  const scores = new Map(
    pieces.filter(({ type }) => !fixed.includes(type)).map(({ piece, score }) => [piece, score]),
  );
  const merges: { pair: [string, string]; score: number }[] = [];
  for (const [piece, score] of scores) {
    let cut = 0;
    for (const character of piece) {
      cut += character.length;
      const left = piece.slice(0, cut), right = piece.slice(cut);
      if (scores.has(left) && scores.has(right)) merges.push({ pair: [left, right], score });
    }
  }
  return merges.sort((a, b) => b.score - a.score).map(({ pair }) => pair);
}

function model(file: SentencePieceFile): ModelSettings {
  const { pieces, byte_fallback, unk_id } = file;
  switch (file.model_type) {
    case "bpe":
      return {
        type: "BPE",
        settings: {
          vocab: pieceIds(file),
          merges: scoredMerges(file),
          unk_token: pieces[unk_id]?.piece,
          continuing_subword_prefix: "",
          end_of_word_suffix: "",
          fuse_unk: true,
          byte_fallback,
          ignore_merges: false,
        },
      };
    case "unigram":
      return {
        type: "Unigram",
        settings: {
          vocab: pieces.map(({ piece, score }): [string, number] => [piece, score]),
          unk_id,
          byte_fallback,
        },
      };
    default:
      throw new RangeError(
        `is a SentencePiece model of type "${file.model_type}", which no tokenizer.json can say; ` +
          "expected bpe or unigram",
      );
  }
}

/** What SentencePiece does to a text before it looks for pieces. */
function normalizers(file: SentencePieceFile): unknown[] {
  const list: unknown[] = [];
  if (file.precompiled_charsmap.length > 0) {
    const precompiled_charsmap = file.precompiled_charsmap.toBase64();
    list.push({ type: "Precompiled", precompiled_charsmap });
  }
  if (file.remove_extra_whitespaces) {
    list.push(
      { type: "Replace", pattern: { Regex: "\\A +| +\\z" }, content: "" },
      { type: "Replace", pattern: { Regex: " {2,}" }, content: " " },
    );
  }
  if (file.add_dummy_prefix) list.push({ type: "Prepend", prepend: "\u2581" });
  list.push({ type: "Replace", pattern: { String: " " }, content: "\u2581" });
  return list;
}

/** @throws {RangeError} where no tokenizer.json can say what the model does. */
export async function sentencePieceTokenizer(file: SentencePieceFile): Promise<FolderTokenizer> {
  const { add_dummy_prefix, bos_piece, eos_piece, remove_extra_whitespaces } = file;
  const strip = { type: "Strip", content: " ", start: 1, stop: 0 };
  const pipeline = new Pipeline({
    model: model(file),
    normalizer: { type: "Sequence", normalizers: normalizers(file) },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: "Sequence",
      decoders: add_dummy_prefix ? [...PIECE_DECODERS, strip] : PIECE_DECODERS,
    },
  }, remove_extra_whitespaces ? await loadPatterns() : noPatterns);
  for (const { piece, type } of file.pieces) {
    if (piece === "" || ![UNKNOWN, CONTROL, USER_DEFINED].includes(type)) continue;
    const special = type !== USER_DEFINED;
    pipeline.added.add(addedToken(piece, { special, normalized: false }));
  }
  pipeline.parts.post_processor = templateProcessing(pipeline, bos_piece, undefined);
  const named = new Map([["bos_token", bos_piece], ["eos_token", eos_piece]]);
  const unknown = file.pieces[file.unk_id]?.piece;
  if (unknown) named.set("unk_token", unknown);
  return {
    pipeline,
    named,
    extra: [],
    split_special_tokens: false,
    tokenizer_class: "TokenizersBackend",
    config_eos_id: undefined,
  };
}
