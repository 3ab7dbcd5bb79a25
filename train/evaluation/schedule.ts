/**
 * When a run is evaluated on its held-out samples.
 *
 * @module
 */
import { countSteps, type StepPlan, stepsInEpoch } from "../data.ts";

/** What decides it. */
export interface EvaluationPlan {
  /** The run's steps. */
  plan: StepPlan;
  /** After every so many steps; 0 after every epoch. */
  eval_every: number;
}

/** Whether a run is evaluated after `step` of its steps: before the first, now and then, and after the last. */
export function isEvaluated({ plan, eval_every }: EvaluationPlan, step: number): boolean {
  const every = eval_every > 0 ? eval_every : stepsInEpoch(plan);
  return step % every === 0 || step === countSteps(plan);
}

/** How much of the epochs is done after a step, as `plannedSteps` has it. */
export function epochsAfter(plan: StepPlan, step: number): number {
  if (step === 0) return 0;
  const steps = stepsInEpoch(plan), index = (step - 1) % steps;
  return (step - 1 - index) / steps + (index + 1) / steps;
}

/** When an evaluation is made, for people: `after epoch 1`, or `after step 20`. */
export function evaluationTime({ plan, eval_every }: EvaluationPlan, step: number): string {
  if (step === 0) return "before";
  if (step === countSteps(plan)) return "after";
  const epochs = step / stepsInEpoch(plan);
  return eval_every === 0 && Number.isInteger(epochs)
    ? `after epoch ${epochs}`
    : `after step ${step}`;
}
