/**
 * The lines of metrics.jsonl and evaluations.jsonl.
 *
 * @module
 */
import type { EvaluationResult } from "../evaluation/history.ts";
import type { FigureName } from "../objective/objective.ts";

/**
 * A line of metrics.jsonl; a number that JSON can't hold (NaN, infinity) is null. With an objective of preferences, its figures
 * are some of the fields.
 */
export interface MetricsLine extends Partial<Record<FigureName, number | null>> {
  /** Optimizer steps done, this one included. */
  step: number;
  /** How much of the epochs is done: 1.5 is the middle of the second. */
  epoch: number;
  loss: number | null;
  /** The loss of each micro-batch. */
  losses: readonly (number | null)[];
  learning_rate: number;
  /** Norm of the gradients before clipping. */
  grad_norm: number | null;
  loss_scale: number;
  /** Whether the update was left out because a gradient was not finite. */
  skipped: boolean;
  tokens: number;
  seconds: number;
}

/** A line of evaluations.jsonl. */
export type EvaluationLine = EvaluationResult;

/** The fields of a line of metrics.jsonl that are one value each, in order. */
export const STEP_FIELDS = [
  "step",
  "epoch",
  "loss",
  "learning_rate",
  "grad_norm",
  "loss_scale",
  "skipped",
  "tokens",
  "seconds",
] as const satisfies readonly (keyof MetricsLine)[];

/** Those of evaluations.jsonl. */
export const EVALUATION_FIELDS = [
  "step",
  "epoch",
  "loss",
  "perplexity",
  "tokens",
  "seconds",
] as const satisfies readonly (keyof EvaluationLine)[];
