/**
 * The loss on samples that are held out, now and then in a run.
 *
 * @module
 */
import { printLine } from "../kernels/terminal.ts";
import { meanNll } from "../model/transformer/evaluate.ts";
import { NotFinite } from "../model/transformer/not_finite.ts";
import type { StopRequest } from "./stop_request.ts";
import type { Training } from "./training.ts";

/** Evaluates a model in training on its held-out samples, and prints the losses. */
export class Evaluation {
  constructor(readonly training: Training, readonly stop: StopRequest) {}

  /**
   * Evaluates, where anything is held out.
   *
   * @param when For people: `before`, `after epoch 1`.
   * @throws {Stopped} where that is asked for meanwhile, and {@linkcode NotFinite} for a loss that is no number.
   */
  async run(when: string): Promise<void> {
    const { gpu, trainer: { model }, setup: { evaluation }, progress } = this.training;
    if (evaluation.length === 0) return;
    try {
      const loss = await meanNll(gpu, model, evaluation, () => this.stop.check());
      progress.evaluations.push(loss);
      printLine(`Held-out loss ${when}: ${loss.toFixed(4)}`);
    } catch (error) {
      if (error instanceof NotFinite) error.message = `held-out ${error.message}`;
      throw error;
    }
  }
}
