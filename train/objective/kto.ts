/**
 * Kahneman-Tversky optimisation (https://arxiv.org/abs/2402.01306): answers that are good or bad by themselves. Good ones are to
 * become likelier than the reference finds them, bad ones less likely, both by comparison with what answers to other prompts
 * gained.
 *
 * @module
 */
import { promptLengthOf } from "../../model/text/targets.ts";
import type { TokenizedSample } from "../../model/text/prompt.ts";
import type { AccumulationWindow } from "../planner.ts";
import { sigmoid } from "./logistic.ts";
import type { LogLikelihoods, Objective, WeighedWindow } from "./objective.ts";
import { judged, type JudgedSample, mean, REWARD_FIGURES } from "./preference.ts";

/** What decides it. */
export interface KtoSettings {
  beta: number;
  /** Weights of the losses of good and of bad answers. */
  desirable_weight: number;
  undesirable_weight: number;
  /** Tokens that a sample has at most. */
  max_length: number;
}

/** A prompt with the answer to another one, cut at so many tokens. */
function unrelated(
  prompt: TokenizedSample,
  answer: TokenizedSample,
  most: number,
): TokenizedSample {
  const begin = promptLengthOf(prompt), from = promptLengthOf(answer);
  const all = [...prompt.ids.subarray(0, begin), ...answer.ids.subarray(from)];
  const ids = Uint32Array.from(all.slice(0, most)), shift = begin - from;
  const targets = answer.targets.map(([first, end]) =>
    [first + shift, Math.min(end + shift, ids.length)] as const
  ).filter(([first, end]) => first < end);
  return { ids, targets, truncated: ids.length < all.length, part: answer.part };
}

/** An answer by what it gained. */
interface Gain {
  sample: JudgedSample;
  /** The policy's log-likelihood less the reference's. */
  ratio: number;
  loss: number;
  /** 1 where it is on the right side of the point of comparison, ½ on it. */
  right: number;
}

/**
 * With m the log ratio of an answer, and z the mean log ratio of the micro-batch's answers behind each other's prompts, at least
 * 0, the loss of a good answer is λ_D·(1 − σ(β·(m − z))), that of a bad one λ_U·(1 − σ(β·(z − m))) (eqs. 7 and 8). No gradient
 * goes through z. A reward is β·m; an answer counts as right where its loss is less than half its weight.
 */
export class KahnemanTverskyOptimization implements Objective {
  readonly scoredWith = ["policy", "reference"] as const;
  readonly figures = [...REWARD_FIGURES, "kl"] as const;
  readonly #beside = new WeakMap<AccumulationWindow, AccumulationWindow>();

  constructor(readonly settings: KtoSettings) {}

  /** Each micro-batch's prompts with the answers to the prompts before them, the first with the last one's. */
  scoredBeside(window: AccumulationWindow): AccumulationWindow {
    let beside = this.#beside.get(window);
    if (beside === undefined) {
      beside = window.map((samples) =>
        samples.map((prompt, i) =>
          unrelated(prompt, samples.at(i - 1) ?? prompt, this.settings.max_length)
        )
      );
      this.#beside.set(window, beside);
    }
    return beside;
  }

  weigh(window: AccumulationWindow, scores: readonly LogLikelihoods[]): WeighedWindow {
    const { beta, desirable_weight, undesirable_weight } = this.settings;
    const batches = judged([...window, ...this.scoredBeside(window)], scores);
    const weights = window.map((samples) => new Array<number>(samples.length).fill(0));
    const found = batches.slice(0, window.length).map((samples, slot) => {
      const beside = batches[window.length + slot];
      const kl = Math.max(
        0,
        mean(beside.map(({ scores: [policy, reference] }) => policy - reference)),
      );
      const gains = samples.map((sample): Gain => {
        const { part, index, scores: [policy, reference] } = sample, ratio = policy - reference;
        const [sign, weight] = part === "chosen" ? [1, desirable_weight] : [-1, undesirable_weight];
        const missed = sigmoid(-beta * sign * (ratio - kl)),
          share = 1 / (samples.length * window.length);
        weights[slot][index] = sign * weight * beta * missed * (1 - missed) * share;
        return {
          sample,
          ratio,
          loss: weight * missed,
          right: Number(missed < 0.5) + Number(missed === 0.5) / 2,
        };
      });
      return { kl, gains, loss: mean(gains.map(({ loss }) => loss)) };
    });
    const losses = found.map(({ loss }) => loss), gains = found.flatMap(({ gains }) => gains);
    const figures = { ...this.#figures(gains), kl: mean(found.map(({ kl }) => kl)) };
    return { weights, losses: () => ({ loss: mean(losses), losses, figures }) };
  }

  #figures(gains: readonly Gain[]) {
    const { beta } = this.settings;
    const of = (part: string, value: (gain: Gain) => number) =>
      mean(gains.filter(({ sample }) => sample.part === part).map(value));
    const reward = ({ ratio }: Gain) => beta * ratio;
    const logp = ({ sample: { scores: [policy] } }: Gain) => policy;
    const [chosen, rejected] = [of("chosen", reward), of("rejected", reward)];
    return {
      rewards_chosen: chosen,
      rewards_rejected: rejected,
      rewards_accuracies: mean(gains.map(({ right }) => right)),
      rewards_margins: chosen - rejected,
      logps_chosen: of("chosen", logp),
      logps_rejected: of("rejected", logp),
    };
  }
}
