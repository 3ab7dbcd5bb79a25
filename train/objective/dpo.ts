/**
 * Direct preference optimisation (https://arxiv.org/abs/2305.18290): how much likelier than the reference the model finds the
 * chosen answer is to lead how much likelier it finds the rejected one.
 *
 * @module
 */
import type { AccumulationWindow } from "../planner.ts";
import { marginLoss, type MarginSettings } from "./margin_loss.ts";
import type { LogLikelihoods, Objective, WeighedWindow } from "./objective.ts";
import { type Pair, type PairLoss, REWARD_FIGURES, weighPairs } from "./preference.ts";

/** What decides it. */
export interface DpoSettings extends MarginSettings {
  /** Whether log ratios are means over an answer's tokens instead of sums. */
  length_normalization: boolean;
}

/**
 * With s the policy's and r the reference's log-likelihood of an answer, its log ratio is s − r, and the margin of a pair the
 * difference of its two log ratios. A reward is β·(s − r).
 */
export class DirectPreferenceOptimization implements Objective {
  readonly scoredWith = ["policy", "reference"] as const;
  readonly scoredBeside = null;
  readonly figures = REWARD_FIGURES;

  constructor(readonly settings: DpoSettings) {}

  weigh(window: AccumulationWindow, scores: readonly LogLikelihoods[]): WeighedWindow {
    return weighPairs(window, scores, (pair) => this.#loss(pair));
  }

  #loss({ chosen, rejected }: Pair): PairLoss {
    const { beta, length_normalization } = this.settings;
    const sides = [chosen, rejected].map(({ scores: [policy, reference], tokens }) => {
      const factor = length_normalization ? 1 / tokens : 1;
      return { policy, ratio: policy - reference, factor };
    });
    const [better, worse] = sides;
    const margin = better.ratio * better.factor - worse.ratio * worse.factor;
    const { loss, slope } = marginLoss(margin, this.settings);
    return {
      loss,
      slopes: { chosen: slope * better.factor, rejected: -slope * worse.factor },
      rewards: { chosen: beta * better.ratio, rejected: beta * worse.ratio },
      logps: { chosen: better.policy, rejected: worse.policy },
    };
  }
}
