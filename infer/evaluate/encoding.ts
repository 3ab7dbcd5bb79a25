/**
 * From texts to the ids that a request is made of, by the rules of lm-evaluation-harness's `TemplateLM` and `HFLM`
 * (lm_eval/api/model.py, lm_eval/models/huggingface.py).
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { Tokenizer } from "../../model/text/tokenizer/tokenizer.ts";
import { stripEnd } from "./python/strings.ts";

/** A continuation whose log-likelihood after a context is asked for. */
export interface ScoredIds {
  /** What the model reads: context and continuation without the last id, cut from the left. */
  input: number[];
  /** The continuation, each id of which the model foretells at the end of the input. */
  continuation: readonly number[];
  /** Whether ids of the context were cut. */
  truncated: boolean;
}

/** Encodes texts for a model. */
export class RequestEncoder {
  /** What stands before a text that has no context: BOS, or EOS where there is none. */
  readonly prefixId: number;
  readonly #prefixText: string;
  /** The last context: choices have theirs in common. */
  #context = { text: "", ids: [] as readonly number[] };

  /** @param maxLength Tokens that the model reads at most. */
  constructor(readonly tokenizer: Tokenizer, readonly maxLength: number) {
    this.prefixId = tokenizer.bos_id ?? tokenizer.eos_id;
    this.#prefixText = tokenizer.token(this.prefixId) ?? "";
  }

  /** Ids of a text with what the tokenizer puts around it, unless it begins with the prefix as it is written. */
  encode(text: string): number[] {
    const { tokenizer } = this;
    const ids = tokenizer.encodeSpecial(text);
    if (this.#prefixText !== "" && text.startsWith(this.#prefixText)) return ids;
    const { prefix_ids, suffix_ids, add_bos } = tokenizer;
    return [...prefix_ids, ...ids, ...(add_bos === "never" ? [] : suffix_ids)];
  }

  /**
   * A context and what follows it, encoded together; white space at the context's end belongs to what follows.
   *
   * @param where What is asked, for messages.
   * @throws {UserError} where the continuation has no id, or too many, or nothing is before it.
   */
  pair(context: string, continuation: string, where: () => string): ScoredIds {
    if (context === "") {
      const ids = this.tokenizer.encodeSpecial(continuation);
      return ids[0] === this.prefixId
        ? this.#scored(ids.slice(0, 1), ids.slice(1), where)
        : this.#scored([this.prefixId], ids, where);
    }
    const kept = stripEnd(context);
    if (this.#context.text !== kept) this.#context = { text: kept, ids: this.encode(kept) };
    const whole = this.encode(context + continuation), { ids: before } = this.#context;
    return this.#scored(before, whole.slice(before.length), where);
  }

  #scored(
    context: readonly number[],
    continuation: readonly number[],
    where: () => string,
  ): ScoredIds {
    if (continuation.length === 0) {
      throw new UserError(`${where()} adds no token to what is before it; expected some text`);
    }
    if (context.length === 0) {
      throw new UserError(
        `${where()} follows blanks alone, of which this tokenizer makes no token; expected a context, or none at all`,
      );
    }
    if (continuation.length > this.maxLength) {
      throw new UserError(
        `${where()} has ${continuation.length} tokens; expected at most ${this.maxLength}, which the model reads`,
      );
    }
    const ids = [...context, ...continuation];
    const input = ids.slice(0, -1).slice(-this.maxLength);
    return { input, continuation, truncated: input.length < ids.length - 1 };
  }

  /** A text in windows that foretell each of its ids once, each from as many before it as the model reads. */
  rolling(text: string, where: () => string): ScoredIds[] {
    const ids = this.encode(text), { maxLength } = this;
    if (ids.length === 0) throw new UserError(`${where()} has no token; expected text`);
    const windows: ScoredIds[] = [];
    for (let from = 0; from < ids.length; from += maxLength) {
      const continuation = ids.slice(from, from + maxLength), end = from + continuation.length;
      const input = from === 0
        ? [this.prefixId, ...ids.slice(0, end - 1)]
        : ids.slice(end - maxLength - 1, end - 1);
      windows.push({ input, continuation, truncated: false });
    }
    return windows;
  }

  /**
   * A prompt that leaves room for an answer: what is too much is cut from the left.
   *
   * @param room Tokens of the answer at most, less than the model reads.
   */
  prompt(text: string, room: number, where: () => string): { ids: number[]; truncated: boolean } {
    const ids = this.encode(text);
    if (ids.length === 0) throw new UserError(`${where()} has no token; expected text`);
    const kept = ids.slice(-(this.maxLength - room));
    return { ids: kept, truncated: kept.length < ids.length };
  }
}
