/**
 * A data file as token ids, the same for training and scoring.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { loadSamples } from "./load.ts";
import { encodeSample, supervisedTokens, type TokenizedSample } from "../prompt.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/**
 * Reads and tokenises samples, without those that the cut at the maximum length left no target.
 *
 * @param data A data file of any format that is read, or `builtin`.
 * @param called What it is called in what is said.
 * @param samples Only the first so many rows of it.
 * @param data_format The name of the rows' format; without it, or `auto`, their fields tell it.
 * @param max_length Longer samples are cut at so many tokens.
 * @param context The model's own limit on them.
 * @param say Told what was read, a line at a time.
 * @param check Called between samples; what it throws ends the reading.
 * @throws {UserError} where the file is wrong or nothing is left.
 */
export async function loadDataset(
  tokenizer: Tokenizer,
  { data, called = "Data", samples: limit, data_format, max_length, context, say, check }: {
    data: string;
    called?: string;
    samples?: number;
    data_format?: string;
    max_length: number;
    context: number;
    say: (line: string) => void;
    check?: () => void;
  },
): Promise<TokenizedSample[]> {
  const maxLength = Math.min(max_length, context);
  const loaded = await loadSamples(data, { limit, data_format });
  const all = loaded.samples.map((sample) => {
    check?.();
    return encodeSample(tokenizer, sample, maxLength);
  });
  const samples = all.filter((sample) => supervisedTokens(sample) > 0);
  const truncated = samples.filter((sample) => sample.truncated).length;
  const tokens = samples.reduce((sum, { ids }) => sum + ids.length, 0);
  const count = (n: number) => n === 1 ? "1 sample" : `${n} samples`;
  say(`${called}: ${data}, ${count(samples.length)}, ${tokens} tokens`);
  for (const note of loaded.notes) say(`  ${note}`);
  if (truncated > 0) say(`  ${count(truncated)} cut at ${maxLength} tokens`);
  const dropped = all.filter((sample) => supervisedTokens(sample) === 0);
  const cut = dropped.filter(({ ids }) => ids.length === maxLength).length;
  if (cut > 0) {
    say(`  ${count(cut)} left out: nothing of the output is within ${maxLength} tokens`);
  }
  if (dropped.length > cut) {
    say(
      `  ${count(dropped.length - cut)} left out: the prompt alone has as many tokens as the whole`,
    );
  }
  if (samples.length === 0) {
    throw new UserError(
      `data "${data}": no sample has any of its output within max_length ${maxLength}`,
    );
  }
  return samples;
}
