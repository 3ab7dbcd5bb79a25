/**
 * Continuations of prompts, several at once: sequences are admitted, go on step by step, and leave when they end.
 *
 * Tokens are sampled on the GPU and fed to the next step there, so that the host reads a chunk of several steps at once
 * and records the next chunk meanwhile. The host sees that a sequence has ended when it reads the chunk: the rest of the
 * chunk, and the next one, are wasted.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import { NOT_FINITE } from "../../kernels/ops/sampling/sample.ts";
import type { TokenLogprobs } from "../../kernels/ops/sampling/token_logprobs.ts";
import type { Llama } from "../transformer/llama.ts";
import { DAMAGED, NotFinite } from "../transformer/not_finite.ts";
import { checkNumber, checkPrompt, checkSequenceOptions, wholeFrom } from "./checks.ts";
import { PromptFiller } from "./prompt_filler.ts";
import { isDecoded, isLive, isMasked, Sequence, type SequenceOptions } from "./sequence.ts";
import { type EngineSizes, type Sampler, Slots } from "./slots.ts";
import { type ChoiceRoom, type ChosenLayout, TokenChooser } from "./token_chooser.ts";

export { GREEDY, Sequence, type SequenceOptions, type TokenMask } from "./sequence.ts";
export type { Sampling } from "../../kernels/ops/sampling/sample.ts";
export type { TokenLogprobs } from "../../kernels/ops/sampling/token_logprobs.ts";
export type { ChoiceRoom, LogitAdjustments } from "./token_chooser.ts";

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

/** A token of a sequence's answer. */
export interface Token {
  sequence: Sequence;
  id: number;
  /** Where its sequence asks for them. */
  logprobs?: TokenLogprobs;
}

/** Steps of a chunk, and the sequences whose tokens they make. */
interface ChunkPart {
  first: number;
  steps: number;
  sequences: readonly Sequence[];
}

/** Steps that are recorded and not read yet. */
interface Chunk {
  layout: ChosenLayout;
  /** In the order of their steps. */
  parts: readonly ChunkPart[];
}

/** What an engine is made for besides its sizes. */
export interface EngineOptions extends ChoiceRoom {
  /**
   * Tokens of prompts that are computed between two steps of the other sequences at most. Default: prompts are computed
   * whole, while the others wait, and nothing is copied from slot to slot.
   */
  interleaved?: number;
}

/** Decodes sequences of a model. */
export class Engine {
  readonly slots: Slots;
  readonly #chooser: TokenChooser;
  readonly #filler: PromptFiller;
  /** The last sequence of each slot: its tokens are what the slot holds. */
  readonly #sequences: (Sequence | undefined)[];
  /** The last sequence of each row of steps. */
  readonly #rows: (Sequence | undefined)[];
  /** Rows that a step computes: up to the last that was live when a prompt came in. */
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
   * @param options What sequences may ask for, and how prompts come in.
   */
  constructor(
    memory: Memory,
    readonly model: Llama,
    readonly sizes: EngineSizes,
    readonly options: EngineOptions = {},
  ) {
    this.slots = new Slots(memory, model, sizes);
    const { sequences } = sizes;
    this.#chooser = new TokenChooser(memory, model.config.vocab_size, sequences, options);
    this.#sequences = Array(sequences).fill(undefined);
    this.#rows = Array(sequences).fill(undefined);
    this.#filler = new PromptFiller(this.slots, this.#sequences, this.#rows, options.interleaved);
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
    const masked = [...this.#sequences, ...this.#waiting].filter(isLive).filter(isMasked);
    await Promise.all(masked.map(askMask));
    const isNeeded = this.#recorded?.parts.some(({ sequences }) => sequences.some(isLive));
    const chunk = isNeeded ? this.#recorded : this.#record(gpu);
    this.#recorded = undefined;
    if (chunk === undefined) return [];
    const { layout, parts } = chunk;
    const steps = Math.max(...parts.map(({ first, steps }) => first + steps));
    // Where a mask waits for a token, nothing is recorded before that is read.
    const ahead = masked.some(isLive) ? undefined : () => {
      this.#recorded = this.#record(gpu);
    };
    const read = await gpu.read(this.#chooser.chosen(steps, layout), ahead);
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

  /**
   * Launches what answers to prompts take, for {@linkcode Gpu.precompile}: the prompts, the step after them, and steps
   * after 2, 4, 8 ... times as many tokens as far as answers may go. The engine is of no use after it.
   *
   * @param prompts As many as there are slots at most.
   */
  rehearse(
    gpu: Gpu,
    prompts: readonly (readonly number[])[],
    options: SequenceOptions,
  ): void {
    const sequences = prompts.map((prompt) => this.admit(prompt, options)).filter(isLive);
    if (sequences.length === 0) return;
    do this.#record(gpu); while (this.#filler.isBusy);
    this.#record(gpu);
    // Without a cache a step computes all tokens again, with other programs nearly every time.
    if (this.slots.cache === undefined) return;
    const most = Math.max(...sequences.map(({ prompt, most }) => prompt.length + most - 1));
    const longest = Math.max(...sequences.map(({ prompt }) => prompt.length));
    for (let tokens = 2 * longest; tokens < 2 * most; tokens *= 2) {
      const ids = Array<number>(Math.min(tokens, most)).fill(0);
      this.slots.set(gpu, sequences.flatMap(({ slot }) => slot === undefined ? [] : { slot, ids }));
      this.slots.step(gpu, this.#count, this.#sampler(gpu, 0));
    }
  }

  /** Records the next chunk: prompts that wait for a slot, steps of all sequences, or both where they are interleaved. */
  #record(gpu: Gpu): Chunk | undefined {
    const decoded = this.#sequences.filter(isDecoded);
    // Without a cache a pass computes all slots, so that new sequences come when the others have ended.
    const mayPrefill = this.slots.cache !== undefined || decoded.length === 0;
    const prefilled = mayPrefill ? this.#prefill(gpu) : undefined;
    const { layout } = this.#chooser;
    const prompts = prefilled && { first: 0, steps: 1, sequences: prefilled };
    const first = prompts === undefined ? 0 : 1;
    const mayDecode = prompts === undefined ||
      (this.options.interleaved !== undefined && !prompts.sequences.some(isMasked));
    const steps = mayDecode
      ? this.#decode(gpu, first, [...decoded, ...prefilled ?? []])
      : undefined;
    const parts = [prompts, steps].filter((part) => part !== undefined);
    return parts.length === 0 ? undefined : { layout, parts };
  }

  /** Records steps of sequences, from step `first` of the chunk on; undefined where there is none to make now. */
  #decode(gpu: Gpu, first: number, sequences: readonly Sequence[]): ChunkPart | undefined {
    if (!this.#rotateAsLong(gpu, sequences)) return undefined;
    const needed = Math.max(0, ...sequences.map(({ most, asked }) => most - asked));
    const room = sequences.map(({ slot = 0 }) => this.slots.roomToGrow(slot));
    const most = this.#chooser.mostSteps - first,
      fitting = this.#filler.isBusy ? 1 : this.#chunkSteps;
    const masked = sequences.filter(isMasked);
    const steps = Math.min(masked.length > 0 ? 1 : fitting, needed, most, ...room);
    if (steps === 0) return undefined;
    for (const sequence of masked) this.#allow(gpu, sequence);
    for (let step = first; step < first + steps; step++) {
      this.slots.step(gpu, this.#count, this.#sampler(gpu, step));
    }
    for (const sequence of sequences) sequence.asked += steps;
    return { first, steps, sequences };
  }

  /** Makes keys again of texts that are about to outgrow them; false while the host doesn't know all of their tokens. */
  #rotateAsLong(gpu: Gpu, decoded: readonly Sequence[]): boolean {
    const outgrown = decoded.filter(({ slot = 0 }) => this.slots.outgrows(slot));
    if (outgrown.some((s) => s.slotIds.length < s.prompt.length + s.asked)) return false;
    const fed = outgrown.map(({ slot = 0, slotIds }) => ({ slot, ids: slotIds.slice(0, -1) }));
    this.slots.rotateAsLong(gpu, fed);
    return true;
  }

  /**
   * Gives waiting sequences the slots that are free, and computes prompts.
   *
   * @returns the sequences whose prompts are computed now; undefined where there was nothing to compute.
   */
  #prefill(gpu: Gpu): Sequence[] | undefined {
    // One that came while a chunk is read has not asked its mask yet.
    const ready = this.#waiting.filter((sequence) => !isMasked(sequence) || sequence.allowed);
    const later = this.#waiting.filter((sequence) => !ready.includes(sequence));
    this.#filler.assign(ready);
    this.#waiting = [...ready, ...later];
    const pieces = this.#filler.next(gpu);
    if (pieces.length === 0) return undefined;
    const complete = pieces.map(({ sequence }) => sequence).filter(isDecoded);
    for (const sequence of complete) sequence.asked = 1;
    this.#count = 1 + this.#rows.findLastIndex(isDecoded);
    if (complete.length > 0) {
      this.#chooser.set(
        gpu,
        this.#rows.map((sequence) => {
          if (sequence === undefined) return undefined;
          const { prompt, choice } = sequence;
          return { prompt, choice, live: isDecoded(sequence) };
        }),
        complete.flatMap(({ row }) => row ?? []),
      );
    }
    for (const sequence of complete.filter(isMasked)) this.#allow(gpu, sequence);
    this.slots.prefill(gpu, pieces, this.#sampler(gpu, 0));
    this.#chunkSteps = 1;
    this.#began = performance.now();
    return complete;
  }

  /** Writes which tokens may come next in a sequence. */
  #allow(gpu: Gpu, { row = 0, allowed }: Sequence): void {
    this.#chooser.allow(gpu, row, present(allowed, "mask of the next token"));
  }

  /** Chooses the next token of slots, as step `step` of a chunk. */
  #sampler(gpu: Gpu, step: number): Sampler {
    const { ids, positions } = this.slots;
    return (logits, first, rows) =>
      this.#chooser.choose(gpu, { logits, first, rows, step, ids, positions });
  }

  /** Gives a chunk's tokens to their sequences. */
  #collect(read: Uint32Array, { layout, parts }: Chunk): Token[] {
    const tokens: Token[] = [];
    const steps = parts.flatMap(({ first, steps, sequences }) =>
      Array.from({ length: steps }, (_, i) => ({ step: first + i, sequences }))
    );
    for (const { step, sequences } of steps) {
      for (const sequence of sequences) {
        const { ids, most, row, options: { stop }, choice } = sequence;
        if (sequence.finished !== undefined || row === undefined) continue;
        const id = read[step * layout.stride + row];
        if (id === NOT_FINITE) {
          const which = `prompt ${choice.subsequence + 1}, token ${ids.length + 1}`;
          throw notFiniteLogits(`${which} of the answer`, this.model);
        }
        sequence.slotIds.push(id);
        sequence.options.mask?.accept(id);
        sequence.allowed = undefined;
        const { logprobs: count } = choice;
        const logprobs = count === undefined
          ? undefined
          : this.#chooser.logprobs(read, layout, { step, slot: row, count });
        if (stop.includes(id)) {
          sequence.finished = "stop";
          sequence.stopLogprobs = logprobs;
        } else {
          ids.push(id);
          tokens.push({ sequence, id, logprobs });
          if (ids.length >= most) sequence.finished = "length";
        }
      }
    }
    return tokens;
  }
}

/** Asks a sequence's mask for the next token, where that was not done yet. */
async function askMask(sequence: Sequence): Promise<void> {
  const { most, ids, options: { mask } } = sequence;
  sequence.allowed ??= await mask?.allowed(most - ids.length);
}

/** What ends an answer whose next token can't be told. */
export function notFiniteLogits(where: string, model: Llama): NotFinite {
  return new NotFinite(`${where}: the model's logits are NaN or infinite`, model, DAMAGED);
}
