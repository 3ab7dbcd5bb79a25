/**
 * What training minimises.
 *
 * The model computes sums of target weights times negative log-likelihoods, and their gradients. An objective says
 * which weights: these make its gradient, even where its loss is no such sum. A loss f(s) of a sample's
 * log-likelihood s has the gradient f'(s)·∂s, so its targets weigh −f'(s), and its value is f's own. An objective
 * whose weights depend on log-likelihoods names the models that it wants them of; they are computed first.
 *
 * @module
 */
import type { AccumulationWindow } from "../planner.ts";

/** Weights of supervised tokens, by micro-batch and sample; all tokens of a sample share one. */
export type TargetWeights = readonly (readonly number[])[];

/**
 * A model that samples are scored with: the `policy` is the model in training, with the dropout of the pass whose
 * gradients are taken; the `reference` is the same model with its adapter off.
 */
export type ScoredModel = "policy" | "reference";

/** Log-likelihoods of samples: sums over their supervised tokens, in nats, by micro-batch and sample. */
export type LogLikelihoods = readonly (readonly number[])[];

/**
 * What objectives of preferences tell of a window beside its loss, under the names that TRL has for it: rewards of chosen and of
 * rejected answers, how often they are in order and by how much they differ, log-likelihoods, ORPO's loss on chosen answers, and
 * KTO's point of comparison.
 */
export type FigureName =
  | "rewards_chosen"
  | "rewards_rejected"
  | "rewards_accuracies"
  | "rewards_margins"
  | "logps_chosen"
  | "logps_rejected"
  | "nll_loss"
  | "kl";

/** Figures by name; NaN where a window has nothing of the kind. */
export type Figures = Readonly<Partial<Record<FigureName, number>>>;

/** The losses of a window. */
export interface WindowLosses {
  /** Of the whole window, whose gradient the optimizer step takes. */
  loss: number;
  /** Of each micro-batch by itself. */
  losses: number[];
  /** The objective's `figures`. */
  figures: Figures;
}

/** A window's weights, and what its losses are. */
export interface WeighedWindow {
  weights: TargetWeights;
  /**
   * @param sums Of weight times negative log-likelihood over the targets of each micro-batch; there may be more.
   */
  losses(sums: Float32Array): WindowLosses;
}

/** What is minimised. */
export interface Objective {
  /** The models that score a window before it is weighed. Each costs a forward pass over the window. */
  readonly scoredWith: readonly ScoredModel[];
  /** Names of what it tells of a window beside its loss. */
  readonly figures: readonly FigureName[];
  /**
   * Samples that are scored beside those of a window and not trained on, one for each; null where there are none. They are the
   * same object for the same window.
   */
  readonly scoredBeside: ((window: AccumulationWindow) => AccumulationWindow) | null;
  /**
   * Weighs the targets of a window before the passes run that take its gradients.
   *
   * @param scores Of each model of `scoredWith`, in its order: those of the window's micro-batches, and then those of the
   *   samples that are scored beside it.
   */
  weigh(window: AccumulationWindow, scores: readonly LogLikelihoods[]): WeighedWindow;
}
