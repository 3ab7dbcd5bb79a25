/**
 * Optimizer steps, one after the other. The next step is recorded while the GPU works on the present one, so
 * that it never waits for the host.
 *
 * @module
 */
import type { Gpu } from "../kernels/gpu/gpu.ts";
import type { StepOptions, StepResult, Trainer, Window } from "./trainer.ts";

/** A step to be run. */
export interface Step extends StepOptions {
  window: Window;
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
 * Runs steps. Between two of them the caller has its turn.
 *
 * @param apart Whether the GPU must be idle, and the weights those of `step`, before `next` begins.
 */
export async function* runInTurn<S extends Step>(
  gpu: Gpu,
  trainer: Trainer,
  steps: Iterable<S>,
  apart: (step: S, next: S) => boolean = () => false,
): AsyncGenerator<StepDone<S>> {
  const queue = steps[Symbol.iterator]();
  const take = () => {
    const { value, done } = queue.next();
    return done ? undefined : value as S;
  };
  let step = take(), next = step && take(), began = performance.now();
  let recorded = step && trainer.record(gpu, step.window, step), long = true;
  while (step !== undefined) {
    let ahead: ReturnType<Trainer["record"]> | undefined;
    const result = await trainer.finish(gpu, recorded!, () => {
      if (next === undefined || long || apart(step!, next)) return;
      ahead = trainer.record(gpu, next.window, next);
    });
    const now = performance.now(), seconds = (now - began) / 1000;
    began = now;
    long = seconds > LONG;
    yield { step, result, seconds, next, idle: ahead === undefined };
    [step, next] = [next, next && take()];
    if (ahead === undefined) began = performance.now();
    recorded = ahead ?? (step && trainer.record(gpu, step.window, step));
  }
}
