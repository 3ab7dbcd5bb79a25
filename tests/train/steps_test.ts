/** Steps in turn: the same with the next step under way as one by one. */
import assert from "node:assert/strict";
import { runInTurn } from "../../train/steps.ts";
import type { StepResult } from "../../train/trainer.ts";
import { bothWaysOfReading, gpuTest } from "../kernels/harness.ts";
import { fixtureSamples, fixtureSubject, fixtureWindow, openTrainer } from "./runs.ts";

const samples = fixtureSamples();
const STEPS = [[[0], [1], [2]], [[3, 4], [5]], [[6], [7], [8]], [[9], [10]]].map((window, i) => ({
  window: fixtureWindow(samples, window),
  learningRate: 0.003,
  firstMicroBatch: 3 * i,
  number: i,
}));

gpuTest("steps in turn do what single steps do, and stand apart where asked", async (gpu) => {
  const subject = fixtureSubject({ model: "llama", adapter: "adapter_qv" });
  const open = () =>
    openTrainer(gpu, subject, STEPS.map((s) => s.window), { precision: "mixed", dropout: 0.1 });
  const single = open(), expected: StepResult[] = [];
  for (const step of STEPS) expected.push(await single.step(gpu, step.window, step));

  await bothWaysOfReading(gpu, async () => {
    const trainer = open(), results: StepResult[] = [], idle: boolean[] = [];
    let seconds = 0;
    for await (const done of runInTurn(gpu, trainer, STEPS, ({ number }) => number === 1)) {
      assert.equal(done.next, STEPS[done.step.number + 1]);
      results.push(done.result);
      idle.push(done.idle);
      seconds += done.seconds;
      assert.ok(done.seconds > 0);
    }
    assert.deepEqual(results, expected);
    const waits = gpu.readsInOrder ? [false, true, false, true] : [true, true, true, true];
    assert.deepEqual(idle, waits);
  });
  for await (const _ of runInTurn(gpu, single, [])) assert.fail("a step of none");
});
