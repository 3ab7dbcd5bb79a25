/**
 * A training sample as the model sees it: text in Alpaca's template, token ids, and which of them are
 * targets. Then what becomes of a text that the vocabulary has no tokens for.
 *
 *     ./lorikeet deno run --allow-read examples/study/training_sample.ts
 *
 * @module
 */
import { openModelWithTokenizer } from "../../model/checkpoint/source.ts";
import { loadSamples } from "../../model/text/data/load.ts";
import { describeSample, supervisedTokens } from "../../model/text/prompt.ts";
import { SampleEncoder } from "../../model/text/sample_encoder.ts";
import type { Tokenizer } from "../../model/text/tokenizer/tokenizer.ts";

/** A word of the built-in corpus, and a character that is not in it. */
const WORD = "A parrot", CHARACTER = "🦜";

/** What the study guide quotes of a sample: the third one, which has no input. */
export async function sampleLines(
  { tokenizer, tokenizerPath }: { tokenizer: Tokenizer; tokenizerPath: string },
): Promise<string[]> {
  const { samples } = await loadSamples("builtin", { limit: 3 });
  const encoder = new SampleEncoder(tokenizer, { tokenizerPath });
  await encoder.openFor(samples[2]);
  const sample = encoder.encode(samples[2], 512);
  const targets = supervisedTokens(sample);
  return [
    ...describeSample(tokenizer, sample).codes.split("\n"),
    "",
    `${sample.ids.length} tokens: ${sample.ids.length - targets} of the prompt, ${targets} targets`,
  ];
}

/** Ids of a text with a character that the vocabulary lacks, and those of its bytes. */
export function byteFallback(
  tokenizer: Tokenizer,
): { ids: number[]; last: number[]; bytes: number[]; decoded: string } {
  const bytes = [...new TextEncoder().encode(CHARACTER)];
  const ids = tokenizer.encode(`${WORD} ${CHARACTER}`);
  return { ids, last: ids.slice(-bytes.length), bytes, decoded: tokenizer.decode(ids) };
}

/** What the study guide quotes of it. */
export function byteLines(
  { ids, last, bytes, decoded }: ReturnType<typeof byteFallback>,
): string[] {
  return [
    `ids:     ${ids.join(" ")}`,
    `bytes of ${CHARACTER}: ${bytes.join(" ")}, as ids ${last.join(" ")}`,
    `decoded: ${decoded}`,
  ];
}

if (import.meta.main) {
  const found = await openModelWithTokenizer({ model: "builtin" });
  const lines = [...await sampleLines(found), "", ...byteLines(byteFallback(found.tokenizer))];
  console.log(lines.join("\n"));
}
