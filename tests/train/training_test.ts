/** A run from code: its steps in one loop or several, and what is refused. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { makeTrainConfig } from "../../train/config/config.ts";
import { openTraining, type Training } from "../../train/training.ts";
import { TemporaryFolder } from "../cli/cli.ts";
import { gpuTest } from "../kernels/harness.ts";
import { assertSameValues } from "../same.ts";

const CONFIG = makeTrainConfig({ samples: 16, max_steps: 2, output: "runs/no_such_folder" });

/** The losses of the steps that a loop does, at most so many. */
async function losses(training: Training, most = Infinity): Promise<number[]> {
  const all: number[] = [];
  for await (const { loss } of training.steps()) if (all.push(loss) >= most) break;
  return all;
}

gpuTest(
  "openTraining: a loop that was left goes on in the next, and two at once are refused",
  async () => {
    await using whole = await openTraining(CONFIG);
    const expected = await losses(whole);
    assert.equal(expected.length, 2);
    await using training = await openTraining(CONFIG);
    const first = losses(training, 1);
    await assert.rejects(losses(training), /the run's steps are under way in another loop/);
    assert.deepEqual([...await first, ...await losses(training)], expected);
  },
);

gpuTest("openTraining: what was saved is gone on with, in the same folder", async () => {
  using folder = new TemporaryFolder();
  const output = folder.file("run"), settings = { samples: 16, gradient_accumulation_steps: 4 };
  const config = makeTrainConfig({ ...settings, output, resume: "auto" });
  await using whole = await openTraining(
    makeTrainConfig({ ...settings, output: folder.file("whole") }),
  );
  const expected = await losses(whole), adapter = await whole.save();
  assert.equal(expected.length, 4);
  {
    await using training = await openTraining(config);
    const first = await losses(training, 1);
    const { step, written } = await training.saveState();
    const more = await losses(training, 1); // while the state is written
    assert.equal(step, 1);
    assert.equal(await written, join(output, "states", "step-00000001"));
    assert.deepEqual([...first, ...more], expected.slice(0, 2));
    await assert.rejects(openTraining(config), /another run works in this folder/);
    assert.equal(await training.save(), join(output, "adapter"));
    assert.equal(await training.save(), join(output, "adapter"), "in place of the one before");
  }
  await using training = await openTraining(config);
  assert.equal(training.progress.step, 2);
  assert.deepEqual(await losses(training), expected.slice(2));
  assert.deepEqual(training.progress, { ...whole.progress, seconds: training.progress.seconds });
  const [one, other] = [adapter, await training.save()]
    .map((path) => Deno.readFileSync(join(path, "adapter_model.safetensors")));
  assertSameValues(one, other, "the adapters");
});
