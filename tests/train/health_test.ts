/** When a run is given up: by its steps' results alone. */
import assert from "node:assert/strict";
import { Diverged, Health } from "../../train/health.ts";
import type { StepResult } from "../../train/trainer.ts";
import { trainConfig } from "./runs.ts";

const step = (result: Partial<StepResult> = {}): StepResult => ({
  loss: 2,
  losses: [1, 3],
  gradNorm: 1,
  lossScale: 1,
  skipped: false,
  tokens: 8,
  figures: {},
  ...result,
});
const skipped = (lossScale: number) => step({ lossScale, skipped: true, gradNorm: NaN });

/** Of a model with 1,000 tokens, for which guessing has a loss of 6.91: 10.36 is half as much again. */
function watch(precision: "mixed" | "fp32", firstLoss: number | null = null): Health {
  const settings = trainConfig({}, { precision });
  return new Health({ settings, vocabulary: 1000, firstLoss });
}
const mixed = () => watch("mixed");
const fp32 = () => watch("fp32");

/** The message of what is thrown. */
function thrown(body: () => void): string {
  try {
    body();
  } catch (error) {
    assert.ok(error instanceof Diverged, String(error));
    assert.equal(error.code, 3);
    return error.message;
  }
  assert.fail("nothing was thrown");
}

Deno.test("health: a loss that is no number ends a run at once, with the micro-batches it is from", () => {
  for (const bad of [NaN, Infinity, -Infinity]) {
    const health = mixed();
    health.look(11, step());
    const message = thrown(() => health.look(12, step({ loss: bad, losses: [1, bad] })));
    assert.ok(message.startsWith(`step 12: the loss is ${bad}, from micro-batch 2; `), message);
    assert.match(
      message,
      /--precision fp32, unless the run diverged: try a lower --learning-rate$/,
    );
  }
  const message = thrown(() => fp32().look(1, step({ loss: NaN, losses: [NaN] })));
  assert.equal(
    message,
    "step 1: the loss is NaN; expected finite numbers: the run diverged: try a lower --learning-rate",
  );
});

Deno.test("health: steps are skipped as long as a smaller loss scale may help, and five times at 1", () => {
  const health = mixed();
  for (let i = 0; i < 100; i++) health.look(i + 1, skipped(2 ** (100 - i)));
  for (let i = 0; i < 4; i++) health.look(101 + i, skipped(1));
  health.look(105, step());
  for (let i = 0; i < 4; i++) health.look(106 + i, skipped(1));
  const message = thrown(() => health.look(110, skipped(1)));
  assert.match(
    message,
    /^steps 106 to 110 were skipped: their gradients are NaN or infinite, also at a loss scale of 1; /,
  );
  const exact = fp32();
  for (let i = 0; i < 4; i++) exact.look(i + 1, skipped(1));
  assert.match(thrown(() => exact.look(5, skipped(1))), /^steps 1 to 5 were skipped/);
});

Deno.test("health: a run of which no step was taken has trained nothing", () => {
  const health = mixed(), last = { step: { step: 3 }, result: step() };
  health.finish(0); // no step was left to take
  for (const scale of [8, 4, 2]) health.look(1, skipped(scale));
  assert.match(thrown(() => health.finish(0, last)), /scales from 8 down to 2.*no model is/);
  health.finish(1, last); // a step that the run it goes on with took
});

Deno.test("health: five losses in a row far beyond guessing end a run, and two at its end", () => {
  const health = mixed();
  for (let i = 1; i <= 3; i++) health.look(i, step({ loss: 10.4 })); // the first one is the bound's
  const beyond = step({ loss: 15.7 }), last = { step: { step: 9 }, result: beyond };
  for (let i = 4; i <= 7; i++) health.look(i, beyond);
  assert.ok(health.doubtful);
  health.look(8, step({ loss: 15.5 })); // it recovers
  assert.ok(!health.doubtful);
  health.look(9, beyond);
  health.finish(8, last); // one may be the fault of its samples
  health.look(10, beyond);
  const message = thrown(() => health.finish(9, { ...last, step: { step: 10 } }));
  assert.match(
    message,
    /^the losses of steps 9 to 10 are above 15\.60, where the run began with 10\.40 and guessing has 6\.91: /,
  );
  assert.match(message, /lower --learning-rate or --max-grad-norm 1$/);
  for (let i = 11; i <= 12; i++) health.look(i, beyond);
  assert.match(thrown(() => health.look(13, beyond)), /^the losses of steps 9 to 13 are above/);

  const resumed = watch("fp32", 1);
  for (let i = 51; i <= 54; i++) resumed.look(i, step({ loss: 10.4 }));
  assert.match(thrown(() => resumed.look(55, step({ loss: 10.4 }))), /above 10\.36, .* with 1\.00/);
});

Deno.test("health: a run without gradients is given up after twenty steps, or at its end", () => {
  const still = step({ gradNorm: 0, lossScale: 1e-37 }),
    last = { step: { step: 3 }, result: still };
  const health = mixed();
  for (let i = 1; i < 20; i++) health.look(i, still);
  const message = thrown(() => health.look(20, still));
  assert.match(
    message,
    /^the gradient is zero in all steps up to 20 \(loss scale 1e-37\): nothing/,
  );
  assert.match(message, /expected a higher --initial-loss-scale/);

  const short = fp32();
  for (let i = 1; i <= 3; i++) short.look(i, still);
  assert.match(
    thrown(() => short.finish(3, last)),
    /^the gradient is zero in all steps: .* no model/,
  );
  short.finish(103, last); // a hundred steps of the run that it goes on with

  const begun = mixed(), learned = fp32();
  begun.look(1, step());
  learned.look(1, step({ loss: 0, gradNorm: 0 })); // nothing is left to learn
  for (let i = 2; i < 100; i++) for (const health of [begun, learned]) health.look(i, still);
  begun.finish(99, last);
  learned.finish(99, last);
});
