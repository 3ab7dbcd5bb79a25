/** An objective whose weights depend on scores by both models: the seam's widest use. */
import type {
  LogLikelihoods,
  Objective,
  WeighedWindow,
} from "../../../train/objective/objective.ts";
import type { AccumulationWindow } from "../../../train/planner.ts";

/** Steepness: small, so that samples of tens of tokens are not in the flat ends. */
const BETA = 0.05;

/** Whether a sample is to become likelier than the reference finds it, or less likely. */
const sign = (index: number) => index % 2 === 0 ? 1 : -1;

/** log(1 + exp(−β·sign·margin)), the margin being the policy's log-likelihood less the reference's. */
export function lossOf(margin: number, index: number): number {
  return Math.log1p(Math.exp(-BETA * sign(index) * margin));
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** The mean over the window's samples of {@linkcode lossOf}. */
export class MarginObjective implements Objective {
  readonly scoredWith = ["policy", "reference"] as const;
  readonly scoredBeside = null;
  readonly figures = [];
  /** What the last window was weighed by and with, and the sums that its passes found. */
  scores: readonly LogLikelihoods[] = [];
  weights: number[][] = [];
  sums = new Float32Array();

  weigh(window: AccumulationWindow, scores: readonly LogLikelihoods[]): WeighedWindow {
    const [policy, reference] = this.scores = scores;
    const margins = window.map((samples, b) =>
      samples.map((_, i) => policy[b][i] - reference[b][i])
    );
    const losses = margins.map((margins) => margins.map(lossOf)), count = margins.flat().length;
    this.weights = margins.map((margins) =>
      margins.map((margin, i) => sign(i) * BETA / (1 + Math.exp(BETA * sign(i) * margin)) / count)
    );
    return {
      weights: this.weights,
      losses: (sums) => {
        this.sums = sums.slice(0, window.length);
        return { loss: mean(losses.flat()), losses: losses.map(mean), figures: {} };
      },
    };
  }
}
