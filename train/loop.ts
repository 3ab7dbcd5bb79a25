/**
 * The loop over optimizer steps: run, write metrics, show progress, save, stop when asked to.
 *
 * @module
 */
import { ProgressBar } from "../cli/progress.ts";
import { Health } from "./health.ts";
import type { Outcome } from "./outcome.ts";
import type { MetricsFile } from "./output.ts";
import type { StopRequest } from "./stop_request.ts";
import type { Training } from "./training.ts";

/**
 * Runs the steps still to be done. Of a run that fails, the state stays that was saved last.
 *
 * @param epochStart Called between epochs with the number of those done; may end early where `stop` asks.
 *   The state is saved where it throws.
 * @throws {UserError} where a loss is no number or steps are skipped in vain; see {@linkcode Health}.
 */
export async function runSteps(
  training: Training,
  { metrics, stop, epochStart }: {
    metrics: MetricsFile;
    stop: StopRequest;
    epochStart: (epochsDone: number) => Promise<void>;
  },
): Promise<Outcome> {
  const { progress, trainer, setup: { config } } = training;
  const bar = new ProgressBar("Training", training.total, progress.step);
  const outcome: Outcome = { progress, lastLoss: null, tokens: 0, seconds: 0, stopped: false };
  const health = new Health(config);
  const saves = (step: number) => config.save_every > 0 && step % config.save_every === 0;
  // What is saved, or evaluated between epochs, are the weights of that step.
  const mustWait = ({ step, epoch }: { step: number; epoch: number }, next: { epoch: number }) =>
    saves(step) || next.epoch > epoch || stop.requested;
  for await (const done of training.run(mustWait)) {
    const { step: { step, epoch, learningRate, progress: epochs }, result, seconds } = done;
    metrics.write({ step, epoch: epochs, learningRate, seconds, result });
    health.look(step, result);
    outcome.tokens += result.tokens;
    outcome.seconds += seconds;
    outcome.lastLoss = result.loss;
    const speed = `${Math.round(outcome.tokens / outcome.seconds)} tokens/s`;
    bar.update(step, `loss ${result.loss.toFixed(4)}  ${speed}`);
    if (!done.idle) continue;
    const saved = saves(step);
    if (saved) await training.saveState();
    if (!stop.requested && done.next !== undefined && done.next.epoch > epoch) {
      try {
        await epochStart(done.next.epoch);
      } catch (error) {
        if (!saved) await training.saveState();
        throw error;
      }
    }
    // Also where that was asked for while the state was saved or the model evaluated.
    outcome.stopped = stop.requested;
    if (outcome.stopped && !saved) await training.saveState();
    if (outcome.stopped) return outcome;
  }
  health.finish(trainer.stepsTaken);
  return outcome;
}
