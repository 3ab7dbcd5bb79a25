/** A GPU that is gone in the middle of a run. */
import assert from "node:assert/strict";
import { UserError } from "../../kernels/errors.ts";
import { makeTrainConfig } from "../../train/config/config.ts";
import { savedStates } from "../../train/states/saved_states.ts";
import { openTraining } from "../../train/training.ts";
import { TemporaryFolder } from "../cli/cli.ts";
import { gpuTest } from "../kernels/harness.ts";

gpuTest("openTraining: a device that is lost ends the steps by one clear error", async () => {
  using folder = new TemporaryFolder();
  const output = folder.file("run");
  await using training = await openTraining(makeTrainConfig({ samples: 24, output }));
  const run = async () => {
    for await (const { step } of training.steps()) {
      if (step === 1) await training.saveState();
      if (step === 2) training.gpu.device.destroy();
    }
  };
  await assert.rejects(run(), (error) => {
    assert.ok(error instanceof UserError, String(error));
    assert.match(error.message, /^the GPU device was lost: /);
    return true;
  });
  await training.saved();
  const states = savedStates(training.folder.file("states"));
  assert.deepEqual(states.map(({ step }) => step), [1]);
});
