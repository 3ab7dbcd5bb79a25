/**
 * The loop over optimizer steps: run, write metrics, show progress, save, stop when asked to.
 *
 * @module
 */
import { join } from "node:path";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { ProgressBar } from "../cli/progress.ts";
import type { TokenizedSample } from "../model/text/prompt.ts";
import { countSteps, plannedSteps, type StepPlan, windowSamples } from "./data.ts";
import { Health } from "./health.ts";
import type { MetricsFile } from "./output.ts";
import { learningRate } from "./schedule.ts";
import type { Outcome } from "./outcome.ts";
import { type Progress, saveState } from "./state.ts";
import { runInTurn } from "./steps.ts";
import type { StopRequest } from "./stop_request.ts";
import type { Trainer } from "./trainer.ts";

/**
 * Runs the steps of `plan` after those in `start`. Of a run that fails, the state stays that was saved last.
 *
 * @param epochStart Called between epochs with the number of those done; may end early where `stop` asks.
 *   The state is saved where it throws.
 * @throws {UserError} where a loss is no number or steps are skipped in vain; see {@linkcode Health}.
 */
export async function runSteps(
  gpu: Gpu,
  trainer: Trainer,
  { plan, samples, start, metrics, stop, epochStart }: {
    plan: StepPlan;
    samples: readonly TokenizedSample[];
    start: Progress;
    metrics: MetricsFile;
    stop: StopRequest;
    epochStart: (epochsDone: number) => Promise<void>;
  },
): Promise<Outcome> {
  const { config } = trainer;
  const steps = countSteps(plan);
  const bar = new ProgressBar("Training", steps, start.step);
  const progress = { ...start };
  const outcome: Outcome = { progress, lastLoss: null, tokens: 0, seconds: 0, stopped: false };
  const health = new Health(config);
  const planned = function* () {
    let firstMicroBatch = start.microBatches;
    for (const { window, ...rest } of plannedSteps(plan, start.step)) {
      const rate = learningRate(config, rest.step, steps);
      yield {
        ...rest,
        window: windowSamples(window, samples),
        learningRate: rate,
        firstMicroBatch,
      };
      firstMicroBatch += window.length;
    }
  };
  const saves = (step: number) => config.save_every > 0 && step % config.save_every === 0;
  // What is saved, or evaluated between epochs, are the weights of that step.
  const apart = ({ step, epoch }: { step: number; epoch: number }, next: { epoch: number }) =>
    saves(step) || next.epoch > epoch || stop.requested;
  for await (const done of runInTurn(gpu, trainer, planned(), apart)) {
    const { step: { step, epoch, window, learningRate, ...planned }, result, seconds } = done;
    metrics.write({ step, epoch: planned.progress, learningRate, seconds, result });
    health.look(step, result);
    outcome.tokens += result.tokens;
    outcome.seconds += seconds;
    outcome.lastLoss = result.loss;
    progress.firstLoss ??= result.loss;
    progress.step = step;
    progress.microBatches += window.length;
    const speed = `${Math.round(outcome.tokens / outcome.seconds)} tokens/s`;
    bar.update(step, `loss ${result.loss.toFixed(4)}  ${speed}`);
    if (!done.idle) continue;
    const save = () => saveState(gpu, trainer, join(config.output, "state"), progress);
    const saved = saves(step);
    if (saved) await save();
    if (!stop.requested && done.next !== undefined && done.next.epoch > epoch) {
      try {
        await epochStart(done.next.epoch);
      } catch (error) {
        if (!saved) await save();
        throw error;
      }
    }
    // Also where that was asked for while the state was saved or the model evaluated.
    outcome.stopped = stop.requested;
    if (outcome.stopped && !saved) await save();
    if (outcome.stopped) return outcome;
  }
  health.finish(trainer.taken);
  return outcome;
}
