/**
 * From samples to ids within a maximum length, and what is said of those that are longer.
 *
 * @module
 */
import { type SampleGroup, supervisedTokens, type TokenizedSample } from "../prompt.ts";
import { isChat, type Sample } from "../sample.ts";
import { type EncodingOptions, SampleEncoder } from "../sample_encoder.ts";
import { AnswerEncoder } from "./answer_encoder.ts";
import type { Judgement } from "./formats/preference.ts";
import type { PartGroup } from "./load.ts";
import { targetsAfter } from "../targets.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** What becomes of samples that are longer than the maximum: their end is cut off, they are left out, or plain text is split. */
export type LongSamples = "cut" | "drop" | "split";

/** So many of something, in words. */
export function counted(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

const isPlainText = (sample: Sample) => "completion" in sample && sample.prompt === "";

/**
 * Text as pieces of at most `maxLength` ids. Each begins as a text does (with BOS, where the tokenizer has it) or, without
 * that, with the last id of the piece before, so that every id but the first is a target once.
 */
export function splitIds(
  ids: Uint32Array,
  prefix: readonly number[],
  maxLength: number,
): TokenizedSample[] {
  const begins = prefix.length > 0 && prefix.length < maxLength &&
    prefix.every((id, i) => ids[i] === id);
  const lead = begins ? prefix.length : 1, pieces: TokenizedSample[] = [];
  for (let at = lead; at < ids.length; at += maxLength - lead) {
    const first = begins ? ids.subarray(0, lead) : ids.subarray(at - 1, at);
    const piece = Uint32Array.from([...first, ...ids.subarray(at, at + maxLength - lead)]);
    pieces.push({ ids: piece, targets: targetsAfter(lead, piece), truncated: false });
  }
  return pieces;
}

/** How groups are encoded. */
export interface GroupEncoding extends EncodingOptions {
  /** What is made of rows of preferences; without it, rows are no preferences. */
  judgement?: Judgement;
  maxLength: number;
  long_samples: LongSamples;
}

/** Encodes groups of samples, and counts what the maximum length does to them. */
export class GroupEncoder {
  readonly #tokenizer: Tokenizer;
  readonly #encoder: SampleEncoder | AnswerEncoder;
  readonly #options: GroupEncoding;
  #cut = 0;
  #outside = 0;
  #unanswered = 0;
  #spanned = 0;
  #dropped = 0;
  #split = 0;
  #pieces = 0;

  /** @throws {UserError} where the template is a file that can't be read. */
  constructor(tokenizer: Tokenizer, options: GroupEncoding) {
    this.#tokenizer = tokenizer;
    this.#encoder = options.judgement === undefined
      ? new SampleEncoder(tokenizer, options)
      : new AnswerEncoder(tokenizer, options);
    this.#options = options;
  }

  /**
   * A group as ids: none where it is left out, several where it is split.
   *
   * @throws {UserError} where a conversation does not fit its template; names the sample.
   */
  async encode(group: PartGroup): Promise<SampleGroup[]> {
    for (const { sample } of group) await this.#encoder.openFor(sample);
    return this.encodeNow(group);
  }

  /** Reads what {@linkcode encodeNow} needs. */
  async open(): Promise<void> {
    await this.#encoder.openForAny();
  }

  /** As {@linkcode encode}, once {@linkcode open} is done. */
  encodeNow(group: PartGroup): SampleGroup[] {
    const { maxLength, long_samples } = this.#options;
    if (long_samples === "split" && group.length === 1 && isPlainText(group[0].sample)) {
      return this.#pieceGroups(group[0].sample);
    }
    const encoded = group.map(({ sample, part }) => {
      const one = this.#encoder.encode(sample, maxLength);
      return part === undefined ? one : { ...one, part };
    });
    const isCut = encoded.some(({ truncated }) => truncated);
    if (isCut && long_samples === "drop") {
      this.#dropped++;
      return [];
    }
    const lost = encoded.findIndex((sample) => supervisedTokens(sample) === 0);
    if (lost < 0) {
      if (isCut) this.#cut++;
      return [encoded];
    }
    if (encoded[lost].ids.length === maxLength) this.#outside++;
    else if (isChat(group[lost].sample)) this.#unanswered++;
    else this.#spanned++;
    return [];
  }

  /** Whether samples were left out for their length. */
  get leftOutLong(): boolean {
    return this.#dropped + this.#outside > 0;
  }

  /**
   * Lines on what was left out.
   *
   * @param word What a group is called.
   * @param output What of it is learnt.
   */
  notes(word: string, output: string): string[] {
    const { maxLength } = this.#options, notes = [...this.#encoder.notes];
    const note = (count: number, words: string) => {
      if (count > 0) notes.push(`${counted(count, word)} ${words}`);
    };
    note(this.#cut, `cut at ${maxLength} tokens`);
    note(this.#split, `split into ${this.#pieces} of at most ${maxLength} tokens`);
    note(this.#dropped, `left out: longer than ${maxLength} tokens`);
    note(this.#outside, `left out: nothing of ${output} is within ${maxLength} tokens`);
    note(this.#unanswered, "left out: no message by the assistant is to be learnt");
    note(this.#spanned, "left out: the prompt alone has as many tokens as the whole");
    return notes;
  }

  #pieceGroups(sample: Sample): SampleGroup[] {
    const { maxLength } = this.#options, whole = this.#encoder.encode(sample, Infinity);
    if (whole.ids.length <= maxLength) return [[whole]];
    const pieces = splitIds(whole.ids, this.#tokenizer.prefix_ids, maxLength);
    this.#split++;
    this.#pieces += pieces.length;
    return pieces.map((piece) => [piece]);
  }
}
