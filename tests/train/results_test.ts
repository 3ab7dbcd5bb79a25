/** What a run writes at its end where files fail, with a training that only says so. */
import assert from "node:assert/strict";
import { UserError } from "../../kernels/errors.ts";
import { Diverged } from "../../train/health.ts";
import { writeResults } from "../../train/results.ts";

const FULL = new UserError("no space");

/** A training that fails a number of times to write its state and its adapter. */
function failing(states: number, adapters: number, error: Error = FULL) {
  const calls: string[] = [];
  const next = (what: string, failures: number) => {
    calls.push(what);
    const count = calls.filter((call) => call === what).length;
    return count <= failures ? Promise.reject(error) : Promise.resolve("adapter");
  };
  const training = {
    saveState: () => Promise.resolve({ step: 1, written: Promise.resolve("") }),
    saved: async () => void await next("state", states),
    writeTrained: () => next("adapter", adapters),
  };
  return { calls, training };
}

const NO_STOP = { requested: false }, TIMES = { between: 2, longest: 1000 };

/** Runs something without what it says. */
async function quietly<T>(body: () => Promise<T>): Promise<{ value: T; said: string[] }> {
  const { error } = console, said: string[] = [];
  console.error = (line) => void said.push(String(line));
  try {
    return { value: await body(), said };
  } finally {
    console.error = error;
  }
}

Deno.test("results: the state comes first, and the adapter is tried whatever became of it", async () => {
  const good = failing(0, 0), noState = failing(9, 0), noAdapter = failing(0, 9);
  const results = (training: ReturnType<typeof failing>["training"]) =>
    writeResults(training, NO_STOP, TIMES);
  assert.deepEqual(await results(good.training), { trained: "adapter", problems: [] });
  assert.deepEqual(good.calls, ["state", "adapter"]);
  assert.deepEqual(await results(noState.training), { trained: "adapter", problems: ["no space"] });
  assert.deepEqual(await results(noAdapter.training), {
    trained: undefined,
    problems: ["no space"],
  });
});

Deno.test("results: where neither can be written it is tried again, said once, until somebody gives up", async () => {
  const { training, calls } = failing(3, 3);
  const { value, said } = await quietly(() => writeResults(training, NO_STOP, TIMES));
  assert.deepEqual(value, { trained: "adapter", problems: [] });
  assert.equal(calls.length, 8);
  assert.equal(said.length, 1);
  assert.match(
    said[0],
    /no space; no space. All that was trained since the last state would be lost/,
  );

  const never = failing(1e9, 1e9), stop = { requested: true };
  assert.equal((await writeResults(never.training, stop, TIMES)).problems.length, 2);
  assert.equal(never.calls.length, 2);
  const late = failing(1e9, 1e9);
  await quietly(() => writeResults(late.training, NO_STOP, { between: 2, longest: 20 }));
  assert.ok(late.calls.length > 4 && late.calls.length < 30, `${late.calls.length} calls`);
});

Deno.test("results: weights that are no numbers and mistakes of the program are no trouble of a disk", async () => {
  for (const error of [new Error("a mistake"), new Diverged("NaN")]) {
    await assert.rejects(writeResults(failing(1, 0, error).training, NO_STOP, TIMES), error);
    await assert.rejects(writeResults(failing(0, 1, error).training, NO_STOP, TIMES), error);
  }
});
