/**
 * The loop over optimizer steps: run, write metrics, show progress, save, stop when asked to.
 *
 * @module
 */
import { ProgressBar } from "../cli/progress.ts";
import { noteLine } from "../kernels/terminal.ts";
import type { Evaluation } from "./evaluation/evaluation.ts";
import type { Health } from "./health.ts";
import type { MetricsLine } from "./metrics/lines.ts";
import type { MetricsFiles } from "./metrics/metrics_files.ts";
import { describeFigures } from "./objective/describe.ts";
import { StateKeeping } from "./state_keeping.ts";
import { Stopped, type StopRequest } from "./run/stop_request.ts";
import type { StepDone } from "./steps.ts";
import type { RunStep, Training } from "./training.ts";

/** The line of a step in metrics.jsonl. */
function metricsLine({ step, result, seconds }: StepDone<RunStep>): MetricsLine {
  const { loss, losses, gradNorm, lossScale, skipped, tokens, figures } = result;
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
    ...figures,
  };
}

/**
 * Runs the steps still to be done. Of a run that fails, the states stay that were saved. States are written while later
 * steps run; a stopped run's is written when this returns.
 *
 * Evaluations are made between steps; the state is saved where one throws, or is asked to stop.
 *
 * @returns Whether somebody asked to stop. A run that its evaluations end early has done its steps.
 * @throws {Diverged} where the run gets nowhere; see {@linkcode Health}.
 */
export async function runSteps(
  training: Training,
  { metrics, stop, health, evaluation }: {
    metrics: MetricsFiles;
    stop: StopRequest;
    health: Health;
    evaluation: Evaluation;
  },
): Promise<{ stopped: boolean }> {
  const { progress, trainer } = training;
  const bar = new ProgressBar("Training", training.total, progress.step);
  const states = new StateKeeping(training);
  let last: StepDone<RunStep> | undefined;
  // What is saved, or evaluated, are the weights of that step.
  const mustWait = ({ step }: { step: number }) =>
    states.isDue(step) || evaluation.isDue(step) || stop.requested;
  // Where it goes on, a run may have come to its end in the evaluation after the state.
  if (evaluation.history.exhausted) return { stopped: false };
  for await (const done of training.run(mustWait)) {
    const { step: { step }, result } = done;
    metrics.step(metricsLine(done));
    health.look(step, result);
    last = done;
    states.look();
    const speed = `${Math.round(progress.tokens / progress.seconds)} tokens/s`;
    const loss = [`loss ${result.loss.toFixed(4)}`, describeFigures(result.figures)];
    bar.update(step, [...loss.filter((part) => part !== undefined), speed].join("  "));
    if (!done.idle) continue;
    await states.keep(step, health.doubtful);
    if (!stop.requested && done.next !== undefined && evaluation.isDue(step)) {
      bar.endLine();
      try {
        await evaluation.run(step);
      } catch (error) {
        if (!(error instanceof Stopped)) {
          await states.keepNow().catch(({ message }) => noteLine(message));
          throw error;
        }
      }
    }
    // Also where that was asked for while the state was saved or the model evaluated.
    if (!stop.requested) {
      if (evaluation.history.exhausted) break;
      continue;
    }
    await states.keepNow();
    return { stopped: true };
  }
  health.finish(trainer.stepsTaken, last);
  return { stopped: false };
}
