/**
 * Simple preference optimisation (https://arxiv.org/abs/2405.14734): the mean log-likelihood of a chosen answer's tokens is to
 * lead that of the rejected one's by a margin. There is no reference.
 *
 * @module
 */
import type { AccumulationWindow } from "../planner.ts";
import { marginLoss } from "./margin_loss.ts";
import type { LogLikelihoods, Objective, WeighedWindow } from "./objective.ts";
import { type Pair, type PairLoss, REWARD_FIGURES, weighPairs } from "./preference.ts";

/** What decides it. */
export interface SimpoSettings {
  /** What rewards are multiplied by. */
  beta: number;
  /** γ: by how much the chosen reward is to lead. */
  simpo_gamma: number;
  label_smoothing: number;
  /** Whether log-likelihoods are means over an answer's tokens, as in the paper, or sums. */
  length_normalization: boolean;
}

/** The loss of a pair is −log σ(β·(p_chosen − p_rejected) − γ) with p the mean log-likelihood (eq. 6); a reward is β·p. */
export class SimplePreferenceOptimization implements Objective {
  readonly scoredWith = ["policy"] as const;
  readonly scoredBeside = null;
  readonly figures = REWARD_FIGURES;

  constructor(readonly settings: SimpoSettings) {}

  weigh(window: AccumulationWindow, scores: readonly LogLikelihoods[]): WeighedWindow {
    return weighPairs(window, scores, (pair) => this.#loss(pair));
  }

  #loss({ chosen, rejected }: Pair): PairLoss {
    const { beta, simpo_gamma, label_smoothing, length_normalization } = this.settings;
    const [better, worse] = [chosen, rejected].map(({ scores: [policy], tokens }) => {
      const factor = length_normalization ? 1 / tokens : 1;
      return { logp: policy * factor, factor };
    });
    const { loss, slope } = marginLoss(better.logp - worse.logp - simpo_gamma / beta, {
      loss_type: "sigmoid",
      beta,
      label_smoothing,
    });
    return {
      loss,
      slopes: { chosen: slope * better.factor, rejected: -slope * worse.factor },
      rewards: { chosen: beta * better.logp, rejected: beta * worse.logp },
      logps: { chosen: better.logp, rejected: worse.logp },
    };
  }
}
