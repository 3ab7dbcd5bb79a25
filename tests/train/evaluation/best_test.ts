/** The folder of the best: whole at any time, whatever writing it is interrupted by. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { BestFolder } from "../../../train/evaluation/best.ts";
import type { EvaluationResult } from "../../../train/evaluation/history.ts";
import { TemporaryFolder } from "../../cli/cli.ts";

const result = (step: number): EvaluationResult => ({
  step,
  epoch: step / 4,
  loss: 3 / step,
  perplexity: Math.exp(3 / step),
  tokens: 9,
  seconds: 1,
  samples: [],
});

/** Writes an adapter of a step, as a run would. */
const writer = (step: number) => (parent: string) => {
  const path = join(parent, "adapter");
  Deno.mkdirSync(path, { recursive: true });
  Deno.writeTextFileSync(join(path, "weights"), `${step}`);
  return Promise.resolve(path);
};

/** The step of the weights in a folder, and that of the evaluation beside them. */
function stepsIn(folder: string): [weights: number, evaluation: number] {
  const read = (name: string) => Deno.readTextFileSync(join(folder, "adapter", name));
  return [Number(read("weights")), JSON.parse(read("evaluation.json")).step];
}

const namesIn = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

Deno.test("best: the next takes the place of the one before, with its evaluation", async () => {
  using folder = new TemporaryFolder();
  const best = new BestFolder(folder.file("best"));
  best.recover();
  assert.ok(best.isEmpty);
  for (const step of [2, 5]) {
    await best.keep(result(step), writer(step));
    assert.deepEqual(stepsIn(best.folder), [step, step]);
    assert.deepEqual(namesIn(best.folder), ["adapter"]);
  }
  assert.ok(!best.isEmpty);
});

Deno.test("best: wherever a program is killed, one that is whole is there or comes back", async () => {
  using folder = new TemporaryFolder();
  const { renameSync, removeSync } = Deno;
  // Every rename and removal in turn fails as if it had been the program's end; so does the writing itself.
  for (let last = 0; last < 8; last++) {
    const best = new BestFolder(folder.file(`best${last}`));
    await best.keep(result(2), writer(2));
    let calls = 0;
    const dying = <T extends unknown[]>(does: (...args: T) => void) => (...args: T) => {
      if (calls++ >= last) throw new Error("killed");
      does(...args);
    };
    const write = dying((step: number) => void writer(step)(join(best.folder, ".new")));
    Object.assign(Deno, { renameSync: dying(renameSync), removeSync: dying(removeSync) });
    try {
      await best.keep(result(5), (parent) => {
        write(5);
        return Promise.resolve(join(parent, "adapter"));
      });
    } catch (error) {
      assert.equal((error as Error).message, "killed");
    } finally {
      Object.assign(Deno, { renameSync, removeSync });
    }
    best.recover();
    assert.deepEqual(namesIn(best.folder), ["adapter"]);
    const [weights, evaluation] = stepsIn(best.folder);
    assert.equal(weights, evaluation);
    assert.ok(weights === 2 || weights === 5);
  }
});

Deno.test("best: where the next can't be written, the one before stays", async () => {
  using folder = new TemporaryFolder();
  const best = new BestFolder(folder.file("best"));
  await best.keep(result(2), writer(2));
  await assert.rejects(best.keep(result(5), () => Promise.reject(new Error("full"))), /full/);
  assert.deepEqual(stepsIn(best.folder), [2, 2]);
});
