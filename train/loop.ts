/**
 * The loop over optimizer steps: run, write metrics, show progress, save, stop when asked to.
 *
 * @module
 */
import { ProgressBar } from "../cli/progress.ts";
import type { Health } from "./health.ts";
import type { LineFile, StepLine } from "./line_file.ts";
import type { StopRequest } from "./stop_request.ts";
import type { StepDone } from "./steps.ts";
import type { RunStep, Training } from "./training.ts";

/** The line of a step in metrics.jsonl. */
function metricsLine({ step, result, seconds }: StepDone<RunStep>): StepLine {
  const { loss, losses, gradNorm, lossScale, skipped, tokens } = result;
  return {
    step: step.step,
    epoch: step.progress,
    loss,
    losses,
    learning_rate: step.learningRate,
    grad_norm: gradNorm,
    loss_scale: lossScale,
    skipped,
    tokens,
    seconds,
  };
}

/**
 * Runs the steps still to be done. Of a run that fails, the states stay that were saved. States are written while later
 * steps run; a stopped run's is written when this returns.
 *
 * @param epochStart Called between epochs with the number of those done; may end early where `stop` asks.
 *   The state is saved where it throws.
 * @throws {Diverged} where the run gets nowhere; see {@linkcode Health}.
 */
export async function runSteps(
  training: Training,
  { metrics, stop, health, epochStart }: {
    metrics: LineFile;
    stop: StopRequest;
    health: Health;
    epochStart: (epochsDone: number) => Promise<void>;
  },
): Promise<{ stopped: boolean }> {
  const { progress, trainer, setup: { config } } = training;
  const bar = new ProgressBar("Training", training.total, progress.step);
  // A state that was put off is saved as soon as the run looks well again.
  let putOff = false, last: StepDone<RunStep> | undefined;
  const saves = (step: number) =>
    putOff || (config.save_every > 0 && step % config.save_every === 0);
  // What is saved, or evaluated between epochs, are the weights of that step.
  const mustWait = ({ step, epoch }: { step: number; epoch: number }, next: { epoch: number }) =>
    saves(step) || next.epoch > epoch || stop.requested;
  for await (const done of training.run(mustWait)) {
    const { step: { step, epoch }, result } = done;
    metrics.write(metricsLine(done));
    health.look(step, result);
    last = done;
    if (training.saveFailure !== undefined) throw training.saveFailure;
    const speed = `${Math.round(progress.tokens / progress.seconds)} tokens/s`;
    bar.update(step, `loss ${result.loss.toFixed(4)}  ${speed}`);
    if (!done.idle) continue;
    const due = saves(step);
    putOff = due && health.doubtful;
    if (due && !putOff) await training.saveState();
    if (!stop.requested && done.next !== undefined && done.next.epoch > epoch) {
      try {
        await epochStart(done.next.epoch);
      } catch (error) {
        await training.saveState();
        await training.saved();
        throw error;
      }
    }
    // Also where that was asked for while the state was saved or the model evaluated.
    if (!stop.requested) continue;
    await training.saveState();
    await training.saved();
    return { stopped: true };
  }
  health.finish(trainer.stepsTaken, last);
  return { stopped: false };
}
