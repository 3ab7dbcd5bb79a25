/**
 * Odds ratio preference optimisation (https://arxiv.org/abs/2403.07691): the chosen answer is learnt with its prompt, and its
 * odds are to lead those of the rejected one. There is no reference.
 *
 * @module
 */
import type { SampleGroup } from "../../model/text/prompt.ts";
import { promptLengthOf } from "../../model/text/targets.ts";
import type { AccumulationWindow } from "../planner.ts";
import { sigmoid, softplus } from "./logistic.ts";
import type { LogLikelihoods, Objective, WeighedWindow } from "./objective.ts";
import { judged, mean, type Pair, pairsOf, REWARD_FIGURES, rewardFigures } from "./preference.ts";

/** What decides it. */
export interface OrpoSettings {
  /** λ: the weight of the odds ratio's part. */
  beta: number;
}

/**
 * A pair with its prompt as a third sample, which has what is learnt of the prompt; the same pair where that is nothing.
 *
 * @param pair The chosen sample, and the rejected one.
 */
export function withPrompt(pair: SampleGroup): SampleGroup {
  const [chosen] = pair, { ids } = chosen, length = promptLengthOf(chosen);
  if (length < 2) return pair;
  const prompt = { ids: ids.slice(0, length), truncated: false, part: "prompt" } as const;
  return [...pair, { ...prompt, targets: [[1, length]] }];
}

/** An answer's mean log-likelihood p, the log of its odds exp(p) / (1 − exp(p)), and their slope along p. */
function oddsOf(logp: number): { logOdds: number; slope: number } {
  // A certain answer has no finite odds.
  const others = Math.max(-Math.expm1(logp), Number.EPSILON);
  return { logOdds: logp - Math.log(others), slope: 1 / others };
}

/** A pair's part of the loss that is the odds ratio's, and its slopes along the log-likelihoods of both sides. */
function oddsRatio({ chosen, rejected }: Pair, beta: number) {
  const [better, worse] = [chosen, rejected].map(({ scores: [policy], tokens }) => {
    const logp = policy / tokens, { logOdds, slope } = oddsOf(logp);
    return { logp, logOdds, slope: slope / tokens };
  });
  const lead = better.logOdds - worse.logOdds, fall = beta * sigmoid(-lead);
  return {
    loss: beta * softplus(-lead),
    slopes: { chosen: -fall * better.slope, rejected: fall * worse.slope },
    rewards: { chosen: beta * better.logp, rejected: beta * worse.logp },
    logps: { chosen: better.logp, rejected: worse.logp },
  };
}

/**
 * The loss of a micro-batch: the mean negative log-likelihood of all tokens of its chosen samples, prompts included as in the
 * authors' and TRL's implementations, and λ times the mean over its pairs of −log σ(log odds ratio) (eqs. 6 and 7).
 */
export class OddsRatioPreferenceOptimization implements Objective {
  readonly scoredWith = ["policy"] as const;
  readonly scoredBeside = null;
  readonly figures = [...REWARD_FIGURES, "nll_loss"] as const;

  constructor(readonly settings: OrpoSettings) {}

  weigh(window: AccumulationWindow, scores: readonly LogLikelihoods[]): WeighedWindow {
    const weights = window.map((samples) => new Array<number>(samples.length).fill(0));
    const found = judged(window, scores).map((samples, slot) => {
      const pairs = pairsOf(samples), share = 1 / window.length;
      const learnt = samples.filter(({ part }) => part !== "rejected");
      const tokens = learnt.reduce((sum, { tokens }) => sum + tokens, 0);
      const told = pairs.map((pair) => {
        const ratio = oddsRatio(pair, this.settings.beta), { chosen, rejected } = pair;
        weights[slot][chosen.index] = -ratio.slopes.chosen * share / pairs.length;
        weights[slot][rejected.index] = -ratio.slopes.rejected * share / pairs.length;
        return ratio;
      });
      for (const { index } of learnt) weights[slot][index] += share / tokens;
      const nll = learnt.reduce((sum, { scores: [policy] }) => sum - policy, 0) / tokens;
      return { told, nll, loss: nll + mean(told.map(({ loss }) => loss)) };
    });
    const losses = found.map(({ loss }) => loss);
    return {
      weights,
      losses: () => ({
        loss: mean(losses),
        losses,
        figures: {
          ...rewardFigures(found.flatMap(({ told }) => told)),
          nll_loss: mean(found.map(({ nll }) => nll)),
        },
      }),
    };
  }
}
