/**
 * Supervised fine-tuning: the mean negative log-likelihood of the targets. Its weights follow from how many there are.
 *
 * @module
 */
import { supervisedTokens } from "../../model/text/prompt.ts";
import type { AccumulationWindow } from "../planner.ts";
import type { Objective, TargetWeights, WeighedWindow, WindowLosses } from "./objective.ts";

/** What makes a window's loss a mean: over its micro-batches and samples, or over its tokens. */
export type LossNormalization = "sample" | "token";

/** Weights of supervised tokens in both losses that are reported. */
export interface LossWeights {
  /** In the loss of the window, whose gradient the optimizer step takes. */
  window: TargetWeights;
  /** In the loss reported for the token's own micro-batch. */
  microBatch: TargetWeights;
}

/**
 * The weight of each supervised token of a window.
 *
 * `sample`: a micro-batch's loss is the mean over its samples of their mean token losses, the
 * window's is the mean over its micro-batches: 1 / (micro-batches in the window × samples in the
 * micro-batch × supervised tokens of the sample). `token`: every supervised token weighs the same,
 * 1 / (supervised tokens of the window). Short windows are divided by what they hold. Over a window,
 * and over each micro-batch, the weights of all supervised tokens sum to 1.
 *
 * @param window Each sample has at least one supervised token.
 * @throws {RangeError} When a sample has none.
 */
export function lossWeights(
  window: AccumulationWindow,
  normalization: LossNormalization,
): LossWeights {
  const tokens = window.map((samples) => samples.map(supervisedTokens));
  if (tokens.flat().some((count) => count < 1)) {
    throw new RangeError("a sample without supervised tokens has no mean loss");
  }
  const sum = (counts: number[]) => counts.reduce((total, count) => total + count, 0);
  if (normalization === "token") {
    const total = sum(tokens.flat());
    return {
      window: tokens.map((counts) => counts.map(() => 1 / total)),
      microBatch: tokens.map((counts) => counts.map(() => 1 / sum(counts))),
    };
  }
  const microBatch = tokens.map((counts) => counts.map((count) => 1 / (counts.length * count)));
  return {
    window: microBatch.map((weights) => weights.map((weight) => weight / window.length)),
    microBatch,
  };
}

/** Supervised fine-tuning with one of the means. */
export class SupervisedFineTuning implements Objective {
  readonly scoredWith = [];
  readonly scoredBeside = null;
  readonly figures = [];

  constructor(readonly normalization: LossNormalization) {}

  weigh(window: AccumulationWindow): WeighedWindow {
    const weights = lossWeights(window, this.normalization);
    const losses = (sums: Float32Array): WindowLosses => ({
      loss: sums.subarray(0, window.length).reduce((sum, part) => sum + part, 0),
      // A token's weight differs between the window's loss and its micro-batch's by a factor.
      losses: window.map((_, slot) =>
        sums[slot] * weights.microBatch[slot][0] / weights.window[slot][0]
      ),
      figures: {},
    });
    return { weights: weights.window, losses };
  }
}
