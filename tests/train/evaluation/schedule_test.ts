/** When a run is evaluated, and what its evaluations come to. */
import assert from "node:assert/strict";
import { plannedSteps, type StepPlan } from "../../../train/data.ts";
import { EvaluationHistory } from "../../../train/evaluation/history.ts";
import { epochsAfter, evaluationTime, isEvaluated } from "../../../train/evaluation/schedule.ts";

/** Three epochs of seven micro-batches, three a step: three steps an epoch. */
const PLAN: StepPlan = {
  samples: [...Array(13).keys()],
  epochs: 3,
  batch_size: 2,
  gradient_accumulation_steps: 3,
  seed: 1,
  shuffle: true,
};

const timesOf = (plan: StepPlan, eval_every: number) =>
  [0, ...Array.from(plannedSteps(plan), ({ step }) => step)]
    .filter((step) => isEvaluated({ plan, eval_every }, step))
    .map((step) => evaluationTime({ plan, eval_every }, step));

Deno.test("evaluations: after every epoch, or every so many steps, and at both ends", () => {
  assert.deepEqual(timesOf(PLAN, 0), ["before", "after epoch 1", "after epoch 2", "after"]);
  assert.deepEqual(timesOf({ ...PLAN, max_steps: 5 }, 0), ["before", "after epoch 1", "after"]);
  assert.deepEqual(timesOf({ ...PLAN, max_steps: 2 }, 0), ["before", "after"]);
  const steps = (...numbers: number[]) => numbers.map((step) => `after step ${step}`);
  assert.deepEqual(timesOf(PLAN, 4), ["before", ...steps(4, 8), "after"]);
  assert.deepEqual(timesOf(PLAN, 3), ["before", ...steps(3, 6), "after"]);
  assert.deepEqual(timesOf(PLAN, 100), ["before", "after"]);
});

Deno.test("evaluations: the epoch of a step is the one of its line in metrics.jsonl", () => {
  assert.equal(epochsAfter(PLAN, 0), 0);
  for (const { step, progress } of plannedSteps(PLAN)) {
    assert.equal(epochsAfter(PLAN, step), progress);
  }
});

/** A history of these losses, one a step from 0 on, and the steps after which it asks for the run's end. */
function historyOf(losses: number[], early_stopping: number, early_stopping_min_delta = 0) {
  const history = new EvaluationHistory({ early_stopping, early_stopping_min_delta });
  const best: number[] = [], exhausted: number[] = [];
  losses.forEach((loss, step) => {
    const result = { step, epoch: step, loss, perplexity: 1, tokens: 1, seconds: 1, samples: [] };
    if (history.add(result)) best.push(step);
    if (history.exhausted) exhausted.push(step);
  });
  return { history, best, exhausted };
}

Deno.test("evaluations: the best is the first of the lowest after a step", () => {
  const { history, best } = historyOf([1, 3, 2, 2, 4, 1.5, 1.5], 0);
  assert.deepEqual(best, [1, 2, 5]);
  assert.equal(history.best?.step, 5);
  assert.deepEqual(history.losses, [1, 3, 2, 2, 4, 1.5, 1.5]);
  assert.equal(history.after(4)?.loss, 4);
  assert.equal(history.after(7), undefined);
  assert.equal(historyOf([1], 0).history.best, undefined);
});

Deno.test("evaluations: patience counts evaluations in a row, and differences that are too small", () => {
  assert.deepEqual(historyOf([3, 2, 2, 1, 1, 1], 2).exhausted, [5]);
  assert.deepEqual(historyOf([3, 2, 2, 1, 1, 1], 0).exhausted, []);
  // Small steps down add up: each is compared with the loss that counted last.
  assert.deepEqual(historyOf([3, 2.75, 2.25, 2, 1.5], 2, 0.5).exhausted, []);
  assert.deepEqual(historyOf([3, 2.5, 2.25, 2, 1.5], 1, 0.5).exhausted, [1, 3]);
  assert.deepEqual(historyOf([1, 2], 1).exhausted, [1]);
  const { history } = historyOf([1, 2, 2, 2], 3, 0.125);
  assert.equal(
    history.reason,
    "the held-out loss did not fall by more than 0.125 in 3 evaluations in a row",
  );
  assert.match(historyOf([1, 2], 1).history.reason, /did not fall in the last evaluation$/);
});
