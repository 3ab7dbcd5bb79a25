import assert from "node:assert/strict";
import type { TokenizedSample } from "../../model/text/prompt.ts";
import {
  accumulationWindows,
  countSteps,
  epochOrder,
  epochSamples,
  plannedSteps,
  splitEvaluation,
  type StepPlan,
} from "../../train/data.ts";
import { sharesOf } from "../../train/mixture.ts";
import { lossWeights } from "../../train/objective/sft.ts";
import { targetsAfter } from "../../model/text/targets.ts";

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

Deno.test("data: an order without shuffling is the data's own", () => {
  assert.deepEqual([...epochOrder(5, 3, 42, false)], [0, 1, 2, 3, 4]);
  assert.deepEqual([...epochOrder(0, 0, 42, true)], []);
});

Deno.test("data: a shuffled order is a permutation, another for each epoch and seed", () => {
  for (const count of [1, 7, 31, 257]) {
    assert.deepEqual([...epochOrder(count, 0, 42, true)].sort((a, b) => a - b), range(count));
  }
  const orders = [[0, 42], [1, 42], [0, 43], [0, 2 ** 32 - 1]].map(([epoch, seed]) =>
    epochOrder(100, epoch, seed, true).join()
  );
  assert.equal(new Set([...orders, range(100).join()]).size, 5);
});

Deno.test("data: a seed's order is the same on every machine", () => {
  assert.deepEqual([...epochOrder(10, 0, 42, true)], [6, 0, 3, 7, 4, 5, 2, 8, 9, 1]);
  assert.deepEqual([...epochOrder(10, 1, 42, true)], [2, 9, 6, 4, 5, 3, 0, 7, 8, 1]);
});

Deno.test("data: every position is equally likely for a sample", () => {
  const counts = range(5).map(() => new Array(5).fill(0));
  for (let epoch = 0; epoch < 5000; epoch++) {
    epochOrder(5, epoch, 1, true).forEach((sample, position) => counts[sample][position]++);
  }
  // 1000 ± 28 expected: five deviations.
  for (const count of counts.flat()) assert.ok(Math.abs(count - 1000) < 142, `${count}`);
});

Deno.test("data: the evaluation split is disjoint, complete and drawn by the seed", () => {
  const { train, evaluation } = splitEvaluation(200, 0.05, 42);
  assert.equal(evaluation.length, 10);
  assert.deepEqual([...train, ...evaluation].sort((a, b) => a - b), range(200));
  assert.deepEqual([...train], [...train].sort((a, b) => a - b));
  assert.deepEqual([...evaluation], [...evaluation].sort((a, b) => a - b));
  assert.deepEqual(splitEvaluation(200, 0.05, 42).evaluation, evaluation);
  assert.notDeepEqual(splitEvaluation(200, 0.05, 43).evaluation, evaluation);
});

Deno.test("data: the evaluation split at its edges", () => {
  assert.deepEqual([...splitEvaluation(3, 0, 42).train], [0, 1, 2]);
  assert.equal(splitEvaluation(3, 0.01, 42).evaluation.length, 1);
  assert.equal(splitEvaluation(1, 0.5, 42).train.length, 1);
  assert.equal(splitEvaluation(2, 0.5, 42).train.length, 1);
});

Deno.test("data: the last window and the last micro-batch may be short", () => {
  const windows = (order: number[], ...sizes: [number, number, number?]) => [
    ...accumulationWindows(Uint32Array.from(order), ...sizes),
  ];
  assert.deepEqual(windows(range(7), 2, 3), [[[0, 1], [2, 3], [4, 5]], [[6]]]);
  assert.deepEqual(windows(range(7), 2, 3, 1), [[[6]]]);
  assert.deepEqual(windows([3, 1, 2], 1, 2), [[[3], [1]], [[2]]]);
  assert.deepEqual(windows([], 2, 3), []);
});

const plan: StepPlan = {
  samples: Uint32Array.of(10, 11, 12, 13, 14, 15, 16),
  epochs: 3,
  batch_size: 2,
  gradient_accumulation_steps: 3,
  seed: 42,
  shuffle: true,
};

Deno.test("data: a run's steps visit every sample once an epoch", () => {
  const steps = [...plannedSteps(plan)];
  assert.deepEqual(steps.map(({ step }) => step), [1, 2, 3, 4, 5, 6]);
  assert.deepEqual(steps.map(({ epoch }) => epoch), [0, 0, 1, 1, 2, 2]);
  assert.deepEqual(steps.map(({ progress }) => progress), [0.5, 1, 1.5, 2, 2.5, 3]);
  for (const epoch of [0, 1, 2]) {
    const seen = steps.filter((step) => step.epoch === epoch).flatMap(({ window }) =>
      window.flat()
    );
    assert.deepEqual(seen.sort(), [10, 11, 12, 13, 14, 15, 16]);
  }
  assert.notDeepEqual(steps[0].window, steps[2].window);
});

Deno.test("data: steps resumed anywhere are those of a run from the start", () => {
  for (const variant of [plan, { ...plan, max_steps: 5 }, { ...plan, shuffle: false }]) {
    const all = [...plannedSteps(variant)];
    for (let done = 0; done <= all.length; done++) {
      assert.deepEqual([...plannedSteps(variant, done)], all.slice(done));
    }
  }
});

Deno.test("data: countSteps is the number of planned steps", () => {
  const variants: StepPlan[] = [
    plan,
    { ...plan, max_steps: 4 },
    { ...plan, max_steps: 100 },
    { ...plan, batch_size: 100 },
    { ...plan, batch_size: 1, gradient_accumulation_steps: 7 },
    { ...plan, batch_size: 1, gradient_accumulation_steps: 1 },
    { ...plan, samples: [] },
  ];
  for (const variant of variants) {
    assert.equal(countSteps(variant), [...plannedSteps(variant)].length);
  }
  assert.deepEqual(variants.slice(0, 3).map(countSteps), [6, 4, 6]);
});

/** A sample with so many masked and supervised tokens. */
const tokenized = (promptLength: number, supervised: number): TokenizedSample => ({
  ids: new Uint32Array(promptLength + supervised),
  targets: targetsAfter(promptLength, { length: promptLength + supervised }),
  truncated: false,
});

Deno.test("data: weights of normalization sample", () => {
  const window = [[tokenized(3, 4), tokenized(9, 1)], [tokenized(1, 5)]];
  const weights = lossWeights(window, "sample");
  assert.deepEqual(weights.microBatch, [[1 / 8, 1 / 2], [1 / 5]]);
  assert.deepEqual(weights.window, [[1 / 16, 1 / 4], [1 / 10]]);
});

Deno.test("data: weights of normalization token", () => {
  const window = [[tokenized(3, 4), tokenized(9, 1)], [tokenized(1, 5)]];
  const weights = lossWeights(window, "token");
  assert.deepEqual(weights.microBatch, [[1 / 5, 1 / 5], [1 / 5]]);
  assert.deepEqual(weights.window, [[1 / 10, 1 / 10], [1 / 10]]);
});

Deno.test("data: accumulating 8 batches of 1 weighs as one batch of 8", () => {
  const samples = range(8).map((i) => tokenized(2, 1 + i * 3));
  for (const normalization of ["sample", "token"] as const) {
    const accumulated = lossWeights(samples.map((sample) => [sample]), normalization);
    const batch = lossWeights([samples], normalization);
    assert.deepEqual(accumulated.window.flat(), batch.window.flat());
  }
});

Deno.test("data: a sample with nothing supervised has no weight to give", () => {
  assert.throws(() => lossWeights([[tokenized(3, 0)]], "sample"), RangeError);
});

Deno.test("data: a mixture's shares add up, by the largest remainders", () => {
  assert.deepEqual(sharesOf(10, [1, 1]), [5, 5]);
  assert.deepEqual(sharesOf(10, [2, 1]), [7, 3]);
  assert.deepEqual(sharesOf(10, [1, 1, 1]), [4, 3, 3]);
  assert.deepEqual(sharesOf(1001, [0.7, 0.2, 0.1]), [701, 200, 100]);
  assert.deepEqual(sharesOf(3, [1, 1e6]), [0, 3]);
});

/** Two files of 4 and 12 samples, of which the smaller has three quarters of every epoch. */
const mixed: StepPlan = {
  samples: range(16),
  mixture: [{ samples: range(4), weight: 3 }, {
    samples: range(12).map((i) => i + 4),
    weight: 1,
  }],
  epochs: 6,
  batch_size: 2,
  gradient_accumulation_steps: 2,
  seed: 42,
  shuffle: true,
};
const isSmall = (sample: number) => sample < 4;

for (const shuffle of [true, false]) {
  Deno.test(`data: a mixture has its shares in every epoch, shuffle ${shuffle}`, () => {
    const plan = { ...mixed, shuffle }, epochs = range(6).map((i) => [...epochSamples(plan, i)]);
    for (const epoch of epochs) assert.equal(epoch.filter(isSmall).length, 12);
    const small = epochs.flat().filter(isSmall), large = epochs.flat().filter((i) => !isSmall(i));
    // A file begins again once all of it was there, and goes on from epoch to epoch.
    for (let at = 0; at < small.length; at += 4) {
      assert.deepEqual(small.slice(at, at + 4).sort(), [0, 1, 2, 3]);
    }
    for (const at of [0, 12]) {
      const pass = large.slice(at, at + 12).sort((a, b) => a - b);
      assert.deepEqual(pass, range(12).map((i) => i + 4));
    }
    const passes = new Set(range(18).map((i) => small.slice(4 * i, 4 * i + 4).join()));
    assert.equal(passes.size > 5, shuffle);
    if (!shuffle) assert.deepEqual(epochs[0].map(isSmall).slice(0, 4), [true, true, false, true]);
  });
}

Deno.test("data: a mixture's steps resumed anywhere are those of a run from the start", () => {
  for (const plan of [mixed, { ...mixed, shuffle: false }, { ...mixed, max_steps: 9 }]) {
    const all = [...plannedSteps(plan)];
    assert.equal(countSteps(plan), all.length);
    for (let done = 0; done <= all.length; done++) {
      assert.deepEqual([...plannedSteps(plan, done)], all.slice(done));
    }
  }
});
