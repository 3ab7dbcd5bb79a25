/**
 * A sequence that is decoded: its prompt, how it goes on, and its answer so far.
 *
 * @module
 */
import type { Sampling } from "../../kernels/ops/sampling/sample.ts";
import type { TokenLogprobs } from "../../kernels/ops/sampling/token_logprobs.ts";
import type { Choice, LogitAdjustments } from "./token_chooser.ts";

/** The most likely token each time. */
export const GREEDY: Sampling = {
  temperature: 0,
  top_k: 0,
  top_p: 1,
  min_p: 0,
  repetition_penalty: 1,
  seed: 0,
};

/** Which tokens may come next in an answer, as a grammar decides. */
export interface TokenMask {
  /**
   * Bits of the tokens: bit id mod 32 of word ⌊id / 32⌋.
   *
   * @param left Tokens that the answer has room for.
   */
  allowed(left: number): Promise<Uint32Array>;
  /** Takes the token that has come, be it the one that ends the answer. */
  accept(id: number): void;
}

/** How a sequence goes on. */
export interface SequenceOptions {
  /** Default: {@linkcode GREEDY}. */
  sampling?: Sampling;
  /** Tokens of the answer at most. */
  maxTokens: number;
  /** Tokens that end the answer; they are not part of it. */
  stop: readonly number[];
  /** Which subsequence of random numbers the sequence draws from; u32. Default 0. */
  subsequence?: number;
  /** Default: none. */
  adjustments?: LogitAdjustments;
  /** Tell of each token's log-probability, and of those of so many of the likeliest ones. Default: tell nothing. */
  logprobs?: number;
  /**
   * Which tokens may come. The host has to read each token before the next one then, and all sequences wait for it.
   * Default: all may.
   */
  mask?: TokenMask;
  /** Which of the model's adapters it has, counted from 1, where the model has several. Default: 0, none. */
  adapter?: number;
  /**
   * Reuse what the cache has of the prompt: of the slot that it gets, as in conversations, and, in an engine that
   * interleaves prompts, of every other slot. The weights must not have changed since.
   */
  reuse?: boolean;
}

/** A sequence of an engine: a prompt, and its answer so far. */
export class Sequence {
  /** Tokens of the answer, without the one that ended it. */
  readonly ids: number[] = [];
  /** Why it ended, once it has. */
  finished?: "stop" | "length" | "evicted";
  /** Of the token that ended it, where they are asked for. */
  stopLogprobs?: TokenLogprobs;
  /** Whether its client evicted it, though more of its tokens may have been read. */
  evicted = false;
  /** Its slot of the cache and its row of steps, once it has them. */
  slot?: number;
  row?: number;
  /** Tokens of the prompt whose keys and values are in the slot. */
  prefilled = 0;
  /** Tokens recorded so far, including those that are not read yet. */
  asked = 0;
  /** Bits of the tokens that may come next, where there is a mask and it was asked. */
  allowed?: Uint32Array;
  readonly choice: Choice;
  readonly adapter: number;
  /** The tokens of its slot that the host knows: the prompt's, the answer's and the one that ended it. */
  readonly slotIds: number[];

  /** @param most Tokens of the answer that there is room for. */
  constructor(
    readonly prompt: readonly number[],
    readonly most: number,
    readonly options: SequenceOptions,
  ) {
    const { sampling = GREEDY, subsequence = 0, adjustments, logprobs, mask } = options;
    this.choice = { sampling, subsequence, adjustments, logprobs, masked: mask !== undefined };
    this.adapter = options.adapter ?? 0;
    this.slotIds = [...prompt];
    if (most <= 0) this.finished = "length";
  }
}

/** Whether a sequence has a mask. */
export function isMasked({ options }: Sequence): boolean {
  return options.mask !== undefined;
}

/** Whether a sequence goes on. */
export function isLive(sequence: Sequence | undefined): sequence is Sequence {
  return sequence !== undefined && sequence.finished === undefined;
}

/** Whether a sequence goes on and its prompt is computed, so that steps make its next tokens. */
export function isDecoded(sequence: Sequence | undefined): sequence is Sequence {
  return isLive(sequence) && sequence.prefilled === sequence.prompt.length;
}
