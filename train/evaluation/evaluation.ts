/**
 * The loss on samples that are held out, and answers to prompts, now and then in a run.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { printLine } from "../../kernels/terminal.ts";
import type { Engine } from "../../model/engine/engine.ts";
import { eachSample, type SampleList } from "../../model/text/data/sample_list.ts";
import { supervisedTokens } from "../../model/text/prompt.ts";
import { NotFinite } from "../../model/transformer/not_finite.ts";
import { describeAnswer, type EvaluationPrompts } from "./evaluation_prompts.ts";
import { type EvaluationHistory, type EvaluationResult, recordOf } from "./history.ts";
import { describeFigures } from "../objective/describe.ts";
import type { Trainer } from "../trainer.ts";
import { measureHeldOut } from "./measure.ts";
import { epochsAfter, type EvaluationPlan, evaluationTime, isEvaluated } from "./schedule.ts";

/** What is evaluated, with what, and who is told. */
export interface EvaluationParts {
  gpu: Gpu;
  /** The model in training. */
  trainer: Trainer;
  /** Held-out samples; with none, nothing is ever evaluated. */
  samples: SampleList;
  /** What is answered, and by what. */
  answering?: { prompts: EvaluationPrompts; engine: Engine };
  plan: EvaluationPlan;
  /** The evaluations so far. */
  history: EvaluationHistory;
  /** Called now and then; may throw to leave an evaluation, of which nothing is kept then. */
  check: () => void;
  /** Told each result; the weights are still those of its step. `isBest`: no loss before was as low. */
  done: (result: EvaluationResult, isBest: boolean) => Promise<void>;
}

/** Targets of all samples. */
function countTargets(samples: SampleList): number {
  let targets = 0;
  for (const sample of eachSample(samples)) targets += supervisedTokens(sample);
  return targets;
}

/** The evaluations of a run. */
export class Evaluation {
  readonly #parts: EvaluationParts;
  /** Targets of all samples, once they were counted. */
  #tokens?: number;

  constructor(parts: EvaluationParts) {
    this.#parts = parts;
  }

  get history(): EvaluationHistory {
    return this.#parts.history;
  }

  /** Whether an evaluation after `step` steps is still to be made. Where there was none yet, there is one. */
  isDue(step: number): boolean {
    const { samples, plan, history } = this.#parts;
    if (samples.length === 0 || history.after(step) !== undefined) return false;
    return history.isEmpty || isEvaluated(plan, step);
  }

  /**
   * Evaluates where that is due, prints what it found, and tells it.
   *
   * @param step Steps done.
   * @throws {NotFinite} for a loss that is no number, and what `check` throws.
   */
  async run(step: number): Promise<void> {
    if (!this.isDue(step)) return;
    const { history, plan, done } = this.#parts;
    const result = { step, epoch: epochsAfter(plan.plan, step), ...await this.#measure() };
    const { loss, perplexity, samples } = result, when = evaluationTime(plan, step);
    const others = describeFigures(result) ??
      `perplexity ${(perplexity ?? Infinity).toPrecision(4)}`;
    const words = `Held-out loss ${when}: ${loss.toFixed(4)}, ${others}`;
    printLine([words, ...samples.map(describeAnswer)].join("\n"));
    await done(result, history.add(recordOf(result)));
  }

  async #measure(): Promise<Omit<EvaluationResult, "step" | "epoch">> {
    const { gpu, trainer, samples, answering, check } = this.#parts, began = performance.now();
    try {
      const { loss, perplexity, figures } = await measureHeldOut(gpu, trainer, samples, check);
      const tokens = this.#tokens ??= countTargets(samples);
      const answers = await answering?.prompts.answers(gpu, answering.engine, check) ?? [];
      const seconds = (performance.now() - began) / 1000;
      return { loss, perplexity, tokens, seconds, ...figures, samples: answers };
    } catch (error) {
      if (error instanceof NotFinite) error.message = `held-out ${error.message}`;
      throw error;
    }
  }
}
