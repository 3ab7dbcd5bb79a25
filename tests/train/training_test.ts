/** A run from code: its steps in one loop or several, and what is refused. */
import assert from "node:assert/strict";
import { makeTrainConfig } from "../../train/config.ts";
import { openTraining, type Training } from "../../train/training.ts";
import { gpuTest } from "../kernels/harness.ts";

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
