/** When states are saved, and what comes of one that can't be written: with a training that only says what it is asked. */
import assert from "node:assert/strict";
import { UserError } from "../../kernels/errors.ts";
import { StateKeeping } from "../../train/state_keeping.ts";

/** A training whose states are written at once, or fail. */
class Asked {
  readonly setup = { config: { save_every: 3 } };
  /** Why the next states can't be written. */
  problem?: Error;
  saveFailure: Error | undefined = undefined;
  isSaving = false;
  saves = 0;

  saveState() {
    this.saves++;
    this.saveFailure = this.problem;
    return Promise.resolve({ step: 0, written: Promise.resolve("") });
  }

  saved(): Promise<void> {
    return this.saveFailure === undefined ? Promise.resolve() : Promise.reject(this.saveFailure);
  }
}

/** Collects what is said on standard error. */
class Said implements Disposable {
  readonly lines: string[] = [];
  readonly #error = console.error;

  constructor() {
    console.error = (line) => void this.lines.push(String(line));
  }

  [Symbol.dispose](): void {
    console.error = this.#error;
  }
}

Deno.test("states are kept every so many steps, and put off while a run looks bad", async () => {
  const training = new Asked(), states = new StateKeeping(training);
  const kept: number[] = [];
  for (let step = 1; step <= 12; step++) {
    const before = training.saves;
    await states.keep(step, step >= 6 && step <= 7);
    if (training.saves > before) kept.push(step);
  }
  assert.deepEqual(kept, [3, 8, 9, 12]);
});

Deno.test("a state that can't be written is said once, tried again in a minute, and said to be written", async () => {
  const training = new Asked();
  let now = 0;
  const states = new StateKeeping(training, () => now);
  using said = new Said();
  const step = async (number: number) => {
    states.look();
    await states.keep(number, false);
    states.look();
  };
  training.problem = new UserError("cannot write states/step-3: no space");
  await step(3);
  assert.match(
    said.lines.join(),
    /^\ncannot write states\/step-3: no space; the run goes on, and tries again/,
  );
  await step(4);
  now = 59_000;
  await step(5);
  assert.equal(training.saves, 1);
  now = 60_000;
  training.problem = new UserError("cannot write states/step-5: no space"); // another message of the same trouble
  await step(7);
  assert.equal(training.saves, 2);
  assert.equal(said.lines.length, 1);
  training.problem = undefined;
  now = 130_000;
  training.isSaving = true;
  await step(8);
  assert.equal(said.lines.length, 1, "said before it is written");
  training.isSaving = false;
  states.look();
  assert.match(said.lines[1], /The state is written again/);
  now = 1e6;
  assert.ok(!states.isDue(10));
  await assert.doesNotReject(states.keepNow());
});

Deno.test("what is no failure of a file ends a run, and so does a state that is asked for now", async () => {
  const training = new Asked(), states = new StateKeeping(training);
  using _ = new Said();
  training.problem = new UserError("cannot write");
  await assert.rejects(states.keepNow(), /cannot write/);
  training.problem = new Error("a mistake");
  await states.keep(3, false);
  assert.throws(() => states.look(), /a mistake/);
});
