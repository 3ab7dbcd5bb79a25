/**
 * Packing: the micro-batches of an accumulation window run together as one row of tokens. Attention
 * stays inside each sample and every loss keeps its weight, so the step is the same as without.
 *
 * Samples that begin alike, as those of one prompt template do, share the rows of their beginning: what a causal
 * model makes of a token depends on the tokens before it alone, so these rows are the same in each, and the
 * gradients that reach them add up.
 *
 * @module
 */
import { commonPrefix } from "../model/transformer/common_prefix.ts";
import type { TokenizedSample } from "../model/text/prompt.ts";
import { promptLengthOf } from "../model/text/targets.ts";

/** A sample in a pass. */
export interface PackedSample {
  /** Its micro-batch in the window, and which of its samples it is. */
  slot: number;
  index: number;
  sample: TokenizedSample;
  /** So many of its first tokens are those of the nearest sample before it that shares none. */
  shared: number;
}

/** What decides the passes of a window. */
export interface PackingOptions {
  packing: boolean;
  share_prefixes: boolean;
}

/** Tokens that a pass computes. */
export function passTokens(pass: readonly PackedSample[]): number {
  return pass.reduce((sum, { sample, shared }) => sum + sample.ids.length - shared, 0);
}

/** Longest row that micro-batches are joined to; beyond it there is nothing to gain but memory. */
export const MAX_ROW_TOKENS = 4096;

/**
 * Which micro-batches of a window run together: each while the row stays within `maxTokens`. A
 * micro-batch is never cut, so one that is longer runs alone.
 *
 * @returns Indexes of micro-batches, by row, in order.
 */
export function joinMicroBatches(
  window: readonly (readonly TokenizedSample[])[],
  maxTokens: number = MAX_ROW_TOKENS,
): number[][] {
  const rows: number[][] = [];
  let room = 0;
  window.forEach((samples, index) => {
    const tokens = samples.reduce((sum, { ids }) => sum + ids.length, 0);
    if (rows.length === 0 || tokens > room) {
      rows.push([]);
      room = maxTokens;
    }
    rows[rows.length - 1].push(index);
    room -= tokens;
  });
  return rows;
}

/** Fewer tokens than this are not worth sharing. */
const LEAST_SHARED = 8;

/**
 * Groups samples by what they begin with, so that a row of them has the fewest tokens: in lexical order, those of a
 * group are neighbours, and of all divisions into groups that share their common beginning the best is taken. A
 * group's first sample shares nothing, the others its beginning. Targets are not shared, nor is the row before one; but a
 * prompt that is learnt by itself serves the samples that it is the prompt of, which don't learn it.
 */
export function sharePrefixes(row: readonly PackedSample[]): PackedSample[] {
  const sorted = [...row].sort((a, b) => compare(a.sample.ids, b.sample.ids));
  // Of the samples before index i: the most tokens saved, and where the last group begins.
  const best = [{ saved: 0, from: 0, shared: 0 }];
  for (let end = 1; end <= sorted.length; end++) {
    best.push({ saved: best[end - 1].saved, from: end - 1, shared: 0 });
    let others = Infinity;
    for (let from = end - 2; from >= 0; from--) {
      const { ids } = sorted[from + 1].sample;
      const common = commonPrefix(sorted[from].sample.ids, ids);
      others = Math.min(others, sharable(sorted[from + 1]), common);
      const shared = Math.min(others, lendable(sorted[from]));
      if (shared < LEAST_SHARED) break;
      const saved = best[from].saved + shared * (end - 1 - from);
      if (saved > best[end].saved) best[end] = { saved, from, shared };
    }
  }
  const groups: PackedSample[][] = [];
  for (let end = sorted.length; end > 0; end = best[end].from) {
    const { from, shared } = best[end];
    groups.unshift(
      sorted.slice(from, end).map((sample, i) => ({ ...sample, shared: i === 0 ? 0 : shared })),
    );
  }
  return groups.flat();
}

/** Tokens whose rows predict no target: rows before the one of the first target. */
function sharable({ sample }: PackedSample): number {
  return Math.max(0, promptLengthOf(sample) - 1);
}

/** Tokens whose rows may serve other samples, too. */
function lendable(packed: PackedSample): number {
  const { ids, part } = packed.sample;
  return part === "prompt" ? ids.length : sharable(packed);
}

function compare(a: Uint32Array, b: Uint32Array): number {
  const at = commonPrefix(a, b);
  return (a[at] ?? -1) - (b[at] ?? -1);
}
