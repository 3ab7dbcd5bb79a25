/**
 * What training minimises.
 *
 * The model computes sums of target weights times negative log-likelihoods, and their gradients. An objective says
 * which weights: these make its gradient, even where its loss is no such sum. A loss f(s) of a sample's
 * log-likelihood s has the gradient f'(s)·∂s, so its targets weigh −f'(s), and its value is f's own.
 *
 * @module
 */
import type { AccumulationWindow } from "../planner.ts";

/** Weights of supervised tokens, by micro-batch and sample; all tokens of a sample share one. */
export type TargetWeights = readonly (readonly number[])[];

/** The losses of a window. */
export interface WindowLosses {
  /** Of the whole window, whose gradient the optimizer step takes. */
  loss: number;
  /** Of each micro-batch by itself. */
  losses: number[];
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
  /** Weighs the targets of a window before its passes run. */
  weigh(window: AccumulationWindow): WeighedWindow;
}
