import assert from "node:assert/strict";
import { plannedSteps, type StepPlan, windowSamples } from "../../train/data.ts";
import { PassPlanner, type RunSizes } from "../../train/planner.ts";
import { type WindowPlan, windowSizes } from "../../train/window_sizes.ts";
import type { TokenizedSample } from "../../model/text/prompt.ts";
import { targetsAfter } from "../../model/text/targets.ts";

/** A generator of whole numbers below a bound, the same every time (Numerical Recipes' LCG). */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
}

function sample(length: number, promptLength: number): TokenizedSample {
  const ids = Uint32Array.from({ length }, (_, i) => i % 7);
  return { ids, targets: targetsAfter(promptLength, ids), truncated: false };
}

function randomPlan(random: (below: number) => number): WindowPlan {
  // Rows of one sample, or pairs, or pairs with their prompts.
  const size = 1 + random(3);
  const samples = Array.from({ length: 1 + random(30) }, () =>
    Array.from({ length: size }, () => {
      const length = 2 + random(40);
      return sample(length, 1 + random(length - 1));
    }));
  const plan: StepPlan = {
    samples: samples.map((_, i) => i).slice(random(2)).concat(0),
    epochs: 1 + random(4),
    max_steps: random(2) === 0 ? undefined : 1 + random(20),
    batch_size: 1 + random(5),
    gradient_accumulation_steps: 1 + random(4),
    seed: random(1000),
    shuffle: random(3) > 0,
  };
  const settings = { packing: random(2) === 0, share_prefixes: random(2) === 0 };
  const planner = new PassPlanner(settings);
  return {
    config: { ...plan, ...settings },
    plan,
    planner,
    samples,
    objective: { scoredBeside: null },
  };
}

/** The sizes over every window, one by one. */
function exactSizes({ plan, planner, samples }: WindowPlan): RunSizes {
  const steps = [...plannedSteps(plan)];
  return planner.sizes(steps.map(({ window }) => windowSamples(window, samples)));
}

Deno.test("window sizes are those of every window of every epoch, packed or not", () => {
  const random = numbers(7);
  for (let i = 0; i < 300; i++) {
    const plan = randomPlan(random);
    assert.deepEqual(windowSizes(plan), exactSizes(plan), JSON.stringify(plan.plan));
  }
});

Deno.test("window sizes of more epochs than can be looked at exceed those of any order", () => {
  const random = numbers(9);
  for (let i = 0; i < 40; i++) {
    const plan = randomPlan(random), { config, samples } = plan;
    const long = { ...plan, plan: { ...plan.plan, epochs: 1e9, max_steps: undefined } };
    const bound = windowSizes({ ...long, config: { ...config, shuffle: true, batch_size: 2 } });
    const exact = exactSizes({
      ...plan,
      plan: { ...plan.plan, max_steps: undefined, shuffle: true, batch_size: 2 },
    });
    for (const key of ["maxTokens", "maxTargets", "maxPosition", "maxSamples"] as const) {
      assert.ok((bound[key] ?? 0) >= (exact[key] ?? 0), `${key} of ${samples.length} samples`);
    }
  }
});

Deno.test("window sizes of 20,000 epochs are found at once", () => {
  const samples = Array.from({ length: 600 }, (_, i) => [sample(20 + i % 90, 10)]);
  for (const packing of [false, true]) {
    const plan: StepPlan = {
      samples: samples.map((_, i) => i),
      epochs: 20_000,
      batch_size: 2,
      gradient_accumulation_steps: 4,
      seed: 1,
      shuffle: true,
    };
    const planner = new PassPlanner({ packing, share_prefixes: true });
    const began = performance.now();
    const { maxSamples } = windowSizes({
      config: { ...plan, packing },
      plan,
      planner,
      samples,
      objective: { scoredBeside: null },
    });
    const last = plannedSteps(plan, 20_000 * 75 - 1).next().value;
    assert.ok(performance.now() - began < 2000);
    assert.deepEqual([maxSamples, last?.step, last?.progress], [8, 20_000 * 75, 20_000]);
  }
});
