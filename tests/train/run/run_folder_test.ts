/** Which folder a run works in, what it goes on from, and who else may not; and the files of lines in it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { UserError } from "../../../kernels/errors.ts";
import { LineFile } from "../../../train/run/line_file.ts";
import { RunFolder } from "../../../train/run/run_folder.ts";
import { stateName } from "../../../train/states/saved_states.ts";
import { exists, TemporaryFolder } from "../../cli/cli.ts";
import { expecting, namesIn } from "../states/states.ts";

/** Makes a folder with files of a line each. */
function makeFolder(path: string, ...files: string[]): string {
  Deno.mkdirSync(path, { recursive: true });
  for (const file of files) {
    Deno.mkdirSync(join(path, file, ".."), { recursive: true });
    Deno.writeTextFileSync(join(path, file), "{}\n");
  }
  return path;
}

const stateFiles = (step: number) => `states/${stateName(step)}/state.json`;

/** What opening is refused with. */
function refused(keys: Parameters<typeof RunFolder.open>[0], pattern: RegExp): void {
  assert.throws(() => RunFolder.open(keys), expecting(pattern));
}

Deno.test("run folder: a new one is made when the run begins, and taken back where it comes to nothing", () => {
  using temporary = new TemporaryFolder();
  const output = temporary.file("new/run");
  for (const resume of [undefined, "auto"]) {
    using run = RunFolder.open({ output, resume });
    assert.deepEqual([run.states, run.existed, exists(output)], [[], false, false]);
    run.begin();
    run.begin();
    assert.deepEqual(namesIn(output), ["run.lock"]);
    new LineFile(run.file("metrics"), 0)[Symbol.dispose]();
    run.discard();
    assert.ok(!exists(output));
  }
  using run = RunFolder.open({ output });
  using late = RunFolder.open({ output });
  run.begin();
  assert.throws(() => late.begin(), expecting(/run exists already and is not overwritten/));
  Deno.mkdirSync(run.file("adapter"));
  run.discard();
  assert.deepEqual(namesIn(output), ["adapter", "run.lock"], "results stay");
  refused(
    { output },
    /exists already and is not overwritten; expected a new one, or --resume auto/,
  );
  const file = temporary.file("file", "");
  refused({ output: join(file, "run") }, /can't be made: \S+file is no folder/);
});

Deno.test("run folder: runs that start in the same second get folders of their own", () => {
  using temporary = new TemporaryFolder();
  const before = Deno.cwd();
  Deno.chdir(temporary.path);
  try {
    // Opened together, so that the time in their names is the same but at a second's turn.
    const runs = Array.from({ length: 4 }, () => RunFolder.open({}));
    for (const run of runs) run.begin();
    const paths = runs.map(({ path }) => path);
    assert.equal(new Set(paths).size, 4);
    for (const path of paths) assert.match(path, /^runs\/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-[2-4])?$/);
    assert.equal(namesIn("runs").length, 4);
    for (const run of runs) run[Symbol.dispose]();
  } finally {
    Deno.chdir(before);
  }
});

Deno.test("run folder: auto goes on in what is a run's, or begins there", () => {
  using temporary = new TemporaryFolder();
  const open = (path: string) => RunFolder.open({ output: path, resume: "auto" });
  const steps = (path: string) => {
    using run = open(path);
    assert.ok(run.existed);
    run.discard();
    assert.ok(exists(path), "a folder that was there stays");
    return run.states.map(({ step }) => step);
  };
  assert.deepEqual(steps(makeFolder(temporary.file("empty"))), []);
  assert.deepEqual(steps(makeFolder(temporary.file("short"), "metrics.jsonl", "run.lock")), []);
  const left = [".step-00000004.new/state.json", ".step-00000001.old/state.json"];
  const killed = makeFolder(
    temporary.file("killed"),
    ...["metrics.jsonl", "adapter.partial-12ab34cd/x", stateFiles(2), stateFiles(10)],
    ...left.map((name) => `states/${name}`),
  );
  assert.deepEqual(steps(killed), [10, 2]);
  assert.deepEqual(namesIn(killed), ["metrics.jsonl", "run.lock", "states"]);
  assert.deepEqual(namesIn(join(killed, "states")), [stateName(2), stateName(10)]);

  const refuse = (path: string, pattern: RegExp) =>
    refused({ output: path, resume: "auto" }, pattern);
  refuse(
    makeFolder(temporary.file("others"), "thesis.tex"),
    /holds "thesis\.tex", which no run makes/,
  );
  refuse(
    makeFolder(temporary.file("done"), "adapter/x"),
    /has no state to go on from, but adapter;/,
  );
  refuse(temporary.file("file", ""), /file is no folder/);
  refused({ resume: "auto" }, /resume is auto, but output is not given/);
  assert.ok(!exists(join(temporary.path, "others", "run.lock")), "nothing is put there");
});

Deno.test("run folder: results of a run that is made longer count no more once it goes on", () => {
  using temporary = new TemporaryFolder();
  const files = ["adapter/x", "summary.json", stateFiles(3)];
  const output = makeFolder(temporary.file("run"), ...files);
  {
    using run = RunFolder.open({ output, resume: "auto" });
    assert.ok(run.hasResults);
    run.begin();
    assert.ok(!run.hasResults);
    makeFolder(output, "summary.json");
    run.begin();
    assert.ok(run.hasResults, "those that it has written itself");
  }
  assert.deepEqual(namesIn(output), ["adapter", "run.lock", "states", "summary.json"]);
});

Deno.test("run folder: a run's folder is gone on in, and a state's begins another run", () => {
  using temporary = new TemporaryFolder();
  const run = makeFolder(temporary.file("run"), stateFiles(5), stateFiles(7));
  for (const output of [undefined, run, `${run}/`, join(run, "..", "run")]) {
    using found = RunFolder.open({ resume: `${run}/`, output });
    assert.deepEqual(found.states.map(({ step }) => step), [7, 5]);
    assert.ok(found.existed);
  }
  const other = temporary.file("other");
  refused(
    { resume: run, output: other },
    /resume \S+run goes on in that folder, but output is \S+other;/,
  );
  const state = join(run, "states", stateName(5));
  using fork = RunFolder.open({ resume: state, output: other });
  assert.deepEqual([fork.path, fork.existed, fork.states], [other, false, [{
    path: state,
    step: 5,
  }]]);
  refused({ resume: state, output: run }, /run exists already/);
  refused({ resume: other }, /resume: \S+other does not exist/);
  refused({ resume: makeFolder(temporary.file("empty")) }, /empty has no state to go on from;/);
});

/** Opens the folder in a process of its own, which says how that went and stays until it is killed. */
async function holding(output: string): Promise<{ process: Deno.ChildProcess; said: string }> {
  const module = new URL("../../../train/run/run_folder.ts", import.meta.url);
  const script = `const { RunFolder } = await import(${JSON.stringify(module.href)});
    try { RunFolder.open(${
    JSON.stringify({ output, resume: "auto" })
  }).begin(); console.log("open"); }
    catch (error) { console.log(error.message); }
    setInterval(() => {}, 1000);`;
  const config = fileURLToPath(new URL("../../../deno.json", import.meta.url));
  const process = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", "--no-check", "--config", config, script],
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const reader = process.stdout.getReader(), { value } = await reader.read();
  await reader.cancel();
  return { process, said: new TextDecoder().decode(value) };
}

Deno.test("run folder: a second process is refused, and a killed one leaves no lock", async () => {
  using temporary = new TemporaryFolder();
  const output = temporary.file("run");
  const first = await holding(output);
  assert.equal(first.said, "open\n");
  const second = await holding(output);
  assert.match(
    second.said,
    new RegExp(`another run works in this folder \\(process ${first.process.pid} on \\S+, since 2`),
  );
  refused({ output, resume: "auto" }, /another run works in this folder \(process \d+ on/);
  first.process.kill("SIGKILL");
  await first.process.status;
  using run = RunFolder.open({ output, resume: "auto" });
  assert.ok(run.existed);
  second.process.kill("SIGKILL");
  await second.process.status;
});

Deno.test("line file: cut back to a step, and to its whole lines", () => {
  using temporary = new TemporaryFolder();
  const lines = (steps: number[]) => steps.map((step) => `{"step":${step},"loss":1}\n`).join("");
  const cases: [string, number, string][] = [
    ["", 0, ""],
    ["", 5, ""],
    [lines([1, 2, 3]), 0, ""],
    [lines([1, 2, 3]), 2, lines([1, 2])],
    [lines([1, 2, 3]), 9, lines([1, 2, 3])],
    [lines([1, 2]) + '{"step":3,"lo', 3, lines([1, 2])],
    [lines([1, 2]) + '{"step":3,"lo', 1, lines([1])],
    [lines([1]) + "\0\0\0\0\n", 1, lines([1])],
    [lines([1]) + "\n\n", 4, lines([1])],
    ["{", 4, ""],
    ["\n", 4, ""],
    // Of one step there may be several lines.
    [lines([1, 1, 2, 2]), 1, lines([1, 1])],
  ];
  for (const [before, step, after] of cases) {
    const path = temporary.file("lines.jsonl", before);
    {
      using file = new LineFile(path, step);
      assert.equal(Deno.readTextFileSync(path), after, JSON.stringify([before, step]));
      assert.equal(
        file.last?.step,
        after === "" ? undefined : JSON.parse(after.trimEnd().split("\n").at(-1)!).step,
      );
      file.write({ step: 9, word: "é" });
    }
    assert.equal(Deno.readTextFileSync(path), after + '{"step":9,"word":"é"}\n');
  }
  assert.throws(() => new LineFile(temporary.path, 0), UserError);
  assert.throws(() => new LineFile(join(temporary.path, "no", "x"), 0), UserError);
});
