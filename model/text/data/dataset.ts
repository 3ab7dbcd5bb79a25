/**
 * A data file as token ids, the same for training and scoring.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { type SampleGroup, supervisedTokens, type TokenizedSample } from "../prompt.ts";
import { isChat, type Sample } from "../sample.ts";
import { type EncodingOptions, SampleEncoder } from "../sample_encoder.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Judgement } from "./formats/preference.ts";
import { loadGroups } from "./load.ts";

/** What is read of a data file, and how. */
export interface DatasetOptions extends EncodingOptions {
  /** A data file of any format that is read, or `builtin`. */
  data: string;
  /** What it is called in what is said. */
  called?: string;
  /** Only the first so many rows of it. */
  samples?: number;
  /** The name of the rows' format; without it, or `auto`, their fields tell it. */
  data_format?: string;
  /** What is made of rows of preferences; without it, rows are no preferences. */
  judgement?: Judgement;
  /** Longer samples are cut at so many tokens. */
  max_length: number;
  /** The model's own limit on them. */
  context: number;
  /** Told what was read, a line at a time. */
  say: (line: string) => void;
  /** Called between samples; what it throws ends the reading. */
  check?: () => void;
}

/**
 * Encodes samples of preferences, whose prompts are never learnt: of a prompt with messages after it, as TRL has it, all that
 * follows the prompt counts, or with `assistant` the assistant's messages alone.
 */
class AnswerEncoder {
  readonly #turns: SampleEncoder;
  readonly #others: SampleEncoder;

  constructor(tokenizer: Tokenizer, options: EncodingOptions) {
    const train_on = options.train_on === "assistant" ? "assistant" : "all";
    this.#turns = new SampleEncoder(tokenizer, { ...options, train_on });
    this.#others = new SampleEncoder(tokenizer, { ...options, train_on: "last" });
  }

  async openFor(sample: Sample): Promise<void> {
    await this.#encoderOf(sample).openFor(sample);
  }

  encode(sample: Sample, maxLength: number): TokenizedSample {
    return this.#encoderOf(sample).encode(sample, maxLength);
  }

  #encoderOf(sample: Sample): SampleEncoder {
    return isChat(sample) && sample.prompt > 0 ? this.#turns : this.#others;
  }

  get notes(): string[] {
    return [...this.#turns.notes, ...this.#others.notes];
  }
}

/** The samples of a data file as ids, and how many groups were left out. */
interface EncodedData {
  groups: SampleGroup[];
  notes: string[];
  /** As the cut left nothing of an answer, as no message is to be learnt, and as a prompt has as many tokens as the whole. */
  left: { cut: number; unanswered: number; spanned: number };
}

async function encodedData(
  tokenizer: Tokenizer,
  { data, samples: limit, data_format, judgement, check, ...options }: DatasetOptions,
): Promise<EncodedData> {
  const maxLength = Math.min(options.max_length, options.context);
  const loaded = await loadGroups(data, { limit, data_format, judgement });
  const encoder = judgement === undefined
    ? new SampleEncoder(tokenizer, options)
    : new AnswerEncoder(tokenizer, options);
  const groups: SampleGroup[] = [], left = { cut: 0, unanswered: 0, spanned: 0 };
  for (const group of loaded.groups) {
    check?.();
    const encoded: TokenizedSample[] = [];
    for (const { sample, part } of group) {
      await encoder.openFor(sample);
      const one = encoder.encode(sample, maxLength);
      encoded.push(part === undefined ? one : { ...one, part });
    }
    const lost = encoded.findIndex((sample) => supervisedTokens(sample) === 0);
    if (lost < 0) groups.push(encoded);
    else if (encoded[lost].ids.length === maxLength) left.cut++;
    else if (isChat(group[lost].sample)) left.unanswered++;
    else left.spanned++;
  }
  return { groups, notes: [...loaded.notes, ...encoder.notes], left };
}

/** How many there are, in words. */
const count = (n: number, word: string) => `${n} ${word}${n === 1 ? "" : "s"}`;

/**
 * Reads and tokenises samples, without those that the cut at the maximum length left no target, nor what belongs to such a one.
 *
 * @throws {UserError} where the file is wrong or nothing is left.
 */
export async function loadDataset(
  tokenizer: Tokenizer,
  options: DatasetOptions,
): Promise<SampleGroup[]> {
  const { data, called = "Data", judgement, max_length, context, say } = options;
  const maxLength = Math.min(max_length, context), isPair = judgement === "pairs";
  const { groups, notes, left } = await encodedData(tokenizer, options);
  const word = isPair ? "pair" : "sample";
  const truncated = groups.filter((group) => group.some(({ truncated }) => truncated)).length;
  const tokens = groups.flat().reduce((sum, { ids }) => sum + ids.length, 0);
  say(`${called}: ${data}, ${count(groups.length, word)}, ${tokens} tokens`);
  for (const note of notes) say(`  ${note}`);
  if (truncated > 0) say(`  ${count(truncated, word)} cut at ${maxLength} tokens`);
  const why = [
    [left.cut, `nothing of ${isPair ? "an answer" : "the output"} is within ${maxLength} tokens`],
    [left.unanswered, "no message by the assistant is to be learnt"],
    [left.spanned, "the prompt alone has as many tokens as the whole"],
  ] as const;
  for (const [lost, reason] of why) {
    if (lost > 0) say(`  ${count(lost, word)} left out: ${reason}`);
  }
  if (groups.length === 0) {
    throw new UserError(
      `data "${data}": no ${word} has any of its ${
        isPair ? "answers" : "output"
      } within max_length ${maxLength}`,
    );
  }
  return groups;
}
