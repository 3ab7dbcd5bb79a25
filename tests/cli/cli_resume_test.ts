/**
 * Runs that go on by themselves: the same bytes after any step and any kill, and refusals where something has changed.
 *
 * `LORIKEET_RESUME=long` resumes after every step and kills a hundred times; otherwise it is a few.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { readFileSync } from "node:fs";
import { savedStates } from "../../train/states/saved_states.ts";
import { gpuTest, random } from "../kernels/harness.ts";
import {
  exists,
  lorikeet,
  refused,
  smallData,
  startLorikeet,
  succeeded,
  TemporaryFolder,
  TOKENIZER,
} from "./cli.ts";
import { lorikeetHere } from "./here.ts";

const LONG = Deno.env.get("LORIKEET_RESUME") === "long";
const TINY = ["--model", "random:tiny", "--tokenizer", TOKENIZER];
/** Twelve steps with accumulation, dropout, shuffling and a loss scale that is halved after the fourth step and later. */
const TWELVE = [
  ...TINY,
  ...["--gradient-accumulation-steps", "4", "--epochs", "2", "--max-steps", "12"],
  ...["--lora.dropout", "0.2", "--lora.targets", "all-linear", "--learning-rate", "1e-2"],
  ...["--precision", "mixed", "--initial-loss-scale", "1150000"],
];

/** What a run leaves that its steps decide: lines without times, and the adapter's bytes. */
function resultOf(output: string): { lines: Record<string, unknown>[]; adapter: Uint8Array } {
  const text = Deno.readTextFileSync(join(output, "metrics.jsonl"));
  assert.ok(text.endsWith("\n"));
  const lines = text.trimEnd().split("\n").map((line) => {
    const { seconds, ...rest } = JSON.parse(line);
    assert.ok(seconds > 0);
    return rest;
  });
  return { lines, adapter: readFileSync(join(output, "adapter/adapter_model.safetensors")) };
}

/** Copies a folder. */
function copyFolder(from: string, to: string): void {
  Deno.mkdirSync(to, { recursive: true });
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (isDirectory) copyFolder(join(from, name), join(to, name));
    else Deno.copyFileSync(join(from, name), join(to, name));
  }
}

gpuTest("cli: a run goes on after any of twelve steps with the same bytes", async () => {
  using folder = new TemporaryFolder();
  const flags = [...TWELVE, "--data", "builtin", "--samples", "30"], whole = folder.file("whole");
  const saving = ["--save-every", "1", "--keep-states", "20"];
  succeeded(await lorikeetHere("train", [...flags, ...saving, "--output", whole]));
  const expected = resultOf(whole), scales = expected.lines.map((line) => line.loss_scale);
  assert.deepEqual(expected.lines.map(({ step }) => step), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  assert.ok(scales[4] === scales[0] && scales[11] !== scales[4], `no change inside: ${scales}`);
  for (const step of LONG ? [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] : [5]) {
    // As a kill leaves it: lines of later steps, the last one cut off.
    const output = folder.file(`after${step}`), name = `step-${String(step).padStart(8, "0")}`;
    copyFolder(join(whole, "states", name), join(output, "states", name));
    const lines = readFileSync(join(whole, "metrics.jsonl"), "utf8").split(/(?<=\n)/);
    const left = lines.slice(0, step).join("") + lines.slice(step).join("").slice(0, 600);
    Deno.writeTextFileSync(join(output, "metrics.jsonl"), left);
    const resume = ["--resume", "auto", "--output", output];
    const said = succeeded(await lorikeetHere("train", [...flags, ...resume]));
    assert.match(said, new RegExp(`Going on after step ${step} of 12`));
    assert.deepEqual(resultOf(output), expected, `after step ${step}`);
  }
});

/** Whether a state is being written in a run's folder. */
function saving(output: string): boolean {
  const states = join(output, "states");
  return exists(states) && [...Deno.readDirSync(states)].some(({ name }) => name.endsWith(".new"));
}

const KILLS = LONG ? 100 : 2;

/**
 * Kills a run at a time of its own, or while a state is written.
 *
 * @param when Milliseconds from now on, or from when a state begins to be written.
 * @returns What ended, and whether it left a state half written.
 */
async function killAt(
  process: Deno.ChildProcess,
  output: string,
  { when, aimed }: { when: number; aimed: boolean },
): Promise<{ finished: boolean; torn: boolean }> {
  const ended = process.output();
  let over = false;
  process.status.then(() => over = true);
  const until = async (holds: () => boolean) => {
    while (!over && !holds()) await new Promise((resolve) => setTimeout(resolve, 0));
  };
  if (aimed) {
    await until(() => !saving(output)); // what the kill before left half written
    await until(() => saving(output));
  }
  const time = performance.now() + when;
  await until(() => performance.now() >= time);
  if (!over) process.kill("SIGKILL");
  const { success, signal, stderr } = await ended, text = new TextDecoder().decode(stderr);
  assert.ok(success || signal === "SIGKILL", text);
  assert.doesNotMatch(text, /damaged|missing/);
  return { finished: success, torn: saving(output) };
}

gpuTest(
  `cli: after ${KILLS} SIGKILLs, half of them in a save, a run has the same bytes`,
  async () => {
    using folder = new TemporaryFolder();
    const data = folder.file("data.json", smallData(40)), whole = folder.file("whole");
    const flags = [...TWELVE, "--data", data, "--save-every", "1"];
    const next = random(19), share = () => (next() + 1) / 2, began = performance.now();
    succeeded(await lorikeet("train", [...flags, "--output", whole]));
    const expected = resultOf(whole), duration = performance.now() - began;
    let killed = 0, torn = 0, run = 0;
    while (killed < KILLS) {
      const output = folder.file(`run${run++}`);
      const start = () =>
        startLorikeet("train", [...flags, "--output", output, "--resume", "auto"]);
      while (killed < KILLS) {
        const aimed = killed % 2 === 0, when = share() * (aimed ? 4 : duration);
        const left = await killAt(await start(), output, { when, aimed });
        if (left.finished) break;
        killed++;
        torn += Number(left.torn);
        const { length } = savedStates(join(output, "states"));
        assert.ok(length <= 3, `${length} states`);
      }
      succeeded(await lorikeet("train", [...flags, "--output", output, "--resume", "auto"]));
      assert.deepEqual(resultOf(output), expected, `run ${run} after ${killed} kills`);
    }
    if (LONG) assert.ok(torn >= 10, `only ${torn} kills left a state half written`);
  },
);

gpuTest("cli: a run goes on with what it began with, wherever that lies", async () => {
  using folder = new TemporaryFolder();
  const model = folder.file("model"), data = folder.file("data.json", smallData(8));
  copyFolder(new URL("../../examples/builtin/model", import.meta.url).pathname, model);
  const output = folder.file("run"), other = folder.file("moved");
  const flags = ["--model", model, "--data", data, "--gradient-accumulation-steps", "4"];
  flags.push("--lora.rank", "4", "--precision", "fp32");
  const run = (...more: string[]) =>
    lorikeetHere("train", [...flags, "--resume", "auto", "--output", output, ...more]);
  succeeded(await run("--max-steps", "1"));
  copyFolder(model, other);
  const moved = folder.file("other.json", smallData(8));
  const said = succeeded(await run("--model", `${other}/`, "--data", moved));
  assert.match(
    said,
    /The model's files are not those that the run began with \(model\.safetensors, /,
  );
  assert.match(said, /Going on after step 1 of 2/);
  assert.match(succeeded(await run()), /is finished: all 2 steps are done\.\n$/);

  const json = join(other, "config.json"), weights = join(other, "model.safetensors");
  const config = JSON.parse(Deno.readTextFileSync(json)), bytes = readFileSync(weights);
  const refuse = async (flags: string[], ...patterns: (RegExp | string)[]) =>
    refused(await run("--model", other, ...flags), 2, /run was made with/, ...patterns);
  await refuse(
    ["--learning-rate", "1"],
    "learning_rate 0.00001, not 1;",
    /--allow-change learning_rate\n/,
  );
  await refuse(["--seed", "7"], "seed 42, not 7; expected what it began with\n");
  await refuse(
    ["--data", folder.file("longer.json", smallData(9))],
    /with data of 8 samples, \d+ tokens, …\w+, not of 9 samples/,
  );
  const halved = { ...config, rope_theta: 500 };
  Deno.writeTextFileSync(json, JSON.stringify(halved));
  await refuse([], "with the model's rope_theta 10000, not 500; ", /--allow-change model\n/);
  Deno.writeTextFileSync(json, JSON.stringify(config));
  // The last bytes of the last tensor.
  Deno.writeFileSync(weights, bytes.map((byte, i) => i === bytes.length - 1 ? byte ^ 1 : byte));
  await refuse([], /with model weights "\S+" \w+ \[[\d,]+\] …\w+, not \w+ \[[\d,]+\] …/);
  Deno.writeFileSync(weights, bytes);

  // More steps than it had make it go on, and its results are replaced.
  const more = [
    "--epochs",
    "2",
    "--allow-change",
    "learning_rate,model",
    "--learning-rate",
    "1e-3",
  ];
  Deno.writeTextFileSync(json, JSON.stringify(halved));
  assert.match(succeeded(await run("--model", other, ...more)), /Going on after step 2 of 4/);
  const { lines } = resultOf(output);
  assert.deepEqual(lines.map(({ step, learning_rate }) => [step, learning_rate]), [
    ...[[1, 1e-5], [2, 1e-5], [3, 1e-3], [4, 1e-3]],
  ]);
  assert.deepEqual([...Deno.readDirSync(output)].map(({ name }) => name).sort(), [
    ...["adapter", "config.yaml", "metrics.jsonl", "run.lock", "states", "summary.json"],
  ]);
  Deno.removeSync(join(output, "metrics.jsonl"));
  const gap = await run("--model", other, ...more, "--epochs", "3");
  succeeded(gap);
  assert.match(
    gap.stderr,
    /metrics\.jsonl ends with step 0, and the state is of step 4: lines are/,
  );
  // A damaged state is told once, though two look for the newest.
  Deno.mkdirSync(join(output, "states/step-00000099"));
  const damaged = await run("--model", other, ...more, "--epochs", "4");
  assert.match(succeeded(damaged), /Going on after step 6 of 8/);
  assert.equal(damaged.stderr.split("step-00000099 holds no state.json").length, 2, damaged.stderr);
});
