/**
 * Metrics of a run as TensorBoard shows them: a scalar for each number of metrics.jsonl and evaluations.jsonl, and the
 * sample answers as texts.
 *
 * @module
 */
import type { FigureName } from "../objective/objective.ts";
import type { EvaluationLine, MetricsLine } from "./lines.ts";
import type { Scalars } from "./event.ts";

/** A number that JSON can't hold is null in a line. */
const number = (value: number | null) => value ?? NaN;

/** The figures of a line that an objective tells, after a tag's beginning. */
function figureScalars(
  line: MetricsLine | EvaluationLine,
  figures: readonly FigureName[],
  beginning: string,
): Scalars {
  return Object.fromEntries(figures.map((name) => [beginning + name, number(line[name] ?? null)]));
}

/**
 * The scalars of a step: `train/` and the names of metrics.jsonl, the throughput, and the memory.
 *
 * @param figures Those that the run's objective tells.
 */
export function stepScalars(
  line: MetricsLine,
  peakMemoryMb: number,
  figures: readonly FigureName[],
): Scalars {
  return {
    "train/loss": number(line.loss),
    "train/epoch": line.epoch,
    "train/learning_rate": line.learning_rate,
    "train/grad_norm": number(line.grad_norm),
    "train/loss_scale": line.loss_scale,
    "train/skipped": Number(line.skipped),
    "train/tokens": line.tokens,
    "train/seconds": line.seconds,
    "train/tokens_per_second": line.tokens / line.seconds,
    "train/peak_memory_mb": peakMemoryMb,
    ...figureScalars(line, figures, "train/"),
  };
}

/** The scalars of an evaluation. */
export function evaluationScalars(
  line: EvaluationLine,
  figures: readonly FigureName[],
): Scalars {
  return {
    "eval/loss": line.loss,
    "eval/perplexity": number(line.perplexity),
    "eval/tokens": line.tokens,
    "eval/seconds": line.seconds,
    ...figureScalars(line, figures, "eval/"),
  };
}

/** Text in Markdown as it is, its control characters included. */
function verbatim(text: string): string {
  return text.split("\n").map((line) => `    ${line}`).join("\n");
}

/** The answers of an evaluation as Markdown. */
export function evaluationTexts({ samples }: EvaluationLine): Record<string, string> {
  return Object.fromEntries(samples.map(({ prompt, answer, expected }, i) => {
    const parts = [["prompt", prompt], ["answer", answer]];
    if (expected !== undefined) parts.push(["expected", expected]);
    const text = parts.map(([name, text]) => `**${name}**\n\n${verbatim(text)}`).join("\n\n");
    return [`eval/sample_${i + 1}`, text];
  }));
}
