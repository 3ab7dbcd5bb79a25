/**
 * Whole training runs on the GPU against PyTorch's in float32: losses, gradient norms and the
 * parameters after the last step. tests/fixtures/README.md gives the tolerances.
 */
import assert from "node:assert/strict";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { meanNll } from "../../model/transformer/evaluate.ts";
import { plannedSteps } from "../../train/data.ts";
import { learningRate } from "../../train/schedule.ts";
import type { StepResult, Trainer } from "../../train/trainer.ts";
import { readFixture, type TrajectoryCase } from "../fixtures.ts";
import { assertClose, gpuTest } from "../kernels/harness.ts";
import {
  fixtureSamples,
  fixtureSubject,
  fixtureWindow,
  norm,
  openTrainer,
  parameters,
  type Settings,
  type Subject,
} from "./runs.ts";
import { assertSameTensors } from "../same.ts";

const cases = readFixture("trajectories.json");
const samples = fixtureSamples();

function findCase(name: string): TrajectoryCase {
  const found = cases.find((c) => c.name === name);
  assert.ok(found, `no trajectory ${name}`);
  return found;
}

/** The trainer of a case. */
function openCase(gpu: Gpu, c: TrajectoryCase, subject: Subject, settings: Settings): Trainer {
  const windows = c.windows.map((window) => fixtureWindow(samples, window));
  const { batch_size, gradient_accumulation_steps, loss_normalization, optimizer } = c;
  const { learning_rate, weight_decay, max_grad_norm, schedule, warmup_steps } = c;
  return openTrainer(gpu, subject, windows, {
    batch_size,
    gradient_accumulation_steps,
    loss_normalization,
    optimizer,
    learning_rate,
    weight_decay,
    max_grad_norm,
    schedule,
    warmup_steps,
    ...settings,
  });
}

/** Runs the first `steps` windows of a case. */
async function runCase(
  gpu: Gpu,
  c: TrajectoryCase,
  trainer: Trainer,
  steps: number = c.windows.length,
): Promise<StepResult[]> {
  const results: StepResult[] = [];
  let firstMicroBatch = 0;
  for (const [i, window] of c.windows.slice(0, steps).entries()) {
    results.push(
      await trainer.step(gpu, fixtureWindow(samples, window), {
        learningRate: learningRate(trainer.config, i + 1, c.windows.length),
        firstMicroBatch,
      }),
    );
    firstMicroBatch += window.length;
  }
  return results;
}

Deno.test("schedules give PyTorch's learning rates", () => {
  for (const c of cases) {
    const actual = c.steps.map((_, i) => learningRate(c, i + 1, c.steps.length));
    const expected = c.steps.map((step) => step.learning_rate);
    assertClose(actual, expected, { atol: 0, rtol: 1e-8, what: c.name });
  }
});

Deno.test("planned steps without shuffling are the fixtures' windows", () => {
  for (const c of cases) {
    const plan = { ...c, samples: [...samples.keys()], seed: 42, shuffle: false };
    assert.deepEqual([...plannedSteps(plan)].map(({ window }) => window), c.windows, c.name);
  }
});

for (const c of cases) {
  gpuTest(`fp32 training equals PyTorch's: ${c.name}`, async (gpu) => {
    const subject = fixtureSubject(c);
    const trainer = openCase(gpu, c, subject, { precision: "fp32" });
    const results = await runCase(gpu, c, trainer);
    results.forEach((result, i) => {
      const expected = c.steps[i];
      const what = `step ${i + 1}`;
      assertClose(result.losses, expected.losses, { atol: 0, rtol: 1e-4, what: `${what} losses` });
      assertClose([result.loss], [expected.loss], { atol: 0, rtol: 1e-4, what: `${what} loss` });
      assertClose([result.gradNorm], [expected.grad_norm], {
        atol: 0,
        rtol: 1e-3,
        what: `${what} norm`,
      });
      assert.equal(result.tokens, expected.tokens);
      assert.equal(result.skipped, false);
      assert.equal(result.lossScale, 1);
    });
    const final = await parameters(gpu, trainer);
    assert.deepEqual([...final.keys()].sort(), Object.keys(c.final).sort());
    const start = new Map([...subject.weights, ...subject.adapter?.weights ?? []]);
    for (const [name, values] of final) {
      const expected = c.final[name];
      const change = norm(values.map((value, i) => value - start.get(name)!.data[i]));
      const sum = values.reduce((total, value) => total + value, 0);
      assertClose([norm(values)], [expected.l2], { atol: 0, rtol: 1e-4, what: `${name} l2` });
      assertClose([change], [expected.change_l2], { atol: 0, rtol: 1e-3, what: `${name} change` });
      assertClose([sum], [expected.sum], {
        atol: 1e-3 * expected.l2,
        rtol: 0,
        what: `${name} sum`,
      });
    }
  });
}

/** Steps of the runs that are within 1 % at each step: half of them show it. */
const MIXED_STEPS = 4;
const MIXED = ["lora_qv_sample_1x3", "lora_qv_token_3x2", "full_sample_1x3", "full_token_3x2"];

for (const name of MIXED) {
  gpuTest(`mixed training stays within 1 % of PyTorch's float32 losses: ${name}`, async (gpu) => {
    const c = findCase(name);
    const settings = { precision: "mixed", initial_loss_scale: 65536 } as const;
    const trainer = openCase(gpu, c, fixtureSubject(c), settings);
    const results = await runCase(gpu, c, trainer, MIXED_STEPS);
    assert.equal(results.length, MIXED_STEPS);
    results.forEach((result, i) => {
      const expected = c.steps[i];
      const limits = { atol: 0, rtol: 1e-2, what: `step ${i + 1}` };
      assertClose([result.loss, ...result.losses], [expected.loss, ...expected.losses], limits);
      assertClose([result.gradNorm], [expected.grad_norm], { ...limits, rtol: 5e-2 });
      assert.equal(result.skipped, false);
      assert.equal(result.lossScale, 65536);
    });
    assert.equal(trainer.skipped, 0);
    for (const [key, values] of await parameters(gpu, trainer)) {
      assert.ok(values.every(Number.isFinite), key);
    }
  });
}

for (const name of ["lora_qv_sample_1x3", "full_sample_1x3"]) {
  gpuTest(`a loss scale that overflows skips the step and halves: ${name}`, async (gpu) => {
    const c = findCase(name);
    const subject = fixtureSubject(c);
    let scale = 2 ** 24;
    const precision = "mixed";
    const trainer = openCase(gpu, c, subject, { precision, initial_loss_scale: scale });
    const window = fixtureWindow(samples, c.windows[0]);
    const rate = { learningRate: c.learning_rate, firstMicroBatch: 0 };
    const start = await parameters(gpu, trainer);
    let result = await trainer.step(gpu, window, rate);
    for (let skipped = 1; result.skipped; skipped++) {
      assert.equal(trainer.skipped, skipped);
      assert.equal(result.lossScale, scale);
      assertClose(result.losses, c.steps[0].losses, { atol: 0, rtol: 1e-2, what: "losses" });
      assertSameTensors(await parameters(gpu, trainer), start);
      assert.ok(skipped < 10, "the scale must come to fit");
      scale /= 2;
      result = await trainer.step(gpu, window, rate);
    }
    assert.ok(trainer.skipped > 0);
    assert.equal(result.lossScale, scale);
    assertClose([result.gradNorm], [c.steps[0].grad_norm], { atol: 0, rtol: 5e-2, what: "norm" });

    // Skipped steps leave no trace: not in the moments, not in their bias correction.
    const fresh = openCase(gpu, c, subject, { precision, initial_loss_scale: scale });
    await fresh.step(gpu, window, rate);
    assertSameTensors(await parameters(gpu, trainer), await parameters(gpu, fresh));
  });
}

gpuTest("a gradient that is not finite skips the step in fp32 too", async (gpu) => {
  const c = findCase("full_sample_1x3");
  const subject = fixtureSubject(c);
  const broken = subject.weights.get("model.norm.weight")!.data.slice();
  broken[3] = NaN;
  subject.weights.set("model.norm.weight", { shape: [broken.length], data: broken });
  const trainer = openCase(gpu, c, subject, { precision: "fp32" });
  const start = await parameters(gpu, trainer);
  const [result] = await runCase(gpu, c, trainer, 1);
  assert.equal(result.skipped, true);
  assert.equal(trainer.skipped, 1);
  assert.equal(result.lossScale, 1);
  assertSameTensors(await parameters(gpu, trainer), start);
});

gpuTest("the held-out loss is PyTorch's mean per supervised token", async (gpu) => {
  for (const c of readFixture("score.json").filter((c) => c.adapter !== null)) {
    const windows = samples.map((sample) => [[sample]]);
    const trainer = openTrainer(gpu, fixtureSubject(c), windows);
    const loss = await meanNll(gpu, trainer.model, samples);
    assertClose([loss], [c.nll_per_token], { atol: 0, rtol: 1e-4, what: c.adapter! });
  }
});
