/** Steps in turn: the same with the next step under way as one by one. */
import assert from "node:assert/strict";
import { pipelinedSteps } from "../../train/steps.ts";
import type { StepResult } from "../../train/trainer.ts";
import { gpuTest } from "../kernels/harness.ts";
import { fixtureSamples, fixtureSubject, fixtureWindow, openTrainer } from "./runs.ts";

const samples = fixtureSamples();
const STEPS = [[[0], [1], [2]], [[3, 4], [5]], [[6], [7], [8]], [[9], [10]]].map((window, i) => ({
  window: fixtureWindow(samples, window),
  learningRate: 0.003,
  firstMicroBatch: 3 * i,
  number: i,
}));

gpuTest(
  "pipelined steps do what single steps do, and wait for each other where asked",
  async (gpu) => {
    const subject = fixtureSubject({ model: "llama", adapter: "adapter_qv" });
    const open = () =>
      openTrainer(gpu, subject, STEPS.map((s) => s.window), { precision: "mixed", dropout: 0.1 });
    const single = open(), expected: StepResult[] = [];
    for (const step of STEPS) expected.push(await single.step(gpu, step.window, step));

    const trainer = open(), results: StepResult[] = [], idle: boolean[] = [];
    for await (const done of pipelinedSteps(gpu, trainer, STEPS, ({ number }) => number === 2)) {
      assert.equal(done.next, STEPS[done.step.number + 1]);
      assert.ok(done.seconds > 0);
      results.push(done.result);
      idle.push(done.idle);
    }
    assert.deepEqual(results, expected);
    // How long the first one takes is not known before; what follows the third is asked to wait.
    assert.deepEqual(idle, [true, false, true, true]);
    for await (const _ of pipelinedSteps(gpu, single, [])) assert.fail("a step of none");
  },
);

gpuTest(
  "the time between steps, such as that of an evaluation, is in the seconds of none",
  async (gpu) => {
    const subject = fixtureSubject({ model: "llama", adapter: "adapter_qv" });
    const trainer = openTrainer(gpu, subject, STEPS.map((s) => s.window));
    await trainer.precompile(gpu, STEPS.map((s) => s.window));
    const between = 2000, began = performance.now();
    let seconds = 0;
    for await (const done of pipelinedSteps(gpu, trainer, STEPS, () => true)) {
      seconds += done.seconds;
      if (done.next !== undefined) {
        await new Promise((resolve) => setTimeout(resolve, between / (STEPS.length - 1)));
      }
    }
    const whole = (performance.now() - began) / 1000;
    assert.ok(seconds <= whole - between / 1000, `${seconds} of ${whole} s`);
  },
);

gpuTest("the programs of a step are compiled before it is recorded", async (gpu) => {
  const windows = STEPS.map((s) => s.window);
  const trainer = openTrainer(
    gpu,
    fixtureSubject({ model: "llama", adapter: "adapter_qv" }),
    windows,
  );
  await trainer.precompile(gpu, windows.slice(0, 2));
  const { record } = trainer;
  trainer.record = (...given) => {
    const before = gpu.pipelines.count, step = record.apply(trainer, given);
    assert.equal(gpu.pipelines.count, before);
    return step;
  };
  let steps = 0;
  for await (const _ of pipelinedSteps(gpu, trainer, STEPS)) steps++;
  assert.equal(steps, STEPS.length);
});
