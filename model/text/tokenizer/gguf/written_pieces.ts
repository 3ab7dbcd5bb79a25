/**
 * A tokenizer of SentencePiece's pairs as scored pieces, which GGUF has for it. A tokenizer.json has merges in their order
 * instead: the score of a piece is then minus the place of the first merge that makes it.
 *
 * @module
 */
import type { GgufVocabulary } from "../../../formats/gguf/vocabulary.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import type { BpeSettings } from "../pipeline/bpe.ts";
import { type ScoredPieces, scoredPieces } from "./gguf_tokenizer.ts";

/** Below the score of every piece that a merge makes. */
const UNMERGED = -(2 ** 24);

/** Texts that show how a tokenizer treats spaces and characters, none of them a control token. */
const PROBES = [
  "a bird sings",
  " a bird",
  "two  spaces,   three  ",
  "\n\nlines\n of\ttext \n",
  "Zaza is 12,345.67 % (or <more>) of it!",
  "d\u00e9j\u00e0 vu e\u0301 \ufb01 \u00bd \uff21 \u00a0x",
  "\u65e5\u672c\u8a9e \u0434\u043e\u043c \ud55c\uad6d",
  "\u{1f600}\u{1f468}\u200d\u{1f469} \u2581x",
  "",
];

/** Whether every character, space and merge of two tokenizers is the same. */
function sameIds(pipeline: Pipeline, other: Pipeline): boolean {
  const ids = (of: Pipeline, text: string) => of.encode(text, "ordinary").join();
  return PROBES.every((text) => ids(pipeline, text) === ids(other, text));
}

/** What each merge makes, in order. */
function results(pipeline: Pipeline): string {
  const { model } = pipeline.parts;
  return model.type === "BPE" ? model.settings.merges.map((pair) => pair.join("")).join("\0") : "";
}

/** The score of each piece. */
export function pieceScores({ merges }: BpeSettings): (piece: string) => number {
  const scores = new Map<string, number>();
  for (const [left, right] of merges) {
    const piece = left + right;
    if (!scores.has(piece)) scores.set(piece, -scores.size);
  }
  return (piece) => scores.get(piece) ?? UNMERGED;
}

/**
 * The same tokenizer as scored pieces, with what is done to spaces.
 *
 * @throws {RangeError} where no scored pieces give the same ids.
 */
export async function asScoredPieces(
  pipeline: Pipeline,
  vocabulary: { pieces: ScoredPieces["pieces"]; ids: GgufVocabulary["ids"] },
): Promise<ScoredPieces> {
  for (const remove_extra_whitespaces of [false, true]) {
    for (const add_space_prefix of [true, false]) {
      const scored = { ...vocabulary, add_space_prefix, remove_extra_whitespaces };
      const rebuilt = await scoredPieces(scored);
      if (results(rebuilt) !== results(pipeline)) {
        throw new RangeError(
          "merges pieces in an order that is no order of scores, as GGUF has it; expected SentencePiece's",
        );
      }
      if (sameIds(pipeline, rebuilt)) return scored;
    }
  }
  throw new RangeError(
    "normalizes or cuts texts in a way that GGUF can't say; expected SentencePiece's without a map of " +
      "characters",
  );
}
