/**
 * What objectives of preferences have in common: the samples of a window by what they are to a preference, and the
 * figures that are told of them.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import {
  type PreferencePart,
  supervisedTokens,
  type TokenizedSample,
} from "../../model/text/prompt.ts";
import type { AccumulationWindow } from "../planner.ts";
import type { Figures, LogLikelihoods, WeighedWindow } from "./objective.ts";

/** What the figures of every preference are called: rewards of both sides, how often they are in order, and by how much. */
export const REWARD_FIGURES = [
  "rewards_chosen",
  "rewards_rejected",
  "rewards_accuracies",
  "rewards_margins",
  "logps_chosen",
  "logps_rejected",
] as const;

/** A sample of a micro-batch with its log-likelihoods. */
export interface JudgedSample {
  sample: TokenizedSample;
  part: PreferencePart;
  /** Its place in the micro-batch. */
  index: number;
  /** Its supervised tokens. */
  tokens: number;
  /** Σ log p over them by each model that it was scored with, in nats. */
  scores: readonly number[];
}

/** Two answers to one prompt, the better one first. */
export interface Pair {
  chosen: JudgedSample;
  rejected: JudgedSample;
}

/** What a sample is to a preference. @throws {Error} for one that is none. */
function partOf({ part }: TokenizedSample): PreferencePart {
  return present(part, "a sample's part in a preference");
}

/** The samples of each micro-batch with their log-likelihoods. */
export function judged(
  window: AccumulationWindow,
  scores: readonly LogLikelihoods[],
): JudgedSample[][] {
  return window.map((samples, slot) =>
    samples.map((sample, index) => ({
      sample,
      part: partOf(sample),
      index,
      tokens: supervisedTokens(sample),
      scores: scores.map((model) => model[slot][index]),
    }))
  );
}

/** The pairs of a micro-batch: each chosen sample with the rejected one after it. */
export function pairsOf(samples: readonly JudgedSample[]): Pair[] {
  const pairs: Pair[] = [];
  for (const [i, chosen] of samples.entries()) {
    if (chosen.part !== "chosen") continue;
    const rejected = samples[i + 1];
    if (rejected?.part !== "rejected") throw new Error("a chosen sample without its rejected one");
    pairs.push({ chosen, rejected });
  }
  return pairs;
}

/** The mean; NaN of nothing. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** What is told of a pair. */
export interface PairRewards {
  rewards: { chosen: number; rejected: number };
  /** Log-likelihoods by the policy, as the objective takes them. */
  logps: { chosen: number; rejected: number };
}

/**
 * The figures of pairs: means over all of them. A pair whose rewards are equal, as all are before DPO's first step, is half right;
 * TRL has it wrong.
 */
export function rewardFigures(pairs: readonly PairRewards[]): Figures {
  const of = (value: (pair: PairRewards) => number) => mean(pairs.map(value));
  return {
    rewards_chosen: of(({ rewards }) => rewards.chosen),
    rewards_rejected: of(({ rewards }) => rewards.rejected),
    rewards_accuracies: of(({ rewards: { chosen, rejected } }) =>
      Number(chosen > rejected) + Number(chosen === rejected) / 2
    ),
    rewards_margins: of(({ rewards }) => rewards.chosen - rewards.rejected),
    logps_chosen: of(({ logps }) => logps.chosen),
    logps_rejected: of(({ logps }) => logps.rejected),
  };
}

/** A pair's loss, and its slopes along the log-likelihoods of both sides by the policy. */
export interface PairLoss extends PairRewards {
  loss: number;
  slopes: { chosen: number; rejected: number };
}

/**
 * A window whose loss is the mean over its micro-batches of the mean over their pairs. Targets weigh what the loss falls by
 * as their log-likelihood rises.
 */
export function weighPairs(
  window: AccumulationWindow,
  scores: readonly LogLikelihoods[],
  lossOf: (pair: Pair) => PairLoss,
): WeighedWindow {
  const weights = window.map((samples) => new Array<number>(samples.length).fill(0));
  const found = judged(window, scores).map((samples, slot) => {
    const pairs = pairsOf(samples);
    return pairs.map((pair) => {
      const told = lossOf(pair), share = 1 / (pairs.length * window.length);
      weights[slot][pair.chosen.index] = -told.slopes.chosen * share;
      weights[slot][pair.rejected.index] = -told.slopes.rejected * share;
      return told;
    });
  });
  const losses = found.map((pairs) => mean(pairs.map(({ loss }) => loss)));
  return {
    weights,
    losses: () => ({ loss: mean(losses), losses, figures: rewardFigures(found.flat()) }),
  };
}
