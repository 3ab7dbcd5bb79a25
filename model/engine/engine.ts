/**
 * Continuations of prompts, several at once: sequences are admitted, go on step by step, and leave when they end.
 *
 * Tokens are sampled on the GPU and fed to the next step there, so that the host reads a chunk of several steps at once
 * and records the next chunk meanwhile. The host sees that a sequence has ended when it reads the chunk: the rest of the
 * chunk, and the next one, are wasted.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import { NOT_FINITE, type Sampling } from "../../kernels/ops/sampling/sample.ts";
import type { TokenLogprobs } from "../../kernels/ops/sampling/token_logprobs.ts";
import type { Llama } from "../transformer/llama.ts";
import { DAMAGED, NotFinite } from "../transformer/not_finite.ts";
import { checkNumber, checkPrompt, checkSequenceOptions, wholeFrom } from "./checks.ts";
import { type EngineSizes, type Sampler, Slots } from "./slots.ts";
import {
  type Choice,
  type ChoiceRoom,
  type ChosenLayout,
  type LogitAdjustments,
  TokenChooser,
} from "./token_chooser.ts";

export type { Sampling } from "../../kernels/ops/sampling/sample.ts";
export type { TokenLogprobs } from "../../kernels/ops/sampling/token_logprobs.ts";
export type { ChoiceRoom, LogitAdjustments } from "./token_chooser.ts";

/** The most likely token each time. */
export const GREEDY: Sampling = {
  temperature: 0,
  top_k: 0,
  top_p: 1,
  min_p: 0,
  repetition_penalty: 1,
  seed: 0,
};

/** The time that a chunk is to take: text is to flow. */
const CHUNK_MILLISECONDS = 50;
/**
 * A chunk has at most so many times the steps of the one before, since the host records it while the GPU computes
 * that one. With 4 times a slow host takes longer than the GPU (5 % of the speed on an H100).
 */
const GROWTH = 2;

/** Steps of the next chunk, after one that took so long. */
function nextSteps(steps: number, milliseconds: number): number {
  const fitting = Math.round(CHUNK_MILLISECONDS * steps / milliseconds);
  return Math.max(1, Math.min(fitting, GROWTH * steps));
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
  /** Which of the model's adapters it has, counted from 1, where the model has several. Default: 0, none. */
  adapter?: number;
  /**
   * Reuse what a free slot's cache has of the prompt, as in conversations. The weights must not have changed since.
   */
  reuse?: boolean;
}

/** A sequence of an {@linkcode Engine}: a prompt, and its answer so far. */
export class Sequence {
  /** Tokens of the answer, without the one that ended it. */
  readonly ids: number[] = [];
  /** Why it ended, once it has. */
  finished?: "stop" | "length" | "evicted";
  /** Whether its client evicted it, though more of its tokens may have been read. */
  evicted = false;
  /** Its slot, once it is prefilled. */
  slot?: number;
  /** Tokens recorded so far, including those that are not read yet. */
  asked = 0;
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
    const { sampling = GREEDY, subsequence = 0, adjustments, logprobs } = options;
    this.choice = { sampling, subsequence, adjustments, logprobs };
    this.adapter = options.adapter ?? 0;
    this.slotIds = [...prompt];
    if (most <= 0) this.finished = "length";
  }
}

/** A token of a sequence's answer. */
export interface Token {
  sequence: Sequence;
  id: number;
  /** Where its sequence asks for them. */
  logprobs?: TokenLogprobs;
}

/** Steps that are recorded and not read yet, and the sequences whose tokens they make. */
interface Chunk {
  steps: number;
  layout: ChosenLayout;
  sequences: readonly Sequence[];
}

/** Decodes sequences of a model. */
export class Engine {
  readonly slots: Slots;
  readonly #chooser: TokenChooser;
  /** The last sequence of each slot: its tokens are what the slot holds. */
  readonly #sequences: (Sequence | undefined)[];
  /** Slots that a step computes: up to the last that was live when a prompt came in. */
  #count = 0;
  #waiting: Sequence[] = [];
  #recorded?: Chunk;
  /** The chunk that is being read, for all who ask for it. */
  #stepping?: Promise<Token[]>;
  /** Steps of the next chunk, and when the last one was read. */
  #chunkSteps = 1;
  #began = 0;

  /**
   * @param model Made to generate, with sizes that are no smaller.
   * @param room What sequences may ask for.
   */
  constructor(
    memory: Memory,
    readonly model: Llama,
    readonly sizes: EngineSizes,
    room: ChoiceRoom = {},
  ) {
    this.slots = new Slots(memory, model, sizes);
    const { sequences } = sizes;
    this.#chooser = new TokenChooser(memory, model.config.vocab_size, sequences, room);
    this.#sequences = Array(sequences).fill(undefined);
  }

  /**
   * Admits a sequence: it gets the first slot that is free, and its first token with one of the next steps.
   *
   * @param prompt One or more tokens, `context` at most.
   * @throws {UsageError} where the prompt does not fit the sizes planned, or an option is out of its range.
   */
  admit(prompt: readonly number[], options: SequenceOptions): Sequence {
    const { context } = this.sizes,
      { vocab_size: vocab } = this.model.config,
      { maxTokens } = options;
    checkPrompt(prompt, { context, vocab });
    const most = Math.min(maxTokens, context - prompt.length);
    const sequence = new Sequence(prompt, most, options);
    checkSequenceOptions({ ...sequence.choice, maxTokens }, this.#chooser);
    checkNumber("adapter", sequence.adapter, wholeFrom(0, this.model.adapterCount));
    if (sequence.finished === undefined) this.#waiting.push(sequence);
    return sequence;
  }

  /** Ends a sequence at its client's last token; its slot is free for another. */
  evict(sequence: Sequence): void {
    sequence.evicted = true;
    sequence.finished ??= "evicted";
    this.#waiting = this.#waiting.filter((waiting) => waiting !== sequence);
  }

  /**
   * The tokens of the next chunk, in the order of its steps, while the GPU goes on with the one after it. None where
   * all sequences have ended. Clients that ask while a chunk is being read get that one.
   *
   * @throws {NotFinite} where logits of an answer are NaN or infinite.
   */
  step(gpu: Gpu): Promise<Token[]> {
    return this.#stepping ??= this.#step(gpu).finally(() => this.#stepping = undefined);
  }

  async #step(gpu: Gpu): Promise<Token[]> {
    const isNeeded = this.#recorded?.sequences.some(isLive);
    const chunk = isNeeded ? this.#recorded : this.#record(gpu);
    this.#recorded = undefined;
    if (chunk === undefined) return [];
    const { steps, layout } = chunk;
    const read = await gpu.read(this.#chooser.chosen(steps, layout), () => {
      this.#recorded = this.#record(gpu);
    });
    const tokens = this.#collect(new Uint32Array(read), chunk);
    const now = performance.now();
    this.#chunkSteps = nextSteps(steps, now - this.#began);
    this.#began = now;
    return tokens;
  }

  /**
   * Continues prompts until all have ended; `break` ends them where they are. A client ends one with {@linkcode evict}.
   * Several may be under way: each gets the tokens of its own prompts, whoever asked for the step that made them.
   *
   * @param options Of all prompts; the first draws from this subsequence, and the others from those that follow.
   * @throws as {@linkcode admit} and {@linkcode step} do.
   */
  async *generate(
    gpu: Gpu,
    prompts: readonly (readonly number[])[],
    options: SequenceOptions,
  ): AsyncGenerator<Token & { index: number }> {
    const { subsequence = 0 } = options;
    const sequences: Sequence[] = [], told: number[] = [];
    try {
      for (const [i, prompt] of prompts.entries()) {
        sequences.push(this.admit(prompt, { ...options, subsequence: subsequence + i }));
        told.push(0);
      }
      while (true) {
        for (let isNew = true; isNew;) {
          isNew = false;
          for (const [index, sequence] of sequences.entries()) {
            // Its client may have ended a sequence at an earlier token of the chunk.
            if (sequence.evicted || told[index] === sequence.ids.length) continue;
            isNew = true;
            yield { sequence, index, id: sequence.ids[told[index]++] };
          }
        }
        if (sequences.every(({ finished }) => finished !== undefined)) return;
        await this.step(gpu);
      }
    } finally {
      for (const sequence of sequences) this.evict(sequence);
    }
  }

  /**
   * The tokens of the answers that {@linkcode generate} gives.
   *
   * @param check Called at every token; what it throws ends the answers.
   */
  async answers(
    gpu: Gpu,
    prompts: readonly (readonly number[])[],
    options: SequenceOptions,
    check?: () => void,
  ): Promise<number[][]> {
    const answers = prompts.map((): number[] => []);
    for await (const { index, id } of this.generate(gpu, prompts, options)) {
      check?.();
      answers[index].push(id);
    }
    return answers;
  }

  /** Records the next chunk: the prompts that wait for a slot, or steps of all sequences. */
  #record(gpu: Gpu): Chunk | undefined {
    const decoded = this.#sequences.filter(isLive);
    // Without a cache a pass computes all slots, so that new sequences come when the others have ended.
    if (this.slots.cache !== undefined || decoded.length === 0) {
      const admitted = this.#prefill(gpu);
      const { layout } = this.#chooser;
      if (admitted.length > 0) return { steps: 1, layout, sequences: admitted };
    }
    if (!this.#rotateAsLong(gpu, decoded)) return undefined;
    const needed = Math.max(0, ...decoded.map(({ most, asked }) => most - asked));
    const room = decoded.map(({ slot = 0 }) => this.slots.roomToGrow(slot));
    const { layout, mostSteps } = this.#chooser;
    const steps = Math.min(this.#chunkSteps, needed, mostSteps, ...room);
    if (steps === 0) return undefined;
    for (let step = 0; step < steps; step++) {
      this.slots.step(gpu, this.#count, this.#sampler(gpu, step));
    }
    for (const sequence of decoded) sequence.asked += steps;
    return { steps, layout, sequences: decoded };
  }

  /** Makes keys again of texts that are about to outgrow them; false while the host doesn't know all of their tokens. */
  #rotateAsLong(gpu: Gpu, decoded: readonly Sequence[]): boolean {
    const outgrown = decoded.filter(({ slot = 0 }) => this.slots.outgrows(slot));
    if (outgrown.some((s) => s.slotIds.length < s.prompt.length + s.asked)) return false;
    const fed = outgrown.map(({ slot = 0, slotIds }) => ({ slot, ids: slotIds.slice(0, -1) }));
    this.slots.rotateAsLong(gpu, fed);
    return true;
  }

  /** Gives waiting sequences the slots that are free, and computes their prompts. */
  #prefill(gpu: Gpu): Sequence[] {
    const free = [...this.#sequences.keys()].filter((slot) => !isLive(this.#sequences[slot]));
    const admitted = this.#waiting.splice(0, free.length);
    if (admitted.length === 0) return [];
    const prompts = admitted.map((sequence) => {
      const { prompt, options: { reuse = false } } = sequence;
      const reusable = (slot: number) => {
        const previous = this.#sequences[slot];
        if (!previous || !reuse || previous.adapter !== sequence.adapter) return 0;
        return this.slots.reusable(slot, previous.slotIds, prompt);
      };
      const best = free.reduce((best, slot) => reusable(slot) > reusable(best) ? slot : best);
      free.splice(free.indexOf(best), 1);
      const { adapter } = sequence;
      return { sequence, slot: best, ids: prompt, cached: reusable(best), adapter };
    }).sort((a, b) => a.slot - b.slot);
    for (const { sequence, slot } of prompts) {
      sequence.slot = slot;
      sequence.asked = 1;
      this.#sequences[slot] = sequence;
    }
    this.#count = 1 + this.#sequences.findLastIndex(isLive);
    this.#chooser.set(
      gpu,
      this.#sequences.map((sequence) => {
        if (sequence === undefined) return undefined;
        const { prompt, choice } = sequence;
        return { prompt, choice, live: isLive(sequence) };
      }),
      prompts.map(({ slot }) => slot),
    );
    this.slots.prefill(gpu, prompts, this.#sampler(gpu, 0));
    this.#chunkSteps = 1;
    this.#began = performance.now();
    return prompts.map(({ sequence }) => sequence);
  }

  /** Chooses the next token of slots, as step `step` of a chunk. */
  #sampler(gpu: Gpu, step: number): Sampler {
    const { ids, positions } = this.slots;
    return (logits, first, rows) =>
      this.#chooser.choose(gpu, { logits, first, rows, step, ids, positions });
  }

  /** Gives a chunk's tokens to their sequences. */
  #collect(read: Uint32Array, { steps, layout, sequences }: Chunk): Token[] {
    const tokens: Token[] = [];
    for (let step = 0; step < steps; step++) {
      for (const sequence of sequences) {
        const { ids, most, slot, options: { stop }, choice } = sequence;
        if (sequence.finished !== undefined || slot === undefined) continue;
        const id = read[step * layout.stride + slot];
        if (id === NOT_FINITE) {
          const which = `prompt ${choice.subsequence + 1}, token ${ids.length + 1}`;
          throw notFiniteLogits(`${which} of the answer`, this.model);
        }
        sequence.slotIds.push(id);
        if (stop.includes(id)) sequence.finished = "stop";
        else {
          ids.push(id);
          const { logprobs: count } = choice;
          const logprobs = count === undefined
            ? undefined
            : this.#chooser.logprobs(read, layout, { step, slot, count });
          tokens.push({ sequence, id, logprobs });
          if (ids.length >= most) sequence.finished = "length";
        }
      }
    }
    return tokens;
  }
}

function isLive(sequence: Sequence | undefined): sequence is Sequence {
  return sequence !== undefined && sequence.finished === undefined;
}

/** What ends an answer whose next token can't be told. */
export function notFiniteLogits(where: string, model: Llama): NotFinite {
  return new NotFinite(`${where}: the model's logits are NaN or infinite`, model, DAMAGED);
}
