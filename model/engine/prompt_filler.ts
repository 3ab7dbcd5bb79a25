/**
 * How prompts come into slots: which slot a sequence gets, which of its prompt's keys and values are there already, in its
 * slot or in another one, and how much of which prompt is computed next.
 *
 * Interleaved with steps of other sequences, prompts are computed in pieces, and what slots hold is shared: the beginning
 * that a prompt has in common with what another slot holds is copied, and one that another prompt is about to compute
 * is waited for. A slot whose sequence has ended keeps what it holds until it is the one that was taken longest ago.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { commonPrefix } from "../transformer/common_prefix.ts";
import { isLive, type Sequence } from "./sequence.ts";
import type { Prompt, Slots } from "./slots.ts";

/** Tokens that are copied from another slot at least: fewer are computed sooner. */
const LEAST_SHARED = 32;
/** The part of what a slot holds that a prompt has to go on from to take its place: else another may go on from it. */
const CONTINUED = 0.8;

/** A piece of a sequence's prompt to compute. */
export interface PromptPart extends Prompt {
  readonly sequence: Sequence;
}

/** What a slot holds. */
interface Held {
  slot: number;
  /** Tokens of a prompt that it begins with. */
  tokens: number;
}

/** Brings prompts into slots. */
export class PromptFiller {
  /** Sequences with a slot whose prompts are not computed yet. */
  #filling: Sequence[] = [];
  /** When each slot was taken last. */
  readonly #taken: number[];
  #turn = 0;

  /**
   * @param held The last sequence of each slot, which this sets.
   * @param rows The last sequence of each row of steps, which this sets: as few rows are live as can be.
   * @param budget Tokens to compute at once; undefined where prompts are computed whole.
   */
  constructor(
    readonly slots: Slots,
    readonly held: (Sequence | undefined)[],
    readonly rows: (Sequence | undefined)[],
    readonly budget: number | undefined,
  ) {
    this.#taken = held.map(() => 0);
  }

  /** Whether there are prompts that are not computed yet. */
  get isBusy(): boolean {
    return this.#filling.some(isLive);
  }

  /** Takes sequences out of those that wait, as many as there are free slots. */
  assign(waiting: Sequence[]): void {
    const free = [...this.held.keys()].filter((slot) => !isLive(this.held[slot]));
    const freeRows = [...this.rows.keys()].filter((row) => !isLive(this.rows[row]));
    for (const sequence of waiting.splice(0, free.length)) {
      const { slot, tokens } = this.#choose(sequence, free);
      free.splice(free.indexOf(slot), 1);
      const row = present(freeRows.shift(), "row for a slot");
      sequence.slot = slot;
      sequence.row = row;
      sequence.prefilled = tokens;
      this.rows[row] = sequence;
      this.slots.giveRow(slot, row);
      this.held[slot] = sequence;
      this.#taken[slot] = ++this.#turn;
      this.#filling.push(sequence);
    }
  }

  /** The pieces to compute next, which count as computed from now on; by row in ascending order. */
  next(gpu: Gpu): PromptPart[] {
    this.#filling = this.#filling.filter(isLive);
    const parts: (PromptPart & { until: number })[] = [];
    let left = this.budget ?? Infinity;
    for (const [i, sequence] of this.#filling.entries()) {
      if (left <= 0) break;
      const { prompt, slot = 0, adapter } = sequence;
      if (this.#shares(sequence) && !this.#takeOver(gpu, sequence, this.#filling.slice(0, i))) {
        continue;
      }
      const cached = sequence.prefilled, until = Math.min(prompt.length, cached + left);
      parts.push({ sequence, slot, ids: prompt, cached, until, adapter });
      left -= until - cached;
    }
    // Only now: what is copied above is what was computed before.
    for (const { sequence, until } of parts) sequence.prefilled = until;
    this.#filling = this.#filling.filter(({ prompt, prefilled }) => prefilled < prompt.length);
    return parts.sort((a, b) => (a.sequence.row ?? 0) - (b.sequence.row ?? 0));
  }

  #shares({ options }: Sequence): boolean {
    return this.budget !== undefined && options.reuse === true;
  }

  /** Which free slot a sequence gets, and how much of its prompt that holds. */
  #choose(sequence: Sequence, free: readonly number[]): Held {
    const found = free.map((slot) => this.#heldBy(slot, sequence));
    const best = found.reduce((best, held) => held.tokens > best.tokens ? held : best);
    if (!this.#shares(sequence)) return best;
    if (best.tokens > 0 && best.tokens >= CONTINUED * this.#computed(best.slot).length) return best;
    return found.reduce((first, held) =>
      this.#taken[held.slot] < this.#taken[first.slot] ? held : first
    );
  }

  /** The tokens whose keys and values a slot holds, and one more. */
  #computed(slot: number): readonly number[] {
    const sequence = this.held[slot];
    if (sequence === undefined) return [];
    const { prompt, prefilled, slotIds } = sequence;
    return prefilled < prompt.length ? prompt.slice(0, prefilled + 1) : slotIds;
  }

  /** How much of a sequence's prompt a slot holds. */
  #heldBy(slot: number, { prompt, adapter, options }: Sequence): Held {
    const other = this.held[slot];
    if (!other || !options.reuse || other.adapter !== adapter) return { slot, tokens: 0 };
    return { slot, tokens: this.slots.reusable(slot, this.#computed(slot), prompt) };
  }

  /**
   * Copies what another slot holds of a prompt, where that is more than its own slot does.
   *
   * @param before Sequences whose prompts are computed before.
   * @returns false where one of them is about to compute more of it.
   */
  #takeOver(gpu: Gpu, sequence: Sequence, before: readonly Sequence[]): boolean {
    const { prompt, adapter, prefilled, slot = 0 } = sequence;
    const others = [...this.held.keys()].filter((other) => other !== slot)
      .map((other) => this.#heldBy(other, sequence));
    const best = others.reduce((best, held) => held.tokens > best.tokens ? held : best, {
      slot,
      tokens: 0,
    });
    const least = Math.max(prefilled, best.tokens) + LEAST_SHARED;
    const isAwaited = before.some((other) =>
      other.adapter === adapter && this.#shares(other) &&
      Math.min(commonPrefix(other.prompt, prompt), prompt.length - 1) >= least
    );
    if (isAwaited) return false;
    if (best.tokens < prefilled + LEAST_SHARED) return true;
    const tokens = best.tokens - prefilled;
    this.slots.copy(gpu, { from: best.slot, to: slot, first: prefilled, tokens });
    sequence.prefilled = best.tokens;
    return true;
  }
}
