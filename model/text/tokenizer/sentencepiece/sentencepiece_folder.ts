/**
 * A SentencePiece model as a tokenizer.json that gives the ids of SentencePiece itself: a space before the
 * text where the model asks for one, and BOS at its beginning.
 *
 * @module
 */
import {
  pairsOf,
  PIECE_DECODERS,
  pieceIds,
  STRIP_FIRST_SPACE,
} from "./sentencepiece_conversion.ts";
import {
  BYTE,
  CONTROL,
  readSentencePieceFile,
  type SentencePieceFile,
  UNKNOWN,
  USER_DEFINED,
} from "./sentencepiece_file.ts";
import { addedToken } from "../pipeline/added_tokens.ts";
import type { ModelSettings } from "../pipeline/models.ts";
import { hasPatterns, loadPatterns, noPatterns } from "../pipeline/oniguruma.ts";
import { Pipeline } from "../pipeline/pipeline.ts";
import type { FolderTokenizer } from "../pipeline_tokenizer.ts";
import { templateProcessing } from "../pipeline/template_processing.ts";

/**
 * Stands before the pieces that the maker defined, and in no text: it is two codes that are no characters. SentencePiece finds such
 * pieces in the normalized text, with the space before it. As added tokens they are normalized like a text, but get
 * no space: the mark keeps it away, and is then taken out.
 */
const MARK = "\u{10fffe}\u{1fffe}";

/** A piece as its maker wrote it, whether or not the mark stands before it. */
export function unmarked(piece: string): string {
  return piece.startsWith(MARK) ? piece.slice(MARK.length) : piece;
}

/** The pieces as the vocabulary holds them. */
function marked(file: SentencePieceFile): SentencePieceFile {
  const pieces = file.pieces.map((piece) =>
    piece.type === USER_DEFINED ? { ...piece, piece: MARK + piece.piece } : piece
  );
  return { ...file, pieces };
}

/** Merges of ordinary pieces, those of better scores first, as SentencePiece makes them. */
function scoredMerges({ pieces }: SentencePieceFile): [string, string][] {
  const fixed = [UNKNOWN, CONTROL, BYTE, USER_DEFINED];
  const scores = new Map(
    pieces.filter(({ type }) => !fixed.includes(type)).map(({ piece, score }) => [piece, score]),
  );
  const merges: { pair: [string, string]; score: number }[] = [];
  for (const [piece, score] of scores) {
    for (const pair of pairsOf(piece, (part) => scores.has(part))) merges.push({ pair, score });
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
  const hasMarks = file.pieces.some(({ type }) => type === USER_DEFINED);
  if (file.add_dummy_prefix && !hasMarks) list.push({ type: "Prepend", prepend: "\u2581" });
  if (file.add_dummy_prefix && hasMarks) {
    list.push({ type: "Replace", pattern: { Regex: `\\A(?!${MARK})` }, content: "\u2581" });
  }
  if (hasMarks) list.push({ type: "Replace", pattern: { String: MARK }, content: "" });
  list.push({ type: "Replace", pattern: { String: " " }, content: "\u2581" });
  return list;
}

/**
 * A model as what a tokenizer.json describes, without what stands around a text. Characters that it maps to others
 * (nmt_nfkc) are mapped as a tokenizer.json can say it: not where several of them together are one.
 *
 * @throws {RangeError} where no tokenizer.json can say what it does.
 */
export async function sentencePiecePipeline(given: SentencePieceFile): Promise<Pipeline> {
  const file = marked(given), { add_dummy_prefix } = file;
  const normalizer = { type: "Sequence", normalizers: normalizers(file) };
  const hasMarks = file.pieces.some(({ type }) => type === USER_DEFINED);
  const decoders = [
    ...(hasMarks ? [{ type: "Replace", pattern: { String: MARK }, content: "" }] : []),
    ...PIECE_DECODERS,
    ...(add_dummy_prefix ? [STRIP_FIRST_SPACE] : []),
  ];
  const pipeline = new Pipeline({
    model: model(file),
    normalizer,
    pre_tokenizer: null,
    post_processor: null,
    decoder: { type: "Sequence", decoders },
  }, hasPatterns(normalizer) ? await loadPatterns() : noPatterns);
  for (const { piece, type } of file.pieces) {
    if (piece === "" || ![UNKNOWN, CONTROL, USER_DEFINED].includes(type)) continue;
    const special = type !== USER_DEFINED;
    pipeline.added.add(addedToken(piece, { special, normalized: !special }));
  }
  return pipeline;
}

/**
 * The tokenizer of a tokenizer.model.
 *
 * @throws {UserError} where the file can't be read; RangeError as {@linkcode sentencePiecePipeline} does.
 */
export async function sentencePieceTokenizer(path: string): Promise<FolderTokenizer> {
  const file = readSentencePieceFile(path), { bos_piece, eos_piece, unk_id } = file;
  const pipeline = await sentencePiecePipeline(file);
  pipeline.parts.post_processor = templateProcessing(pipeline, bos_piece, undefined);
  const named = new Map([["bos_token", bos_piece], ["eos_token", eos_piece]]);
  const unknown = file.pieces[unk_id]?.piece;
  if (unknown) named.set("unk_token", unknown);
  return {
    file: path,
    pipeline,
    named,
    extra: [],
    split_special_tokens: false,
    tokenizer_class: "TokenizersBackend",
    config_eos_id: undefined,
  };
}
