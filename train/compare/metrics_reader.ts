/**
 * What the lines of metrics.jsonl and evaluations.jsonl add up to.
 *
 * @module
 */
import { readLines } from "../metrics/read_lines.ts";

/** What the steps of a run came to; null where there is no such number. */
export interface StepFigures {
  steps: number;
  first_loss: number | null;
  last_loss: number | null;
  best_loss: number | null;
  tokens: number;
  seconds: number;
  skipped_steps: number;
}

/** A field's number; null where it is none. */
const numberOf = (value: unknown): number | null =>
  typeof value === "number" && Number.isFinite(value) ? value : null;

/** Adds up metrics.jsonl. @throws {BrokenLine} with what was read before it as `figures`. */
export function readSteps(path: string, figures: StepFigures): void {
  for (const { step, ...fields } of readLines(path)) {
    const loss = numberOf(fields.loss);
    if (figures.steps === 0) figures.first_loss = loss;
    figures.steps = step;
    figures.last_loss = loss;
    figures.best_loss = least(figures.best_loss, loss);
    figures.tokens += numberOf(fields.tokens) ?? 0;
    figures.seconds += numberOf(fields.seconds) ?? 0;
    if (fields.skipped === true) figures.skipped_steps++;
  }
}

/** What the evaluations of a run came to. */
export interface EvaluationFigures {
  evaluations: number;
  last_eval_loss: number | null;
  best_eval_loss: number | null;
  /** That of the best. */
  perplexity: number | null;
  best_step: number | null;
}

/** Adds up evaluations.jsonl. @throws {BrokenLine} as {@linkcode readSteps} does. */
export function readEvaluations(path: string, figures: EvaluationFigures): void {
  for (const { step, ...fields } of readLines(path)) {
    const loss = numberOf(fields.loss);
    figures.evaluations++;
    figures.last_eval_loss = loss;
    if (loss === null || least(figures.best_eval_loss, loss) === figures.best_eval_loss) continue;
    figures.best_eval_loss = loss;
    figures.perplexity = numberOf(fields.perplexity);
    figures.best_step = step;
  }
}

function least(a: number | null, b: number | null): number | null {
  return a === null || b !== null && b < a ? b : a;
}
