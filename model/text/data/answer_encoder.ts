/**
 * From samples of preferences to token ids and targets.
 *
 * @module
 */
import type { TokenizedSample } from "../prompt.ts";
import { isChat, type Sample } from "../sample.ts";
import { type EncodingOptions, SampleEncoder } from "../sample_encoder.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/**
 * Encodes samples of preferences, whose prompts are never learnt: of a prompt with messages after it, as TRL has it, all that
 * follows the prompt counts, or with `assistant` the assistant's messages alone.
 */
export class AnswerEncoder {
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

  async openForAny(): Promise<void> {
    for (const encoder of [this.#turns, this.#others]) await encoder.openForAny();
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
