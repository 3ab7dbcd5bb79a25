/** When a run is given up: by its steps' results alone. */
import assert from "node:assert/strict";
import { UsageError, UserError } from "../../kernels/errors.ts";
import { NotFinite } from "../../model/transformer/not_finite.ts";
import { Health } from "../../train/health.ts";
import type { StepResult } from "../../train/trainer.ts";
import { trainConfig } from "./runs.ts";

const step = (result: Partial<StepResult> = {}): StepResult => ({
  loss: 2,
  losses: [1, 3],
  gradNorm: 1,
  lossScale: 1,
  skipped: false,
  tokens: 8,
  ...result,
});
const skipped = (lossScale: number) => step({ lossScale, skipped: true, gradNorm: NaN });
const mixed = () => new Health(trainConfig({}, { precision: "mixed" }));
const fp32 = () => new Health(trainConfig({}, { precision: "fp32" }));

/** The message of what is thrown. */
function thrown(body: () => void, kind: typeof UserError | typeof NotFinite): string {
  try {
    body();
  } catch (error) {
    assert.ok(error instanceof kind, String(error));
    assert.ok(!(error instanceof UsageError));
    return error.message;
  }
  assert.fail("nothing was thrown");
}

Deno.test("health: a loss that is no number ends a run at once, with the micro-batches it is from", () => {
  for (const bad of [NaN, Infinity, -Infinity]) {
    const health = mixed();
    health.look(11, step());
    const message = thrown(() => health.look(12, step({ loss: bad, losses: [1, bad] })), NotFinite);
    assert.ok(message.startsWith(`step 12: the loss is ${bad}, from micro-batch 2; `), message);
    assert.match(
      message,
      /--precision fp32, unless the run diverged: try a lower --learning-rate$/,
    );
  }
  const message = thrown(() => fp32().look(1, step({ loss: NaN, losses: [NaN] })), NotFinite);
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
  const message = thrown(() => health.look(110, skipped(1)), NotFinite);
  assert.match(
    message,
    /^steps 106 to 110 were skipped: their gradients are NaN or infinite, also at a loss scale of 1; /,
  );
  const exact = fp32();
  for (let i = 0; i < 4; i++) exact.look(i + 1, skipped(1));
  assert.match(thrown(() => exact.look(5, skipped(1)), NotFinite), /^steps 1 to 5 were skipped/);
});

Deno.test("health: a run of which no step was taken has trained nothing", () => {
  const health = mixed();
  health.finish(0); // no step was left to take
  for (const scale of [8, 4, 2]) health.look(1, skipped(scale));
  assert.match(thrown(() => health.finish(0), UserError), /scales from 8 down to 2.*no model is/);
  health.finish(1); // a step that the run it goes on with took
});
