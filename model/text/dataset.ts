/**
 * A data file as token ids, the same for training and scoring.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { loadAlpaca } from "./alpaca.ts";
import { encodeSample, supervisedTokens, type TokenizedSample } from "./prompt.ts";
import type { Tokenizer } from "./tokenizer.ts";

/**
 * Reads and tokenises samples, without those that the cut at the maximum length left no target.
 *
 * @param data An Alpaca JSON or JSON Lines file, or `builtin`.
 * @param samples Only the first so many.
 * @param max_length Longer samples are cut at so many tokens.
 * @param context The model's own limit on them.
 * @param say Told what was read, a line at a time.
 * @throws {UserError} where the file is wrong or nothing is left.
 */
export function loadDataset(
  tokenizer: Tokenizer,
  { data, samples: limit, max_length, context, say }: {
    data: string;
    samples?: number;
    max_length: number;
    context: number;
    say: (line: string) => void;
  },
): TokenizedSample[] {
  const maxLength = Math.min(max_length, context);
  const all = loadAlpaca(data, limit).map((sample) => encodeSample(tokenizer, sample, maxLength));
  const samples = all.filter((sample) => supervisedTokens(sample) > 0);
  const truncated = samples.filter((sample) => sample.truncated).length;
  const tokens = samples.reduce((sum, { ids }) => sum + ids.length, 0);
  const count = (n: number) => n === 1 ? "1 sample" : `${n} samples`;
  say(`Data: ${data}, ${count(samples.length)}, ${tokens} tokens`);
  if (truncated > 0) say(`  ${count(truncated)} cut at ${maxLength} tokens`);
  const dropped = all.length - samples.length;
  if (dropped > 0) {
    say(`  ${count(dropped)} left out: nothing of the output is within ${maxLength} tokens`);
  }
  if (samples.length === 0) {
    throw new UserError(
      `data "${data}": no sample has any of its output within max_length ${maxLength}`,
    );
  }
  return samples;
}
