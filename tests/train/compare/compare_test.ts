/** Tables of runs: what is read of a folder whatever state it is in, and how runs stand side by side. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { parse as parseCsv } from "csv/sync";
import { csvLine } from "../../../train/metrics/csv.ts";
import {
  comparisonCsv,
  comparisonTable,
  differingKeys,
} from "../../../train/compare/comparison.ts";
import { readRun } from "../../../train/compare/run_record.ts";
import { refused, succeeded, TemporaryFolder } from "../../cli/cli.ts";
import { lorikeetHere } from "../../cli/here.ts";

/** What a run is made of. */
interface Made {
  config?: Record<string, unknown>;
  losses?: (number | null)[];
  evaluations?: [step: number, loss: number][];
  summary?: Record<string, unknown>;
  /** What follows the lines of metrics.jsonl. */
  tail?: string;
}

const CONFIG = { learning_rate: 1e-3, seed: 42, epochs: 2, output: "x", lora: { rank: 8 } };

/** The folder of a run with steps of 100 tokens and half a second. */
function makeRun(folder: TemporaryFolder, name: string, made: Made = {}): string {
  const path = folder.file(name);
  Deno.mkdirSync(path);
  const { config = CONFIG, losses = [3, 1.5, 2], evaluations = [], summary, tail = "" } = made;
  const write = (file: string, text: string) => Deno.writeTextFileSync(join(path, file), text);
  write("config.yaml", JSON.stringify(config)); // JSON is YAML
  const lines = losses.map((loss, i) =>
    JSON.stringify({ step: i + 1, loss, tokens: 100, seconds: 0.5, skipped: i === 1 }) + "\n"
  );
  write("metrics.jsonl", lines.join("") + tail);
  if (evaluations.length > 0) {
    const found = evaluations.map(([step, loss]) => ({ step, loss, perplexity: Math.exp(loss) }));
    write("evaluations.jsonl", found.map((line) => JSON.stringify(line) + "\n").join(""));
  }
  if (summary !== undefined) write("summary.json", JSON.stringify({ config, ...summary }));
  return path;
}

Deno.test("compare: a run's figures are those of its lines", () => {
  using folder = new TemporaryFolder();
  const run = readRun(makeRun(folder, "run", {
    evaluations: [[0, 3.5], [2, 1.25], [3, 1.5]],
    summary: { peak_memory_mb: 41.5 },
  }));
  assert.deepEqual({ ...run, run: "" }, {
    run: "",
    state: "finished",
    resumable_from: null,
    steps: 3,
    first_loss: 3,
    last_loss: 2,
    best_loss: 1.5,
    evaluations: 3,
    last_eval_loss: 1.5,
    best_eval_loss: 1.25,
    perplexity: Math.exp(1.25),
    best_step: 2,
    tokens: 300,
    seconds: 1.5,
    tokens_per_second: 200,
    skipped_steps: 1,
    peak_memory_mb: 41.5,
    config: { learning_rate: 1e-3, seed: 42, epochs: 2, output: "x", lora: "on", "lora.rank": 8 },
  });
});

Deno.test("compare: each state of a run is told, and what is broken by file and line", () => {
  using folder = new TemporaryFolder();
  const make = (name: string, made: Made = {}) => makeRun(folder, name, made);
  const stateOf = (path: string) => readRun(path).state;
  assert.equal(stateOf(make("early", { summary: { stopped_early: true } })), "stopped early");
  assert.equal(stateOf(make("none", { losses: [] })), "not begun");
  assert.equal(stateOf(make("diverged", { losses: [3, null] })), "diverged");
  // A line that has no end is one that is being written, or was cut off by a kill.
  const cut = make("cut", { tail: '{"step": 4, "lo' });
  Deno.mkdirSync(join(cut, "states/step-00000002"), { recursive: true });
  const interrupted = readRun(cut);
  assert.deepEqual(
    [interrupted.state, interrupted.steps, interrupted.resumable_from],
    ["interrupted", 3, 2],
  );

  const broken = (name: string, problem: RegExp, made: Made, also?: [string, string]) => {
    const path = make(name, made);
    if (also) Deno.writeTextFileSync(join(path, also[0]), also[1]);
    const run = readRun(path);
    assert.equal(run.state, "broken", name);
    assert.match(run.problem ?? "", problem);
    return run;
  };
  const torn = broken("torn", /^metrics\.jsonl, line 4 is no JSON$/, { tail: "{\n" });
  assert.deepEqual([torn.steps, torn.last_loss], [3, 2]);
  broken("text", /^metrics\.jsonl, line 4 is of no step$/, { tail: "7\n" });
  broken("twice", /^metrics\.jsonl, line 4 is of step 2, after 3$/, { tail: '{"step":2}\n' });
  broken("summary", /summary\.json: is not valid JSON/, {}, ["summary.json", "{"]);
  broken("config", /config\.yaml: is no YAML/, {}, ["config.yaml", "{a: [}"]);
  const empty = folder.file("empty");
  Deno.mkdirSync(empty);
  assert.match(readRun(empty).problem ?? "", /holds no metrics\.jsonl/);
  assert.equal(stateOf(empty), "broken");
});

Deno.test("compare: a run is running while a process holds its lock, and asking takes none", async () => {
  using folder = new TemporaryFolder();
  const run = makeRun(folder, "run"), lock = join(run, "run.lock");
  Deno.writeTextFileSync(lock, "{}");
  Deno.chmodSync(lock, 0o444);
  assert.equal(readRun(run).state, "interrupted");
  Deno.chmodSync(lock, 0o644);
  const holder = new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      `const file = Deno.openSync(${JSON.stringify(lock)}, { write: true });
       if (!file.tryLockSync(true)) Deno.exit(1);
       console.log("held"); await new Promise((done) => setTimeout(done, 60_000));`,
    ],
    stdout: "piped",
  }).spawn();
  const reader = holder.stdout.getReader();
  await reader.read();
  assert.equal(readRun(run).state, "running");
  holder.kill();
  await reader.cancel();
  await holder.status;
  assert.equal(readRun(run).state, "interrupted");
});

Deno.test("compare: the keys that differ have columns, those that no run has a value for have none", () => {
  using folder = new TemporaryFolder();
  const runs = [
    makeRun(folder, "a", { evaluations: [[0, 3]] }),
    makeRun(folder, "b", {
      config: {
        ...CONFIG,
        learning_rate: 3e-4,
        output: "y",
        lora: { rank: 16 },
        max_grad_norm: 1,
        csv: true,
      },
      losses: [3.25],
    }),
    makeRun(folder, "c", { config: {}, losses: [null] }),
  ].map((path) => ({ ...readRun(path), run: path.slice(-1) }));
  assert.deepEqual(differingKeys(runs), ["lora.rank", "max_grad_norm"]);
  assert.equal(
    comparisonTable(runs),
    [
      "run  state        steps  first loss    last    best  held-out  perplexity  at step      lr  seed  lora.rank  max_grad_norm  tokens/s  skipped",
      "a    interrupted      3      3.0000  2.0000  1.5000    3.0000       20.09        0   0.001    42          8              –       200        1",
      "b    interrupted      1      3.2500  3.2500  3.2500         –           –        –  0.0003    42         16              1       200        –",
      "c    diverged         1           –       –       –         –           –        –       –     –          –              –       200        –",
    ].join("\n"),
  );
  const [head, ...rows] = parseCsv(comparisonCsv(runs)) as string[][];
  assert.equal(rows.length, 3);
  const field = (row: number, name: string) => rows[row][head.indexOf(name)];
  assert.deepEqual(["run", "last_loss", "lora.rank"].map((name) => field(0, name)), [
    "a",
    "2",
    "8",
  ]);
  assert.deepEqual(["max_grad_norm", "learning_rate"].map((n) => field(1, n)), ["1", "0.0003"]);
  assert.equal(field(2, "last_loss"), "");
});

Deno.test("compare: fields of CSV are read back as they were, whatever is in them", () => {
  const rows = [["a,b", 'say "x"', "two\nlines", " spaced ", "", "\r", "é"], [1.5e-7, true, null]];
  const text = rows.map(csvLine).join("");
  const read = parseCsv(text, { relax_column_count: true });
  assert.deepEqual(read, [rows[0], ["1.5e-7", "true", ""]]);
});

Deno.test("compare: the command prints a table, JSON or CSV, and names what is no run", async () => {
  using folder = new TemporaryFolder();
  const a = makeRun(folder, "a"), b = makeRun(folder, "b\x1b[2J", { summary: {} });
  const table = succeeded(await lorikeetHere("compare", [a, b]));
  assert.match(
    table,
    /^run +state +steps .*\n.*\/a +interrupted +3 .*\n.*\/b\\x1b\[2J +finished +3 /,
  );
  const { runs, differing_keys } = JSON.parse(
    succeeded(await lorikeetHere("compare", [a, b, "--json"])),
  );
  assert.deepEqual([runs[0].run, runs[1].state, differing_keys], [a, "finished", []]);
  assert.match(succeeded(await lorikeetHere("compare", ["--csv", a])), /^run,state,problem,steps,/);
  refused(await lorikeetHere("compare", []), 2, "no run is named");
  refused(await lorikeetHere("compare", [a, "--json", "--csv"]), 2, "exclude each other");
  refused(await lorikeetHere("compare", [folder.file("c")]), 1, "does not exist");
  refused(await lorikeetHere("compare", [join(a, "metrics.jsonl")]), 1, "is no folder");
});
