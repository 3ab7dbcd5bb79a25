/**
 * The passes of accumulation windows. A window is planned once: what compiles programs ahead and what runs the step
 * read the same record.
 *
 * @module
 */
import { archSpec, type ModelConfig } from "../model/families/config.ts";
import { longestSharing } from "../model/transformer/layers.ts";
import type { Decoding } from "../model/transformer/modes.ts";
import { supervisedTokens, type TokenizedSample } from "../model/text/prompt.ts";
import {
  joinMicroBatches,
  type PackedSample,
  type PackingOptions,
  passTokens,
  sharePrefixes,
} from "./packing.ts";

/** Samples of one optimizer step, by micro-batch. */
export type AccumulationWindow = readonly (readonly TokenizedSample[])[];

/** One run of the model, forward and backward. */
export interface PlannedPass {
  /** In the order in which they lie in the row of tokens. */
  samples: readonly PackedSample[];
  /** Tokens that are computed, and targets that are predicted. */
  tokens: number;
  targets: number;
  /** Whether samples share the rows of their beginning. */
  shares: boolean;
  /** The first of its micro-batches in the window. */
  slot: number;
}

/** The largest passes of a run, which size its buffers. */
export interface RunSizes {
  /** Most tokens and most targets of one pass. */
  maxTokens: number;
  maxTargets: number;
  /** Most tokens of one document. */
  maxPosition: number;
  /** Sequences that are decoded together between steps, where any are. */
  decoding?: Decoding;
  /** Most micro-batches of a window. Default: the configuration's, which data may be too short for. */
  maxMicroBatches?: number;
  /** Most samples of a window. Default: those of as many whole micro-batches, one a row of data. */
  maxSamples?: number;
}

/** Samples of a window. */
export function samplesIn(window: AccumulationWindow): number {
  return window.reduce((sum, samples) => sum + samples.length, 0);
}

/** Micro-batches that run together, with what their lengths alone say. */
interface Row {
  slots: readonly number[];
  /** Tokens where nothing is shared: with sharing there are no more. */
  tokens: number;
  targets: number;
  longest: number;
}

/** Plans the passes of windows. */
export class PassPlanner {
  readonly #planned = new WeakMap<AccumulationWindow, readonly PlannedPass[]>();

  /**
   * @param settings Default: every micro-batch is a pass.
   * @param longestSharing The longest sample that may share its beginning; null where any may.
   */
  constructor(
    readonly settings: PackingOptions = { packing: false, share_prefixes: false },
    readonly longestSharing: number | null = null,
  ) {}

  /** The planner for a model. */
  static of(settings: PackingOptions, model: ModelConfig): PassPlanner {
    return new PassPlanner(settings, longestSharing(archSpec(model)));
  }

  /**
   * The passes of a window: each micro-batch alone, or with packing as {@linkcode joinMicroBatches} joins them. The
   * same list as long as the window is the same object.
   */
  passes(window: AccumulationWindow): readonly PlannedPass[] {
    let passes = this.#planned.get(window);
    if (passes === undefined) {
      passes = this.#rows(window).map((row) => this.#plan(window, row));
      this.#planned.set(window, passes);
    }
    return passes;
  }

  /**
   * The largest passes over any of these windows, exactly. Lengths say them, but for the tokens of samples that
   * share: which share what takes a dynamic programme over their ids. A row has at most the tokens that it has
   * without sharing, so rows are planned from the longest on, until no other can have more than was found.
   */
  sizes(windows: Iterable<AccumulationWindow>): RunSizes {
    const sizes = { maxTokens: 1, maxTargets: 1, maxPosition: 1, maxSamples: 1 };
    const sharing: { window: AccumulationWindow; row: Row }[] = [];
    for (const window of windows) {
      sizes.maxSamples = Math.max(sizes.maxSamples, samplesIn(window));
      for (const row of this.#rows(window)) {
        if (this.#shares(row)) sharing.push({ window, row });
        else sizes.maxTokens = Math.max(sizes.maxTokens, row.tokens);
        sizes.maxTargets = Math.max(sizes.maxTargets, row.targets);
        sizes.maxPosition = Math.max(sizes.maxPosition, row.longest);
      }
    }
    sharing.sort((a, b) => b.row.tokens - a.row.tokens);
    for (const { window, row } of sharing) {
      if (row.tokens <= sizes.maxTokens) break;
      sizes.maxTokens = Math.max(sizes.maxTokens, this.#plan(window, row).tokens);
    }
    return sizes;
  }

  #rows(window: AccumulationWindow): Row[] {
    const rows = this.settings.packing
      ? joinMicroBatches(window)
      : window.map((_, index) => [index]);
    return rows.map((slots) => {
      const row = { slots, tokens: 0, targets: 0, longest: 0 };
      for (const slot of slots) {
        for (const sample of window[slot]) {
          row.tokens += sample.ids.length;
          row.targets += supervisedTokens(sample);
          row.longest = Math.max(row.longest, sample.ids.length);
        }
      }
      return row;
    });
  }

  /** Whether samples of a row may share their beginnings. */
  #shares({ longest }: Row): boolean {
    const { packing, share_prefixes } = this.settings;
    return packing && share_prefixes && longest <= (this.longestSharing ?? Infinity);
  }

  #plan(window: AccumulationWindow, row: Row): PlannedPass {
    const unshared = row.slots.flatMap((slot) =>
      window[slot].map((sample, index) => ({ slot, index, sample, shared: 0 }))
    );
    const samples = this.#shares(row) ? sharePrefixes(unshared) : unshared;
    return {
      samples,
      tokens: passTokens(samples),
      targets: row.targets,
      shares: samples.some(({ shared }) => shared > 0),
      slot: row.slots[0],
    };
  }
}
