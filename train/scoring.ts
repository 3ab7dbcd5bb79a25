/**
 * How the samples of a window are scored: where each one's log-likelihood lies on the GPU until the host reads it.
 *
 * @module
 */
import type { LogLikelihoods } from "./objective/objective.ts";
import { type AccumulationWindow, type PlannedPass, samplesIn } from "./planner.ts";

/** A pass with the places of its samples. */
export interface ScoredPass {
  pass: PlannedPass;
  /** Where its micro-batch 0 is among those of all windows that are scored together. */
  firstSlot: number;
  /** The place of each sample among all of the passes, in the pass's order. */
  places: readonly number[];
}

/**
 * Passes with the places of their samples, which are counted through. Targets are laid out by place here and by
 * micro-batch in the loss pass. Both give one order, on which dropout at the output projection depends.
 */
export function scoredPasses(
  windows: readonly { passes: readonly PlannedPass[]; firstSlot: number }[],
): ScoredPass[] {
  let next = 0;
  return windows.flatMap(({ passes, firstSlot }) =>
    passes.map((pass) => {
      const { samples } = pass, first = next;
      const order = samples.toSorted((a, b) => a.slot - b.slot);
      next += samples.length;
      return { pass, firstSlot, places: samples.map((sample) => first + order.indexOf(sample)) };
    })
  );
}

/**
 * The log-likelihoods of a window's samples by each of several models.
 *
 * @param nll Their negatives, a model after the other and by place.
 */
export function logLikelihoods(
  window: AccumulationWindow,
  passes: readonly ScoredPass[],
  nll: Float32Array,
): LogLikelihoods[] {
  const samples = samplesIn(window);
  return Array.from({ length: nll.length / samples }, (_, model) => {
    const found = window.map((samples) => new Array<number>(samples.length));
    for (const { pass, firstSlot, places } of passes) {
      pass.samples.forEach(({ slot, index }, i) => {
        found[firstSlot + slot][index] = -nll[model * samples + places[i]];
      });
    }
    return found;
  });
}
