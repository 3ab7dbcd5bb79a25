/** Requests to stop at any time of a training run: heard at once, and nothing is left half done. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { exists, smallData, startLorikeet, TemporaryFolder, TOKENIZER } from "./cli.ts";
import { gpuTest } from "../kernels/harness.ts";
import { savedStates } from "../../train/states/saved_states.ts";
import { newestState } from "../../train/states/state.ts";

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

/** How a run ended, with its messages. */
async function endOf(
  ended: Promise<Deno.CommandOutput>,
): Promise<{ code: number; stdout: string; message: string }> {
  const { code, stdout, stderr } = await ended,
    text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), message: text(stderr) };
}

/** The step of a run's state. */
function savedStep(output: string): number {
  return newestState(savedStates(join(output, "states")), assert.fail).progress.step;
}

gpuTest("cli: a signal is heard in the step that it comes in, and the state is saved", async () => {
  using folder = new TemporaryFolder();
  const data = folder.file("data.json", smallData(64));
  const cases = [
    // A step of many micro-batches, at its beginning and in its middle.
    { signal: "SIGTERM", code: 143, delay: 0, args: [...LONG_STEPS, "--data", data] },
    { signal: "SIGUSR2", code: 140, delay: 60, args: [...LONG_STEPS, "--data", data] },
    // Steps of some milliseconds.
    ...([["SIGHUP", 129], ["SIGQUIT", 131]] as const).map(([signal, code]) => ({
      signal,
      code,
      delay: 30,
      args: [...TINY, "--data", data, "--gradient-accumulation-steps", "1"],
    })),
  ] as const;
  for (const [i, { signal, code, delay, args }] of cases.entries()) {
    const output = folder.file(`run${i}`);
    const flags = [...args, "--epochs", "10000", "--output", output];
    const run = await startLorikeet("train", flags, { LORIKEET_HANGUP: "heard" });
    const ended = run.output();
    await until(run, () => stepsOf(output) >= 1);
    await wait(delay);
    const before = stepsOf(output);
    run.kill(signal);
    // At its time limit a cluster's step is sent SIGTERM twice: that is no second request.
    if (i > 0) run.kill(signal);
    const { code: got, message } = await endOf(ended);
    assert.equal(got, code, message);
    assert.match(message, /Stopping after this step; the state is saved/);
    const after = stepsOf(output) - before;
    assert.ok(after <= 2, `${after} steps after ${signal}`);
    assert.equal(savedStep(output), before + after);
  }
});

gpuTest("cli: under nohup SIGHUP is outlived, and a file asks a run to stop", async () => {
  using folder = new TemporaryFolder();
  const output = folder.file("run"), data = folder.file("data.json", smallData(64));
  const flags = [...TINY, "--data", data, "--epochs", "10000", "--output", output];
  const run = await startLorikeet("train", flags, { LORIKEET_HANGUP: "ignored" });
  const ended = run.output();
  await until(run, () => stepsOf(output) >= 1);
  run.kill("SIGHUP");
  await wait(100);
  const heard = stepsOf(output);
  await until(run, () => stepsOf(output) > heard + 5);
  folder.file("run/stop", "stop");
  const { code, message } = await endOf(ended);
  assert.equal(code, 130, message);
  assert.match(message, /Stopping after this step; the state is saved/);
  assert.equal(savedStep(output), stepsOf(output));
  assert.ok(!exists(join(output, "stop")), "the request is still there");
});

gpuTest("cli: a third Ctrl-C stops at once, if the second one did not", async () => {
  using folder = new TemporaryFolder();
  const output = folder.file("run"), data = folder.file("data.json", smallData(600));
  // A step takes some seconds; a second Ctrl-C is noticed when it ends.
  const flags = ["--model", "builtin", "--data", data, "--gradient-accumulation-steps", "600"];
  flags.push("--epochs", "100", "--output", output);
  const run = await startLorikeet("train", flags), ended = run.output();
  // Requests are to come in the middle of a step: between two of them the first one ends the run.
  await until(run, () => stepsOf(output) >= 1);
  await wait(500);
  run.kill("SIGINT");
  await wait(1100); // within a second it is the same request
  run.kill("SIGINT");
  await wait(50);
  try {
    run.kill("SIGINT");
  } catch (error) {
    assert.ok(error instanceof TypeError, "the second one was noticed already");
  }
  const killed = performance.now(), { code, message } = await endOf(ended);
  assert.ok(performance.now() - killed < 10_000);
  assert.equal(code, 130, message);
  assert.ok(!exists(join(output, "states")), "a state was saved");
});

gpuTest("cli: a run that is stopped before its first step leaves nothing behind", async () => {
  using folder = new TemporaryFolder();
  const output = folder.file("run"), data = folder.file("data.json", smallData(300));
  const flags = ["--data", data, "--eval-fraction", "0.5", "--output", output];
  // While held-out samples are evaluated.
  const evaluating = await startLorikeet("train", [...TINY, ...flags]), ended = evaluating.output();
  await until(evaluating, () => exists(join(output, "metrics.jsonl")));
  evaluating.kill("SIGXCPU");
  const { code, stdout, message } = await endOf(ended);
  assert.equal(code, 152, message);
  assert.match(message, /Stopped before the first step: nothing was written\./);
  assert.doesNotMatch(stdout, /Held-out loss/);
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
  assert.equal((await loading.status).code, 143);
  assert.ok(performance.now() - killed < 3000);
  await reader.cancel();
  assert.match(await new Response(loading.stderr).text(), /Stopped before the first step/);
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
    run.kill("SIGINT");
    const { code, stdout, message } = await endOf(ended);
    assert.equal(code, 130, message);
    assert.doesNotMatch(stdout, /Held-out loss after/);
    assert.equal(savedStep(output), 1);
  },
);

gpuTest("cli: a run that is stopped in its last evaluation is gone on with", async () => {
  using folder = new TemporaryFolder();
  const output = folder.file("run"), data = folder.file("data.json", smallData(300));
  const flags = [...TINY, "--data", data, "--eval-fraction", "0.5", "--batch-size", "150"];
  flags.push("--gradient-accumulation-steps", "1", "--output", output);
  const run = await startLorikeet("train", flags), ended = run.output();
  await until(run, () => exists(join(output, "adapter")));
  run.kill("SIGTERM");
  const { code, message } = await endOf(ended);
  assert.equal(code, 143, message);
  assert.match(message, /The last evaluation was left out\. Go on with --resume/);
  assert.ok(!exists(join(output, "summary.json")), "a summary without the last evaluation");

  const again = await endOf((await startLorikeet("train", ["--resume", output])).output());
  assert.equal(again.code, 0, again.message);
  const lines = Deno.readTextFileSync(join(output, "evaluations.jsonl")).trimEnd().split("\n");
  assert.deepEqual(lines.map((line) => JSON.parse(line).step), [0, 1]);
  assert.ok(exists(join(output, "summary.json")));
});
