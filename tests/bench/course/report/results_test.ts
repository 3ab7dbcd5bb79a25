/** From made-up measurements to what a report says: which runs are asked for, and their numbers in the tables. */
import assert from "node:assert/strict";
import { lexer, type Tokens } from "marked";
import { lorikeetProgram, Measurements } from "../../../../bench/course/measurements.ts";
import { reportHtml } from "../../../../bench/course/report/html.ts";
import { type Report, reportTables } from "../../../../bench/course/report/markdown.ts";
import { reportPdf } from "../../../../bench/course/report/pdf.ts";
import { collect, type Results } from "../../../../bench/course/report/results.ts";
import { reportOf } from "../../../../bench/course/report/sections.ts";
import { TemporaryFolder } from "../../../cli/cli.ts";

const MEMORY = { parameter: 1, activation: 2, gradient: 3, optimizer: 4, workspace: 5 };
const TRAIN = {
  gpu: "G",
  provider: "dawn",
  tokens: 50,
  planned_mb: 16,
  peak_memory_mb: 15,
  memory_mb: MEMORY,
  seconds: 1.25,
  tokens_per_second: 40,
  step_seconds: [0.5, 0.75],
  first_loss: 2.5,
  last_loss: 1.5,
  losses: [2.5, 1.5],
  steps: 4,
  median_step_seconds: 0.5,
  work: { flops: 4e9 },
};
const REFUSED = { by: "plan", total: 100 * 2 ** 20, needed: { ...MEMORY, parameter: 2 ** 20 } };
const SCALING = {
  rows: [256, 512].map((tokens) => ({
    tokens,
    seconds: tokens / 1000,
    tokens_per_second: 1000,
    useful_tflops_per_second: 1,
    memory_mb: tokens / 10,
  })),
  seconds_fit: { slope: 0.001, intercept: 0, r2: 1 },
  memory_fit: { slope: 0.1, intercept: 0, r2: 1 },
  peak_memory_mb: 51.2,
};
const TIMELINE = {
  model: "random:tiny",
  checkpointing: "none",
  inference: false,
  tokens: 1024,
  gpu: "G",
  provider: "dawn",
  allocated_mb: 17.25,
  peak_mb: 15.5,
  points: ["forward", "backward", "optimizer"].map((phase, launch) => ({
    launch,
    program: "p",
    phase,
    memory_mb: { ...MEMORY, activation: 2 + launch },
  })),
};

const print = (value: unknown) => `echo '${JSON.stringify(value)}'`;

/** A launcher on a GPU where fine-tuning of all weights in fp32 does not fit with AdamW. It notes its commands. */
const launcher = (calls: string) =>
  `echo "$*" >>'${calls}'
case "$*" in
  *device*) ${print({ gpu: "G", provider: "dawn", reason: "for a test", software: false })} ;;
  train*)
    output=\${*#*--output } output=\${output%% *}
    mkdir -p "$output/adapter"
    printf '{"loss": 3.5}\\n{"loss": 0.5}\\n' >"$output/metrics.jsonl"
    ${print({ runtime_s: 9.5, trainable_percent: 2.25, config: {} })} >"$output/summary.json" ;;
  generate*--adapter*) ${print({ text: " it learned " })} ;;
  generate*) ${print({ text: "it guesses | twice" })} ;;
  *timeline*) ${print(TIMELINE)} ;;
  *--tokens*) ${print(SCALING)} ;;
  *--batch-size*"--lora on"*) ${print({ ...TRAIN, memory_mb: { ...MEMORY, gradient: 0.5 } })} ;;
  *--batch-size*) ${print(TRAIN)} ;;
  *"fp32 --lora off"*adamw*) ${print({ refused: REFUSED })}; exit 1 ;;
  *) ${print(TRAIN)} ;;
esac
`;

async function made(folder: TemporaryFolder): Promise<{ results: Results; calls: string[] }> {
  const calls = folder.file("calls", "");
  const program = lorikeetProgram("sh", [folder.file("launcher.sh", launcher(calls))]);
  const measurements = await Measurements.open(folder.file("course"), "auto", program);
  const results = await collect(measurements, {
    model: "random:tiny",
    layers: 1,
    samples: 2,
    gpu: "auto",
    optimizer: "adamw",
    learning_rate: 1e-5,
    trust_plan: true,
  });
  return { results, calls: Deno.readTextFileSync(calls).trim().split("\n") };
}

/** The rows of the tables whose captions begin so. */
function tablesOf({ sections }: Report, caption: string): string[][][] {
  const pieces = sections.flat().filter((piece) => piece.startsWith(caption));
  const blocks = pieces.flatMap((piece) => lexer(piece));
  const tables = blocks.filter((block): block is Tokens.Table => block.type === "table");
  const letters = ({ text }: Tokens.TableCell) => text.replaceAll(/\\(.)/g, "$1");
  return tables.map(({ header, rows }) => [header, ...rows].map((row) => row.map(letters)));
}

/** The rows of the only table with this caption. */
function rowsOf(report: Report, caption: string): string[][] {
  const [rows, ...others] = tablesOf(report, caption);
  assert.ok(rows && others.length === 0, caption);
  return rows;
}

Deno.test("report: what is missing is measured once, and told as one would type it", async () => {
  using folder = new TemporaryFolder();
  const { results, calls } = await made(folder);
  const { commands } = results, typed = (command: string) => command.replaceAll('"', "");
  // The rest is the device and the runs of both tables: 16 with 4 more with SGD, and 5.
  assert.deepEqual(
    commands.map(typed),
    calls.slice(1 + 20 + 5).map((call) => `./lorikeet ${call}`),
  );
  assert.equal(commands.length, 1 + 3 + 1 + 1 + 10);
  assert.ok(
    calls.every((call) => !/bench t(rain|imeline)/.test(call) || /--layers 1\b/.test(call)),
  );
  assert.match(commands.at(-1)!, /^\.\/lorikeet generate .*--adapter \S+ --prompt "What /);
  const again = await made(folder);
  assert.deepEqual(again.calls, [calls[0]], "the device alone is asked for");
  assert.deepEqual(again.results, results);
});

Deno.test("report: the numbers in its tables are those that were measured", async () => {
  using folder = new TemporaryFolder();
  const report = await reportOf((await made(folder)).results);
  assert.equal(report.subtitle.replace(/Lorikeet .*/, ""), "random:tiny on G, ");
  const row = (caption: string, first: string) =>
    rowsOf(report, caption).filter(([name]) => name === first).map((cells) => cells.slice(1));
  assert.deepEqual(row("Table 1", "Memory: gradient"), [["−", "−", "−", "↓"]]);
  assert.deepEqual(row("The numbers behind it", "Memory: gradient (MB)")[0].slice(2), [
    ...["3.000 → 3.000", "3.000 → 0.500"],
  ]);
  for (const mode of ["off", "on, every block"]) {
    const caption = `Table 2, gradient checkpointing ${mode}`;
    const fits = ["15.0", "15.0", "15.0"], time = ["1.25", "1.25", "1.25"];
    const shown = (once: string, others: string[]) => [[once, ...others, once, ...others]];
    assert.deepEqual(row(caption, "Peak Mem (MB)"), shown("×", fits));
    assert.deepEqual(row(caption, "Runtime (s)"), shown("×", time));
    assert.deepEqual(row(caption, "Needed (MB)"), shown("100.0", ["", "", ""]));
    assert.deepEqual(row(caption, "Peak Mem with SGD (MB)"), shown("15.0", ["", "", ""]));
  }
  assert.deepEqual(rowsOf(report, "All runs")[1], [
    ...["OFF", "OFF", "OFF", "none", "adamw", "no (plan)", "100.0", "×", "", "×", "×", "×", "×"],
  ]);
  assert.equal(rowsOf(report, "All runs").length, 1 + 20);
  assert.deepEqual(row("Most in use", "without checkpointing")[0], ["7.00", "15.50", "17.25", "3"]);
  const [lengths, intervals] = tablesOf(report, "The same in numbers");
  assert.deepEqual(lengths.slice(1), [
    ...[["256", "256.0", "1000", "25.6"], ["512", "512.0", "1000", "51.2"]],
  ]);
  assert.deepEqual(intervals.slice(1), [["1", "51.20", "512.0"]]);
  // One block of random:tiny has 111,808 weights; rank 1 on q and v adds 2 · 64 and 64 + 32.
  assert.equal(row("Trainable parameters", "1")[0][0], (100 * 224 / (111_808 + 224)).toFixed(4));
  const answers = rowsOf(report, "builtin, greedy");
  assert.deepEqual(answers.slice(1).map((cells) => cells.slice(2)), [
    ...Array(5).fill(["it guesses | twice", "it learned"]),
  ]);
  const text = JSON.stringify(report.sections);
  assert.match(text, /2\.25 % of all parameters\), 2 steps in 9\.5 s/);
  assert.match(text, /Least memory here: k = 1\./);

  // All three files have all of it.
  const [html, markdown] = [reportHtml(report), reportTables(report)];
  const tables = tablesOf(report, "");
  assert.equal(tables.length, 10);
  for (const cell of tables.flat(2)) {
    assert.ok(html.includes(cell.replaceAll("&", "&amp;").replaceAll('"', "&quot;")), cell);
    assert.ok(markdown.includes(cell.replaceAll("|", "\\|")), cell);
  }
  const pdf = new TextDecoder("latin1").decode(await reportPdf(report));
  assert.ok([...pdf.matchAll(/\/Type \/Page\b/g)].length >= 4);
});
