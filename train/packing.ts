/**
 * Packing: the micro-batches of an accumulation window run together as one row of tokens. Attention
 * stays inside each sample and every loss keeps its weight, so the step is the same as without.
 *
 * @module
 */
import type { TokenizedSample } from "../model/text/prompt.ts";

/**
 * The passes that a window takes: each micro-batch alone, or with packing as {@linkcode joinMicroBatches}
 * joins them.
 *
 * @returns Indexes of micro-batches, by pass, in order.
 */
export function passes(
  window: readonly (readonly TokenizedSample[])[],
  packing: boolean,
): number[][] {
  return packing ? joinMicroBatches(window) : window.map((_, index) => [index]);
}

/** Longest row that micro-batches are joined to; beyond it there is nothing to gain but memory. */
const MAX_ROW_TOKENS = 4096;

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
