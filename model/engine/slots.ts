/**
 * The slots of sequences that are decoded: each has the keys and values of its tokens. A prefill pass
 * brings in whole prompts through the matrix kernels, then every step feeds the next token of each sequence.
 * With a KV cache a step reads the keys and values of earlier tokens; without one it computes all of them again.
 *
 * Which token follows is not decided here: a {@linkcode Sampler} gets the logits of each pass and puts the ids of the next
 * tokens into {@linkcode Slots.ids}.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { moveRows } from "../../kernels/ops/rows/move_rows.ts";
import { advance } from "../../kernels/ops/sampling/advance.ts";
import { putTokens } from "../../kernels/ops/sampling/token_history.ts";
import { BatchTensors } from "../transformer/batch.ts";
import { commonPrefix } from "../transformer/common_prefix.ts";
import { KvCache } from "../transformer/kv_cache.ts";
import type { Llama } from "../transformer/llama.ts";
import { decodingOf, type GenerateSizes } from "../transformer/modes.ts";
import { BatchRows } from "./batch_rows.ts";
import { layPieces, type PromptPiece } from "./pieces.ts";

/** What sizes an engine. */
export type EngineSizes = GenerateSizes;

/** Logits `[rows, padded vocabulary]` of the rows `first` to `first + rows` of a step. */
export type Sampler = (logits: Tensor, first: number, rows: number) => void;

/** A prompt to bring in. */
export interface Prompt {
  slot: number;
  /** One or more tokens. */
  ids: readonly number[];
  /** Its first tokens whose keys and values are in the slot already, which are not computed again. */
  cached: number;
  /** One past its last token to compute. Default: all are. */
  until?: number;
  /** The adapter of its sequence, counted from 1. Default: 0, none. */
  adapter?: number;
}

/** The slots of an engine, and the buffers that decoding needs besides the model's. */
export class Slots {
  /** What is kept of the slots' tokens: a cache, or the tokens `[sequences, context]` u32, for passes to read. */
  readonly #kept: { cache: KvCache; history?: undefined } | { cache?: undefined; history: Tensor };
  /** The rows of a step. */
  readonly #rows: BatchRows;
  /** What the model reads of the next token of each row. */
  readonly #next: BatchTensors;
  /** Row of the cache that each row's next key and value go to, and where those of its slot begin. */
  readonly #keyRows: Tensor;
  readonly #bases: Tensor;
  readonly #limits: Tensor;
  /** Tokens of each slot that were fed, those that the host doesn't know yet included. */
  readonly #fed: number[];
  /** Whether the keys of each slot are those of a text of more than {@linkcode Llama.shortTexts} tokens. */
  readonly #long: boolean[];
  /** The adapter of each slot's sequence. */
  readonly #adapters: Uint32Array;
  /** Whether what never changes was written to the GPU, and whether slots have other rows than were written. */
  #ready = false;
  #moved = true;

  /** @throws {Error} where the model was made for fewer or shorter sequences. */
  constructor(memory: Memory, readonly model: Llama, readonly sizes: EngineSizes) {
    const { sequences, context, cache: dtype } = sizes, planned = decodingOf(model.mode);
    if (planned === null || planned.sequences < sequences || planned.context < context) {
      const most = planned ? `${planned.sequences} of ${planned.context}` : "none";
      throw new Error(
        `${sequences} sequences of ${context} tokens exceed those that the model is made for: ${most}`,
      );
    }
    const make = (name: string, ...shape: number[]) =>
      memory.tensor("workspace", name, "u32", [sequences, ...shape]);
    this.#kept = dtype
      ? { cache: new KvCache(memory, model.spec, { sequences, context, dtype }) }
      : { history: make("history", context) };
    this.#next = new BatchTensors(memory, sequences, {
      withKeyRows: true,
      slidingWindows: model.slidingWindows,
      shortTexts: model.shortTexts,
      adapted: model.adapterCount > 0,
    });
    this.#keyRows = present(this.#next.keyRows, "rows of keys");
    this.#bases = make("cache_bases");
    this.#limits = make("cache_limits");
    this.#rows = new BatchRows(sequences);
    this.#fed = Array(sequences).fill(0);
    this.#adapters = new Uint32Array(sequences);
    this.#long = Array(sequences).fill(false);
  }

  /** Keys and values of the slots' tokens, where they are kept. */
  get cache(): KvCache | undefined {
    return this.#kept.cache;
  }

  /** Next token of each row `[sequences]` u32, for `sampler` to write. */
  get ids(): Tensor {
    return this.#next.ids;
  }

  /** Position of each row's last token, while `sampler` is called `[sequences]` u32. */
  get positions(): Tensor {
    return this.#next.positions;
  }

  /** Gives a slot a row of steps, which is its own number before. The slot that had the row is no live one. */
  giveRow(slot: number, row: number): void {
    if (this.#rows.give(slot, row)) this.#moved = true;
  }

  /** Whether a text of so many tokens is rotated as long ones are. */
  #isLong(tokens: number): boolean {
    return tokens > (this.model.shortTexts ?? Infinity);
  }

  /**
   * Whether a slot's next token makes its text one that is rotated as long ones are, while its keys are those of a short one:
   * {@linkcode rotateAsLong} has to make them again.
   */
  outgrows(slot: number): boolean {
    return this.cache !== undefined && !this.#long[slot] && this.#isLong(this.#fed[slot] + 1);
  }

  /** How many tokens a slot can be fed before it {@linkcode outgrows} its keys. */
  roomToGrow(slot: number): number {
    if (this.cache === undefined || this.#long[slot]) return Infinity;
    return (this.model.shortTexts ?? Infinity) - this.#fed[slot];
  }

  /** Computes keys and values of slots, as those of longer texts; `ids` are what was fed. */
  rotateAsLong(gpu: Gpu, slots: readonly { slot: number; ids: readonly number[] }[]): void {
    for (const { slot } of slots) this.#long[slot] = true;
    const length = 1 + (this.model.shortTexts ?? 0);
    for (const { slot, ids } of slots) {
      this.#computeAlone(gpu, { slot, ids, cached: 0 }, { length, last: false });
    }
  }

  /** How many first tokens of a prompt are in the cache of a slot whose tokens were `ids`. Its last token was not fed. */
  reusable(slot: number, ids: readonly number[], prompt: readonly number[]): number {
    if (this.cache === undefined || this.#long[slot] !== this.#isLong(prompt.length)) return 0;
    // The last row of a full slot is anyone's.
    const cached = Math.min(ids.length, this.sizes.context) - 1;
    // The prompt's last token is computed in any case: its logits are needed.
    return Math.max(0, Math.min(commonPrefix(prompt, ids), cached, prompt.length - 1));
  }

  /**
   * Computes prompts, by row in ascending order, in place of their slots' earlier sequences. `sampler` gets the logits of
   * those that are computed to their end.
   */
  prefill(gpu: Gpu, prompts: readonly Prompt[], sampler: Sampler): void {
    const { sequences, context } = this.sizes;
    if (prompts.some(({ slot, ids }) => slot >= sequences || ids.length > context)) {
      throw new Error(`prompts exceed the plan's ${sequences} sequences of ${context} tokens`);
    }
    for (const { slot, ids, adapter = 0 } of prompts) {
      this.#long[slot] = this.#isLong(ids.length);
      this.#adapters[slot] = adapter;
    }
    this.#place(gpu, prompts.map(({ slot, ids, until }) => ({ slot, ids: ids.slice(0, until) })));
    if (this.cache === undefined) return this.#recompute(gpu, prompts.length, sampler);
    const most = this.model.mode.maxTokens;
    let together: PromptPiece[] = [], tokens = 0;
    // Rows whose logits the pass gives: they follow each other.
    let first = 0, ended = 0;
    const flush = () => {
      if (together.length > 0) this.#pass(gpu, together, first, sampler);
      [together, tokens, ended] = [[], 0, 0];
    };
    for (const { slot, ids, cached, until = ids.length } of prompts) {
      const base = slot * context, { length } = ids, count = until - cached;
      const last = until === length, row = this.#rows.rowOf(slot);
      if (count > most) {
        flush();
        this.#computeAlone(
          gpu,
          { slot, ids: ids.slice(0, until), cached },
          { length, last },
          sampler,
        );
        continue;
      }
      const follows = !last || ended === 0 || row === first + ended;
      if (!follows || tokens + count > most) flush();
      if (last && ended++ === 0) first = row;
      const adapter = this.#adapters[slot];
      together.push({ ids: ids.slice(cached, until), from: cached, length, base, last, adapter });
      tokens += count;
    }
    flush();
  }

  /**
   * Computes one slot's tokens in as many passes as they take.
   *
   * @param of `length`: tokens of the text that they are rotated for. `last`: whether the last one's logits are wanted.
   */
  #computeAlone(
    gpu: Gpu,
    { slot, ids, cached }: Prompt,
    { length, last }: { length: number; last: boolean },
    sampler: Sampler = () => {},
  ): void {
    const { mode: { maxTokens: most } } = this.model, base = slot * this.sizes.context;
    const adapter = this.#adapters[slot];
    for (let from = cached; from < ids.length; from += most) {
      const end = Math.min(from + most, ids.length);
      const isLast = last && end === ids.length;
      this.#pass(
        gpu,
        [{ ids: ids.slice(from, end), from, length, base, last: isLast, adapter }],
        this.#rows.rowOf(slot),
        sampler,
      );
    }
  }

  /** Feeds the next token of each of the first `count` rows. */
  step(gpu: Gpu, count: number, sampler: Sampler): void {
    const { model } = this;
    if (this.#moved) this.#place(gpu, []);
    const { positions, keyRanges: [{ starts, slidingWindow }], ends } = this.#next;
    advance(gpu, {
      positions,
      starts,
      ends,
      cacheRows: this.#keyRows,
      bases: this.#bases,
      limits: this.#limits,
      rows: count,
      slidingWindow,
    });
    let longest = 0;
    for (let row = 0; row < count; row++) {
      const slot = this.#rows.slotOf(row);
      this.#fed[slot] = Math.min(this.#fed[slot] + 1, this.sizes.context);
      longest = Math.max(longest, this.#fed[slot]);
    }
    const { cache, history } = this.#kept;
    if (cache === undefined) {
      putTokens(gpu, { ids: this.ids, places: this.#keyRows, history, rows: count });
      return this.#recompute(gpu, count, sampler);
    }
    const { blocks } = cache, next = this.#next;
    next.tokens = next.targetCount = count;
    next.allTargets = true;
    sampler(model.decode(gpu, next, { blocks, longest }), 0, count);
  }

  /** Copies the keys and values of tokens from slot to slot. */
  copy(
    gpu: Gpu,
    { from, to, first, tokens }: { from: number; to: number; first: number; tokens: number },
  ): void {
    this.#long[to] = this.#long[from];
    if (tokens === 0) return;
    const { context } = this.sizes;
    const range = { from: from * context + first, to: to * context + first, rows: tokens };
    for (const { k, v } of this.cache?.blocks ?? []) {
      moveRows(gpu, { x: k, ...range });
      moveRows(gpu, { x: v, ...range });
    }
  }

  /** Sets the tokens of the live slots. All but the last are in the cache; the last is fed next. */
  set(gpu: Gpu, live: readonly { slot: number; ids: readonly number[] }[]): void {
    this.#place(gpu, live.map(({ slot, ids }) => ({ slot, ids: ids.slice(0, -1) })));
    const next = new Uint32Array(this.sizes.sequences);
    for (const { slot, ids } of live) next[this.#rows.rowOf(slot)] = ids[ids.length - 1];
    gpu.write(this.ids, next);
  }

  /** Writes the rows' places, last positions and, without a cache, the slots' tokens to the GPU. */
  #place(gpu: Gpu, live: readonly { slot: number; ids: readonly number[] }[]): void {
    const { sequences, context } = this.sizes;
    if (!this.#ready) {
      gpu.write(this.#next.targetRows, Uint32Array.from({ length: sequences }, (_, row) => row));
      gpu.write(this.#limits, new Uint32Array(sequences).fill(context));
      this.#ready = true;
    }
    for (const { slot, ids } of live) this.#fed[slot] = ids.length;
    const ofRows = (word: (slot: number) => number) =>
      Uint32Array.from({ length: sequences }, (_, row) => word(this.#rows.slotOf(row)));
    if (this.#moved) gpu.write(this.#bases, ofRows((slot) => slot * context));
    this.#moved = false;
    gpu.write(this.positions, ofRows((slot) => Math.max(0, this.#fed[slot] - 1)));
    const { adapters } = this.#next;
    if (adapters) gpu.write(adapters.tokens, ofRows((slot) => this.#adapters[slot]));
    const { history } = this.#kept;
    if (history === undefined) return;
    const tokens = new Uint32Array(history.size);
    for (const { slot, ids } of live) tokens.set(ids, slot * context);
    gpu.write(history, tokens);
  }

  #pass(gpu: Gpu, pieces: readonly PromptPiece[], first: number, sampler: Sampler): void {
    const slidingWindow = this.model.slidingWindows[0] ?? Infinity, { cache, history } = this.#kept;
    const layout = { slidingWindow, cached: cache !== undefined, history };
    const batch = layPieces(pieces, layout);
    const logits = this.model.logits(gpu, batch, cache && { blocks: cache.blocks });
    if (batch.targetCount > 0) sampler(logits, first, batch.targetCount);
  }

  /** All tokens of the first `count` rows in one pass, for decoding without a cache. */
  #recompute(gpu: Gpu, count: number, sampler: Sampler): void {
    const pieces = Array.from({ length: count }, (_, row): PromptPiece => {
      const slot = this.#rows.slotOf(row), tokens = this.#fed[slot];
      const first = slot * this.sizes.context;
      const ids = Uint32Array.from({ length: tokens }, (_, position) => first + position);
      const adapter = this.#adapters[slot];
      return { ids, from: 0, length: tokens, base: 0, last: true, adapter };
    });
    this.#pass(gpu, pieces, 0, sampler);
  }
}
