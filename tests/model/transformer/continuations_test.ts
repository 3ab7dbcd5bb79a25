/** Log-likelihoods of continuations, in passes that share what they begin with. */
import assert from "node:assert/strict";
import {
  type Continuation,
  continuationMode,
  type Outcome,
  planContinuations,
  scoreContinuations,
} from "../../../model/transformer/continuations.ts";
import { archSpec } from "../../../model/families/config.ts";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { narrowestWindow } from "../../../model/transformer/layers.ts";
import { loadFixtureModel } from "../../fixture_model.ts";
import { readModel } from "../../fixtures.ts";
import { gpuTest, random } from "../../kernels/harness.ts";
import { referenceLogits } from "../reference.ts";

const VOCAB = 60;

/** Questions with several continuations, of which some are one id, the same twice, or begin another. */
function questions(count: number): Continuation[] {
  const next = random(5), id = () => 3 + Math.floor((next() + 1) / 2 * (VOCAB - 3));
  const ids = (length: number) => Array.from({ length }, id);
  return Array.from({ length: count }, (_, group) => {
    const context = ids(3 + (group * 7) % 23), long = ids(4);
    const answers = [ids(1), ids(1), long, long.slice(0, 2), ids(6), long];
    return answers.map((answer): Continuation => ({
      input: Uint32Array.from([...context, ...answer.slice(0, -1)]),
      targets: Uint32Array.from(answer),
      group,
    }));
  }).flat();
}

async function outcomesOf(
  gpu: Gpu,
  continuations: readonly Continuation[],
  limits: { tokens: number; continuations: number },
  slidingWindow: number | null = null,
): Promise<{ outcomes: Outcome[]; rows: number; passes: number }> {
  const plan = planContinuations(continuations, {
    ...limits,
    longestSharing: slidingWindow,
  });
  const spec = archSpec(readModel("llama").config);
  const model = await loadFixtureModel(gpu, { model: "llama", adapter: null }, {
    mode: continuationMode(plan),
    // The first layer sees all of a text, where the others don't.
    spec: {
      ...spec,
      layers: spec.layers.map((layer, i) => ({ ...layer, window: i > 0 ? slidingWindow : null })),
    },
  });
  assert.equal(narrowestWindow(model.spec), slidingWindow);
  const done: number[] = [];
  const outcomes = await scoreContinuations(gpu, model, plan, (count) => done.push(count));
  assert.equal(done.at(-1), continuations.length);
  const rows = plan.passes.flat().reduce((sum, family) => sum + family.rows, 0);
  return { outcomes, rows, passes: plan.passes.length };
}

function assertSame(actual: readonly Outcome[], expected: readonly Outcome[]): void {
  actual.forEach(({ logLikelihood, greedy }, i) => {
    const off = Math.abs(logLikelihood - expected[i].logLikelihood);
    assert.ok(off < 1e-4, `${i}: ${logLikelihood}, not ${expected[i].logLikelihood}`);
    assert.equal(greedy, expected[i].greedy, `${i}`);
  });
}

gpuTest("continuations: log-likelihoods are the reference's", async (gpu) => {
  const continuations = questions(9), { config, weights } = readModel("llama");
  const model = {
    config,
    weights: new Map([...weights].map(([name, { data }]) => [name, data])),
  };
  const expected = continuations.map(({ input, targets }): Outcome => {
    const logits = referenceLogits(model, [Array.from(input)]), { vocab_size } = config;
    let logLikelihood = 0, greedy = true;
    targets.forEach((target, i) => {
      const row = input.length - targets.length + i;
      const values = logits.subarray(row * vocab_size, (row + 1) * vocab_size);
      const most = Math.max(...values);
      const sum = values.reduce((total, value) => total + Math.exp(value - most), 0);
      logLikelihood += values[target] - most - Math.log(sum);
      greedy &&= values.indexOf(most) === target;
    });
    return { logLikelihood, greedy };
  });
  const limits = { tokens: 100, continuations: 17 };
  const { outcomes, passes, rows } = await outcomesOf(gpu, continuations, limits);
  assertSame(outcomes, expected);
  assert.ok(passes > 2);
  const alone = continuations.reduce((sum, { input }) => sum + input.length, 0);
  assert.ok(rows < alone / 2, `${rows} rows, alone ${alone}`);
});

gpuTest("continuations: neither passes, nor a sliding window, change what is said", async (gpu) => {
  const continuations = questions(5);
  for (const window of [null, 9, 20]) {
    const one = { tokens: Infinity, continuations: 1 };
    const alone = await outcomesOf(gpu, continuations, one, window);
    assert.equal(alone.passes, continuations.length);
    for (const tokens of [1, 30, 1000]) {
      const limits = { tokens, continuations: Infinity };
      const { outcomes } = await outcomesOf(gpu, continuations, limits, window);
      assertSame(outcomes, alone.outcomes);
    }
  }
});
