/**
 * A data file as token ids, the same for training and scoring.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import {
  encodeSample,
  type SampleGroup,
  supervisedTokens,
  type TokenizedSample,
} from "../prompt.ts";
import type { Judgement } from "./formats/preference.ts";
import { loadGroups } from "./load.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** What is read of a data file, and how. */
export interface DatasetOptions {
  data: string;
  called?: string;
  samples?: number;
  data_format?: string;
  judgement?: Judgement;
  max_length: number;
  context: number;
  say: (line: string) => void;
  check?: () => void;
}

/** The samples of a data file as ids, in groups. */
async function encodedGroups(
  tokenizer: Tokenizer,
  { data, samples: limit, max_length, context, check, ...options }: DatasetOptions,
): Promise<{ groups: SampleGroup[]; notes: string[] }> {
  const maxLength = Math.min(max_length, context);
  const { data_format, judgement } = options;
  const { groups, notes } = await loadGroups(data, { limit, data_format, judgement });
  const encoded = groups.map((group) => {
    check?.();
    return group.map(({ sample, part }): TokenizedSample => {
      const encoded = encodeSample(tokenizer, sample, maxLength);
      return part === undefined ? encoded : { ...encoded, part };
    });
  });
  return { groups: encoded, notes };
}

/** How many there are, in words. */
const count = (n: number, word: string) => `${n} ${word}${n === 1 ? "" : "s"}`;

/**
 * Reads and tokenises samples, without those that the cut at the maximum length left no target, nor what belongs to such a one.
 *
 * @param data A data file of any format that is read, or `builtin`.
 * @param called What it is called in what is said.
 * @param samples Only the first so many rows of it.
 * @param data_format The name of the rows' format; without it, or `auto`, their fields tell it.
 * @param judgement What is made of rows of preferences; without it, rows are no preferences.
 * @param max_length Longer samples are cut at so many tokens.
 * @param context The model's own limit on them.
 * @param say Told what was read, a line at a time.
 * @param check Called between samples; what it throws ends the reading.
 * @throws {UserError} where the file is wrong or nothing is left.
 */
export async function loadDataset(
  tokenizer: Tokenizer,
  options: DatasetOptions,
): Promise<SampleGroup[]> {
  const { data, called = "Data", judgement, max_length, context, say } = options;
  const maxLength = Math.min(max_length, context);
  const { groups: all, notes } = await encodedGroups(tokenizer, options);
  const hasTargets = (sample: TokenizedSample) => supervisedTokens(sample) > 0;
  const groups = all.filter((group) => group.every(hasTargets)), samples = groups.flat();
  const word = judgement === "pairs" ? "pair" : "sample";
  const truncated = groups.filter((group) => group.some(({ truncated }) => truncated)).length;
  const tokens = samples.reduce((sum, { ids }) => sum + ids.length, 0);
  say(`${called}: ${data}, ${count(groups.length, word)}, ${tokens} tokens`);
  for (const note of notes) say(`  ${note}`);
  if (truncated > 0) say(`  ${count(truncated, word)} cut at ${maxLength} tokens`);
  const dropped = all.filter((group) => !group.every(hasTargets));
  const cut =
    dropped.filter((group) =>
      group.some((sample) => !hasTargets(sample) && sample.ids.length === maxLength)
    ).length;
  const output = judgement === "pairs" ? "an answer" : "the output";
  if (cut > 0) {
    say(`  ${count(cut, word)} left out: nothing of ${output} is within ${maxLength} tokens`);
  }
  if (dropped.length > cut) {
    say(
      `  ${
        count(dropped.length - cut, word)
      } left out: the prompt alone has as many tokens as the whole`,
    );
  }
  if (groups.length === 0) {
    throw new UserError(
      `data "${data}": no ${word} has any of its ${
        judgement === "pairs" ? "answers" : "output"
      } within max_length ${maxLength}`,
    );
  }
  return groups;
}
