/** SIGTERM and Ctrl-C at any time of a training run: heard at once, and nothing is left half done. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { exists, smallData, startLorikeet, TemporaryFolder, TOKENIZER } from "./cli.ts";
import { savedStates } from "../../train/saved_states.ts";
import { newestState } from "../../train/state.ts";
import { gpuTest } from "../kernels/harness.ts";

const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Steps that a run has written. */
function stepsOf(output: string): number {
  const metrics = join(output, "metrics.jsonl");
  return exists(metrics) ? Deno.readTextFileSync(metrics).split("\n").length - 1 : 0;
}

/** Waits until something holds of a run; its messages where it ends before. */
async function until(run: Deno.ChildProcess, holds: () => boolean): Promise<void> {
  let over = false;
  run.status.then(() => over = true);
  while (!holds()) {
    assert.ok(!over, "the run ended by itself");
    await wait(2);
  }
}

/** Steps of many micro-batches, some tenth of a second each. */
const LONG_STEPS = ["--model", "builtin", "--gradient-accumulation-steps", "8"];
const TINY = ["--model", "random:tiny", "--tokenizer", TOKENIZER];

gpuTest("cli: SIGTERM is heard in the step that it comes in, and the state is saved", async () => {
  using folder = new TemporaryFolder();
  const data = folder.file("data.json", smallData(64));
  const cases = [
    // A step of many micro-batches, at its beginning and in its middle.
    ...[0, 60].map((delay) => ({
      delay,
      args: [...LONG_STEPS, "--data", data],
    })),
    // Steps of some milliseconds.
    { delay: 30, args: [...TINY, "--data", data, "--gradient-accumulation-steps", "1"] },
  ];
  for (const [i, { delay, args }] of cases.entries()) {
    const output = folder.file(`run${i}`);
    const flags = [...args, "--epochs", "10000", "--output", output];
    const run = await startLorikeet("train", flags), ended = run.output();
    await until(run, () => stepsOf(output) >= 1);
    await wait(delay);
    const before = stepsOf(output);
    run.kill("SIGTERM");
    // At its time limit a cluster's step is sent it twice: that is no second request.
    if (i > 0) run.kill("SIGTERM");
    const { code, stderr } = await ended, message = new TextDecoder().decode(stderr);
    assert.equal(code, 130, message);
    assert.match(message, /Stopping after this step; the state is saved/);
    const after = stepsOf(output) - before;
    assert.ok(after <= 2, `${after} steps after the signal`);
    const { step } = newestState(savedStates(join(output, "states")), assert.fail).progress;
    assert.equal(step, before + after);
  }
});

gpuTest("cli: a second Ctrl-C stops at once", async () => {
  using folder = new TemporaryFolder();
  const output = folder.file("run"), data = folder.file("data.json", smallData(64));
  // The first step takes a second.
  const flags = ["--model", "builtin", "--data", data, "--gradient-accumulation-steps", "64"];
  const run = await startLorikeet("train", [...flags, "--output", output]), ended = run.output();
  await until(run, () => exists(join(output, "metrics.jsonl")));
  run.kill("SIGINT");
  await wait(50);
  run.kill("SIGINT");
  const { code, stderr } = await ended;
  assert.equal(code, 130, new TextDecoder().decode(stderr));
  assert.ok(!exists(join(output, "states")), "a state was saved");
});

gpuTest("cli: a run that is stopped before its first step leaves nothing behind", async () => {
  using folder = new TemporaryFolder();
  const output = folder.file("run"), data = folder.file("data.json", smallData(300));
  const flags = ["--data", data, "--eval-fraction", "0.5", "--output", output];
  // While held-out samples are evaluated.
  const evaluating = await startLorikeet("train", [...TINY, ...flags]), ended = evaluating.output();
  await until(evaluating, () => exists(join(output, "metrics.jsonl")));
  evaluating.kill("SIGTERM");
  const { code, stdout, stderr } = await ended;
  const message = new TextDecoder().decode(stderr);
  assert.equal(code, 130, message);
  assert.match(message, /Stopped before the first step: nothing was written\./);
  assert.doesNotMatch(new TextDecoder().decode(stdout), /Held-out loss/);
  assert.ok(!exists(output), "an output folder of no steps");

  // While weights are loaded and programs are compiled.
  const loading = await startLorikeet("train", [...TINY, ...flags]);
  const reader = loading.stdout.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; !text.includes("GPU:");) {
    const { value, done } = await reader.read();
    assert.ok(!done, text);
    text += value;
  }
  loading.kill("SIGTERM");
  const killed = performance.now();
  const { signal } = await loading.status;
  assert.ok(performance.now() - killed < 3000);
  assert.equal(signal, "SIGTERM");
  await reader.cancel();
  await loading.stderr.cancel();
  assert.ok(!exists(output));
});

gpuTest(
  "cli: a run that is stopped while it evaluates between epochs saves its state",
  async () => {
    using folder = new TemporaryFolder();
    const output = folder.file("run"), data = folder.file("data.json", smallData(40));
    const flags = ["--data", data, "--eval-fraction", "0.5", "--epochs", "1000"];
    flags.push("--gradient-accumulation-steps", "100000", "--batch-size", "5");
    const run = await startLorikeet("train", [...TINY, ...flags, "--output", output]);
    const ended = run.output();
    await until(run, () => stepsOf(output) === 1); // an epoch has one step, and then comes the evaluation
    run.kill("SIGTERM");
    const { code, stdout, stderr } = await ended;
    assert.equal(code, 130, new TextDecoder().decode(stderr));
    assert.doesNotMatch(new TextDecoder().decode(stdout), /Held-out loss after/);
    const { step } = newestState(savedStates(join(output, "states")), assert.fail).progress;
    assert.equal(step, 1);
  },
);
