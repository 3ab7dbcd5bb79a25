/**
 * A training sample as the model sees it: text in Alpaca's template, token ids, and which of them are
 * targets. Then what becomes of a text that the vocabulary has no tokens for.
 *
 *     ./lorikeet deno run --allow-read examples/study/training_sample.ts
 *
 * @module
 */
import { openModelWithTokenizer } from "../../model/source.ts";
import { loadAlpaca } from "../../model/text/alpaca.ts";
import { describeSample, encodeSample, supervisedTokens } from "../../model/text/prompt.ts";
import type { Tokenizer } from "../../model/text/tokenizer.ts";

/** Text that has a word of the built-in corpus and characters that are not in it. */
const TEXT = "A parrot 🦜";

/** What the study guide quotes of a sample: the third one, which has no input. */
export function sampleLines(tokenizer: Tokenizer): string[] {
  const sample = encodeSample(tokenizer, loadAlpaca("builtin", 3)[2], 512);
  const targets = supervisedTokens(sample);
  return [
    ...describeSample(tokenizer, sample).split("\n"),
    "",
    `${sample.ids.length} tokens: ${sample.promptLength} of the prompt, ${targets} targets`,
  ];
}

/** Pieces of the text, and the text again. */
export function pieces(tokenizer: Tokenizer): { ids: number[]; decoded: string } {
  const ids = [...tokenizer.encode(TEXT)];
  return { ids, decoded: tokenizer.decode(ids) };
}

if (import.meta.main) {
  const { tokenizer } = await openModelWithTokenizer({ model: "builtin" });
  console.log(sampleLines(tokenizer).join("\n"));
  console.log(pieces(tokenizer));
}
