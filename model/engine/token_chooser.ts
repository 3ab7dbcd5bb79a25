/**
 * How the next tokens of an engine's slots are chosen on the GPU, each as its sequence asks for, and what the host reads
 * of them.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { STAGING_BYTES } from "../../kernels/gpu/readback.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import { roundUp, type Tensor } from "../../kernels/gpu/tensor.ts";
import {
  adjustLogits,
  ADJUSTMENT_WORDS,
  adjustmentWords,
  allowedWords,
  countTokens,
} from "../../kernels/ops/sampling/adjust_logits.ts";
import {
  sample,
  type Sampling,
  samplingSettings,
  type SamplingSteps,
  samplingSteps,
  SETTINGS_WORDS,
} from "../../kernels/ops/sampling/sample.ts";
import {
  readRecord,
  RECORD_WORDS,
  type TokenLogprobs,
  tokenLogprobs,
} from "../../kernels/ops/sampling/token_logprobs.ts";

/** Steps whose tokens are read at once, at most. */
export const MOST_STEPS = 32;

/** How a sequence's logits are changed before a token is chosen. */
export interface LogitAdjustments {
  /** Taken off a token's logit as often as it occurred in the answer. */
  frequency_penalty: number;
  /** Taken off the logit of a token that occurred in the answer. */
  presence_penalty: number;
  /** Added to the logits of tokens, by their ids. */
  logit_bias: ReadonlyMap<number, number>;
}

/** How the tokens of a sequence are chosen. */
export interface Choice {
  readonly sampling: Sampling;
  /** Which subsequence of random numbers it draws from; u32. */
  readonly subsequence: number;
  readonly adjustments?: LogitAdjustments;
  /** Whether only some tokens may come: see {@linkcode TokenChooser.allow}. */
  readonly masked?: boolean;
  /** How many of the likeliest tokens are told of beside each token; absent where log-probabilities are not. */
  readonly logprobs?: number;
}

/** What sequences may ask for that takes memory. */
export interface ChoiceRoom {
  /** Repetition penalties. */
  penalized?: boolean;
  /** {@linkcode LogitAdjustments}. */
  adjusted?: boolean;
  /** Log-probabilities. */
  logprobs?: boolean;
}

/** What a slot holds: the last sequence in it. */
export interface Chosen {
  readonly prompt: readonly number[];
  readonly choice: Choice;
  /** Whether it goes on. */
  readonly live: boolean;
}

/** Where the host finds what was chosen in the steps of a chunk. */
export interface ChosenLayout {
  /** Words of a step. */
  readonly stride: number;
  /** Whether each step's tokens are followed by the records of their slots. */
  readonly records: boolean;
}

const ADJUSTING = "room for changes of logits";

/** Tensors for changes of logits. */
interface Adjusting {
  biases: Tensor;
  counts: Tensor;
  allowed: Tensor;
  settings: Tensor;
  adjusted: Tensor;
}

/** Logits to choose from: row r is of slot first + r. */
export interface ChooseRun {
  logits: Tensor;
  first: number;
  rows: number;
  /** The step of the chunk. */
  step: number;
  /** Receives the next token of each slot `[slots]` u32. */
  ids: Tensor;
  /** Position of each slot's last token `[slots]` u32. */
  positions: Tensor;
}

function needsCounts(adjustments?: LogitAdjustments): boolean {
  return adjustments !== undefined &&
    (adjustments.frequency_penalty !== 0 || adjustments.presence_penalty !== 0);
}

function isBiased(adjustments?: LogitAdjustments): boolean {
  return adjustments !== undefined && adjustments.logit_bias.size > 0;
}

/** Chooses the tokens of slots. */
export class TokenChooser {
  /** Tokens, and records where they are asked for, of the steps since the last reading. */
  readonly #chosen: Tensor;
  /** How each slot's tokens are chosen `[slots, SETTINGS_WORDS]`. */
  readonly #settings: Tensor;
  /** Which tokens each slot's sequence has had `[slots, padded vocabulary]`. */
  readonly #seen?: Tensor;
  readonly #adjusting?: Adjusting;
  readonly #recorded: boolean;
  /** What the sequences in the slots need done. */
  #steps: SamplingSteps = samplingSteps([], 0);
  #adjusts = false;
  #counts = false;
  /** The most likely tokens that a sequence asks to be told of; absent where none does. */
  #logprobs?: number;

  constructor(
    memory: Memory,
    readonly vocab: number,
    readonly slots: number,
    { penalized = false, adjusted = false, logprobs = false }: ChoiceRoom,
  ) {
    const make = (name: string, ...shape: number[]) =>
      memory.tensor("workspace", name, "u32", shape);
    const width = roundUp(vocab, 4);
    this.#recorded = logprobs;
    const words = logprobs ? 1 + RECORD_WORDS : 1;
    this.#chosen = make("sampled_tokens", MOST_STEPS, slots * words);
    this.#settings = make("sampling_settings", slots, SETTINGS_WORDS);
    if (penalized) this.#seen = make("seen", slots, width);
    if (!adjusted) return;
    const floats = (name: string) => memory.tensor("workspace", name, "f32", [slots, width]);
    this.#adjusting = {
      biases: floats("logit_biases"),
      counts: make("token_counts", slots, width),
      allowed: make("allowed_tokens", slots, allowedWords(vocab)),
      settings: make("logit_adjustments", slots, ADJUSTMENT_WORDS),
      adjusted: floats("adjusted_logits"),
    };
  }

  /** Whether a repetition penalty may be asked for. */
  get penalized(): boolean {
    return this.#seen !== undefined;
  }

  /** Whether logits may be changed. */
  get adjusted(): boolean {
    return this.#adjusting !== undefined;
  }

  /** Whether log-probabilities may be asked for. */
  get recorded(): boolean {
    return this.#recorded;
  }

  /** How the steps that are recorded now lie. */
  get layout(): ChosenLayout {
    const records = this.#logprobs !== undefined;
    return { stride: this.slots * (records ? 1 + RECORD_WORDS : 1), records };
  }

  /** Steps of a chunk at most: as many as are read at once. */
  get mostSteps(): number {
    return Math.max(1, Math.min(MOST_STEPS, Math.floor(STAGING_BYTES / (4 * this.layout.stride))));
  }

  /**
   * Sets how tokens are chosen from now on.
   *
   * @param held What each slot holds.
   * @param newcomers The slots whose sequences have just come.
   */
  set(gpu: Gpu, held: readonly (Chosen | undefined)[], newcomers: readonly number[]): void {
    const going = held.flatMap((slot) => slot?.live ? [slot.choice] : []);
    const came = newcomers.flatMap((slot) => {
      const chosen = held[slot];
      return chosen === undefined ? [] : [{ slot, ...chosen }];
    });
    this.#steps = samplingSteps(going.map(({ sampling }) => sampling), this.vocab);
    const told = going.flatMap(({ logprobs }) => logprobs ?? []);
    this.#logprobs = told.length > 0 ? Math.max(1, ...told) : undefined;
    const all = new Uint32Array(this.#settings.size);
    for (const [slot, chosen] of held.entries()) {
      if (chosen === undefined) continue;
      const { sampling, subsequence } = chosen.choice;
      all.set(samplingSettings(sampling, subsequence), slot * SETTINGS_WORDS);
    }
    gpu.write(this.#settings, all);
    if (this.#steps.penalty) {
      for (const { slot, prompt } of came) this.#markPrompt(gpu, slot, prompt);
    }
    this.#counts = going.some(({ adjustments }) => needsCounts(adjustments));
    this.#adjusts = this.#counts ||
      going.some(({ adjustments, masked }) => masked || isBiased(adjustments));
    if (!this.#adjusts) return;
    this.#setAdjustments(gpu, held);
    for (const { slot, choice } of came) this.#beginAdjustments(gpu, slot, choice);
  }

  /** Marks the tokens of a sequence's prompt as seen by it, and no others. */
  #markPrompt(gpu: Gpu, slot: number, prompt: readonly number[]): void {
    const seen = present(this.#seen, "room for what was seen");
    const flags = new Uint32Array(seen.rowSize);
    for (const id of prompt) flags[id] = 1;
    gpu.write(seen, flags, slot * seen.rowSize);
  }

  #setAdjustments(gpu: Gpu, held: readonly (Chosen | undefined)[]): void {
    const { settings } = present(this.#adjusting, ADJUSTING);
    const words = new Uint32Array(settings.size);
    for (const [slot, chosen] of held.entries()) {
      const { frequency_penalty = 0, presence_penalty = 0 } = chosen?.choice.adjustments ?? {};
      const biased = isBiased(chosen?.choice.adjustments), masked = chosen?.choice.masked ?? false;
      words.set(
        adjustmentWords({ frequency_penalty, presence_penalty, biased, masked }),
        slot * ADJUSTMENT_WORDS,
      );
    }
    gpu.write(settings, words);
  }

  /** Clears the counts of a slot, and writes its biases, where they are read. */
  #beginAdjustments(gpu: Gpu, slot: number, { adjustments }: Choice): void {
    const { counts, biases } = present(this.#adjusting, ADJUSTING);
    if (needsCounts(adjustments)) {
      gpu.write(counts, new Uint32Array(counts.rowSize), slot * counts.rowSize);
    }
    if (adjustments === undefined || !isBiased(adjustments)) return;
    const row = new Float32Array(biases.rowSize);
    for (const [id, bias] of adjustments.logit_bias) row[id] = bias;
    gpu.write(biases, row, slot * biases.rowSize);
  }

  /** Says which tokens may come next in slots that are masked. @param bits `[allowedWords(vocab)]`. */
  allow(gpu: Gpu, slot: number, bits: Uint32Array): void {
    const { allowed } = present(this.#adjusting, ADJUSTING);
    gpu.write(allowed, bits, slot * allowed.rowSize);
  }

  /** Chooses tokens. */
  choose(gpu: Gpu, { logits, first, rows, step, ids, positions }: ChooseRun): void {
    const { stride } = this.layout, { vocab } = this;
    const adjusting = this.#adjusts ? present(this.#adjusting, ADJUSTING) : undefined;
    if (adjusting !== undefined) adjustLogits(gpu, { logits, rows, first, ...adjusting });
    sample(gpu, {
      logits: adjusting?.adjusted ?? logits,
      vocab,
      rows,
      first,
      ids,
      sampled: this.#chosen,
      step,
      stride,
      positions,
      settings: this.#settings,
      seen: this.#seen,
      steps: this.#steps,
    });
    if (this.#counts && adjusting !== undefined) {
      countTokens(gpu, { ids, counts: adjusting.counts, rows, first });
    }
    if (this.#logprobs === undefined) return;
    const count = Math.min(this.#logprobs, vocab), base = step * stride + this.slots;
    tokenLogprobs(gpu, { logits, vocab, rows, first, count, ids, report: this.#chosen, base });
  }

  /** What the host reads of the first `steps` steps. */
  chosen(steps: number, { stride }: ChosenLayout): Tensor {
    return this.#chosen.view([steps, stride]);
  }

  /** The record of a slot's token among what was read. */
  logprobs(
    read: Uint32Array,
    { stride }: ChosenLayout,
    { step, slot, count }: { step: number; slot: number; count: number },
  ): TokenLogprobs {
    return readRecord(read, step * stride + this.slots + slot * RECORD_WORDS, count);
  }
}
