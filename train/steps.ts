/**
 * Optimizer steps, one after the other. The next step is recorded while the GPU works on the present one, so
 * that it never waits for the host, and the programs of the step after that one are compiled. Where an objective asks
 * for scores, the next step is recorded once the host has read them.
 *
 * @module
 */
import type { Gpu } from "../kernels/gpu/gpu.ts";
import type { AccumulationWindow } from "./planner.ts";
import type { RecordedStep, StepOptions, StepResult, Trainer } from "./trainer.ts";

/** A step to be run. */
export interface Step extends StepOptions {
  window: AccumulationWindow;
}

/** A step that was run. */
export interface StepDone<S extends Step> {
  step: S;
  result: StepResult;
  /** Seconds since the step before was done, or since this one was recorded where the GPU had nothing to do. */
  seconds: number;
  /** The step that follows, and whether the GPU waits for it: otherwise it is under way, and weights change. */
  next?: S;
  idle: boolean;
}

/** Seconds of a step that is long: after one, the host's part does not count, and a request to stop does. */
const LONG = 5;

/**
 * Runs steps, each recorded while the one before it is computed, and yields each when it is done.
 *
 * @param mustWait Whether the GPU must be idle, and the weights those of `step`, before `next` begins.
 */
export async function* pipelinedSteps<S extends Step>(
  gpu: Gpu,
  trainer: Trainer,
  steps: Iterable<S>,
  mustWait: (step: S, next: S) => boolean = () => false,
): AsyncGenerator<StepDone<S>> {
  const queue = steps[Symbol.iterator]();
  const nextStep = () => {
    const { value, done } = queue.next();
    return done ? undefined : value as S;
  };
  const record = async (step: S) =>
    trainer.record(gpu, step.window, step, await trainer.score(gpu, step.window, step));
  const waits = trainer.objective.scoredWith.length > 0;
  const step = nextStep();
  let next = step && nextStep(), later = next && nextStep(), began = performance.now();
  let current = step && { step, recorded: await record(step) }, long = true;
  while (current !== undefined) {
    const { step, recorded } = current;
    let ahead: RecordedStep | undefined, compiled: Promise<number> | undefined;
    const result = await trainer.finish(gpu, recorded, () => {
      if (next !== undefined && !long && !waits && !mustWait(step, next)) {
        ahead = trainer.record(gpu, next.window, next, []);
      }
      if (later !== undefined) compiled = trainer.precompile(gpu, [later.window]);
    });
    await compiled;
    const now = performance.now(), seconds = (now - began) / 1000;
    began = now;
    long = seconds > LONG;
    yield { step, result, seconds, next, idle: ahead === undefined };
    const following = next;
    [next, later] = [later, later && nextStep()];
    if (ahead === undefined) began = performance.now();
    current = following && {
      step: following,
      recorded: ahead ?? await record(following),
    };
  }
}
