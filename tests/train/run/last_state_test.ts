/** What an error that ends a run says of where it can be gone on from. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { NotFinite } from "../../../model/transformer/not_finite.ts";
import { Diverged } from "../../../train/health.ts";
import { withLastState } from "../../../train/run/last_state.ts";
import { stateName } from "../../../train/states/saved_states.ts";
import { TemporaryFolder } from "../../cli/cli.ts";

const range = { numerics: { storage: "f32", operands: "f32" }, mode: { kind: "train" } } as const;

Deno.test("an error that ends a run names its last good state, and is one of a run that diverged", () => {
  using temporary = new TemporaryFolder();
  const path = temporary.path, folder = { path, file: () => join(path, "states") };
  const message = (error: Error, goodUntil?: number) => {
    const result = withLastState(error, folder, goodUntil);
    assert.ok(result instanceof Error);
    return result.message;
  };
  const lost = () => new UserError("the GPU device was lost");
  assert.equal(message(lost()), "the GPU device was lost; no state was saved before that");
  const state = (step: number) => join(path, "states", stateName(step));
  for (const step of [4, 6]) Deno.mkdirSync(state(step), { recursive: true });
  const newest = `; the last good state is that of step 6; go on from it with --resume ${path}`;
  assert.equal(message(lost(), 3), `the GPU device was lost${newest}`, "a fault of the device");
  assert.equal(message(new Diverged("NaN"), 6), `NaN${newest}`);
  assert.equal(
    message(new Diverged("NaN"), 5),
    `NaN; the last good state is that of step 4; go on from it with --resume ${
      state(4)
    } and a new --output`,
  );
  assert.match(
    message(new Diverged("NaN"), 3),
    /; the only states, .*6 and .*4, are from just before that$/,
  );
  const found = withLastState(new NotFinite("NaN", range, "the run diverged"), folder, 6);
  assert.ok(found instanceof Diverged && found.code === 3);
});
