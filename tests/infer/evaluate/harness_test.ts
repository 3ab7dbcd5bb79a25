/** `lorikeet evaluate` beside lm-evaluation-harness on the same files (tests/fixtures/make_evaluate.py). */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { fixturePath } from "../../fixtures.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { succeeded, TemporaryFolder } from "../../cli/cli.ts";
import { lorikeetHere } from "../../cli/here.ts";

/** A number, or words such as N/A. */
type Told = number | string;
/** A row: the first context, the responses, and what the filters left of them. */
type Row = [context: string, resps: unknown, filtered: unknown];

interface Expected {
  results: Record<string, Record<string, Told>>;
  rows: Record<string, Row[]>;
}

const EXPECTED: Record<string, Expected> = JSON.parse(
  Deno.readTextFileSync(fixturePath("evaluate/expected.json")),
);

/**
 * Log-likelihoods, of which float32 sums are as far apart as this, are equal. One of these, -288.06887 in float64, is
 * -288.06891 by PyTorch, -288.06896 by the programs for software drivers and -288.06876 by those for GPUs.
 */
function isNear(actual: unknown, expected: number): boolean {
  return typeof actual === "number" &&
    Math.abs(actual - expected) <= 1e-4 + 5e-7 * Math.abs(expected);
}

/** Numbers with fractions near each other, and all else the same. */
function assertResponses(actual: unknown, expected: unknown, what: string): void {
  if (Array.isArray(expected)) {
    assert.ok(Array.isArray(actual) && actual.length === expected.length, what);
    expected.forEach((each, i) => assertResponses(actual[i], each, what));
  } else if (typeof expected === "number") {
    assert.ok(isNear(actual, expected), `${what}: ${actual}, not ${expected}`);
  } else assert.equal(actual, expected, what);
}

/** Metrics that are fractions of rows are the same; others follow from log-likelihoods. */
function assertMetric(actual: Told, expected: Told, what: string): void {
  if (typeof expected === "string" || /^(?:acc|exact_match|f1|mcc)/.test(what)) {
    if (typeof expected === "number") assert.ok(Math.abs(Number(actual) - expected) < 1e-12, what);
    else assert.equal(actual, expected, what);
  } else {
    const difference = Math.abs(Number(actual) / expected - 1);
    assert.ok(difference < 1e-4, `${what}: ${actual}, not ${expected}`);
  }
}

/** Runs the command and compares all of its results with what lm-evaluation-harness has for these names. */
async function compare(
  names: readonly string[],
  args: readonly string[],
  model = "builtin",
): Promise<void> {
  using folder = new TemporaryFolder();
  const samples = folder.file("samples.jsonl"), output = folder.file("results.json");
  const common = ["--model", model, "--precision", "fp32", "--bootstrap-iters", "2000"];
  const files = ["--output", output, "--log-samples", samples, "--json"];
  const outcome = await lorikeetHere("evaluate", [...common, ...files, ...args]);
  const printed = JSON.parse(succeeded(outcome));
  assert.deepEqual(JSON.parse(Deno.readTextFileSync(output)), printed);
  const lines = Deno.readTextFileSync(samples).trimEnd().split("\n").map((line) =>
    JSON.parse(line)
  );
  const told = names.map((name) => EXPECTED[name]);
  const results = Object.assign({}, ...told.map(({ results }) => results));
  assert.deepEqual(Object.keys(printed.results).sort(), Object.keys(results).sort());
  for (const [task, metrics] of Object.entries<Record<string, Told>>(results)) {
    const { alias: _, sample_len: __, ...actual } = printed.results[task];
    assert.deepEqual(Object.keys(actual).sort(), Object.keys(metrics).sort());
    for (const [name, value] of Object.entries(metrics)) assertMetric(actual[name], value, name);
  }
  for (const [task, rows] of told.flatMap(({ rows }) => Object.entries(rows))) {
    const own = lines.filter((line) => line.task === task);
    assert.equal(own.length, rows.length, task);
    rows.forEach(([context, resps, filtered], i) => {
      const what = `${task}, row ${own[i].doc_id}`;
      assert.equal(own[i].arguments[0][0], context, what);
      assertResponses(own[i].resps, resps, what);
      assertResponses(own[i].filtered_resps, filtered, what);
    });
  }
}

/** The flags that name task files. */
const tasks = (...names: string[]) =>
  names.flatMap((name) => ["--tasks", fixturePath(`evaluate/${name}.yaml`)]);

gpuTest("evaluate: choices, words and generated answers are lm-evaluation-harness's", async () => {
  const names = ["birds", "birds_word", "birds_answer", "birds_several"];
  await compare(names, tasks(...names));
});

gpuTest("evaluate: the batch changes nothing", async () => {
  const names = ["birds_word", "birds_answer"];
  await compare(names, [...tasks(...names), "--batch-size", "1"]);
});

gpuTest("evaluate: perplexities of texts longer than the model reads are its, too", async () => {
  await compare(["birds_text"], [...tasks("birds_text"), "--max-length", "48"]);
});

gpuTest("evaluate: contexts are cut from the left, and more examples drawn", async () => {
  const flags = ["--max-length", "40", "--limit", "5", "--num-fewshot", "4"];
  await compare(["short"], [...tasks("birds_choice"), ...flags]);
});

gpuTest("evaluate: another seed, a share of the rows and an instruction before all", async () => {
  const flags = ["--limit", "0.2", "--fewshot-seed", "99", "--system-instruction", "Be brief."];
  await compare(["seeded"], [...tasks("birds_choice"), ...flags]);
});

/** The built-in model with the fixture's chat template. */
function chatModel(folder: TemporaryFolder): string {
  const from = fileURLToPath(new URL("../../../examples/builtin/model", import.meta.url));
  for (const { name } of Deno.readDirSync(from)) {
    Deno.copyFileSync(join(from, name), folder.file(name));
  }
  const template = "chat_template.jinja";
  Deno.copyFileSync(fixturePath(`evaluate/${template}`), folder.file(template));
  return folder.path;
}

gpuTest("evaluate: conversations are rendered, and one without its system message", async () => {
  using folder = new TemporaryFolder();
  const model = chatModel(folder), chat = ["--apply-chat-template", "--limit", "3"];
  const choice = [...tasks("birds_choice"), ...chat];
  await compare(["chat"], choice, model);
  await compare(["chat_refused"], [...choice, "--num-fewshot", "4"], model);
  const oneTurn = ["--no-fewshot-as-multiturn", "--system-instruction", "Be brief."];
  await compare(["chat_one_turn"], [...choice, ...oneTurn], model);
  await compare(["chat_prefix"], [...tasks("birds_several"), ...chat], model);
});

gpuTest("evaluate: people get a table, groups before their tasks", async () => {
  const args = ["--model", "builtin", "--limit", "1", ...tasks("birds")];
  const outcome = await lorikeetHere("evaluate", args);
  const [header, rule, ...rows] = succeeded(outcome).trimEnd().split("\n");
  assert.match(header, /^\|Tasks +\|Version\|Filter\|n-shot\|Metric +\| \| Value\| \|Stderr\|$/);
  assert.ok(rows.every((row) => row.length === rule.length));
  const names = rows.map((row) => row.split("|")[1].trimEnd()).filter((name) => name !== "");
  assert.deepEqual(names, [
    "All birds",
    " - birds_choice",
    " - letters",
    " - birds::places",
    "  - birds_place",
    "  - birds::places::one_shot",
  ]);
  assert.match(rows[0], /\|acc +\|↑\|[01]\.\d{4}\|±\| +N\/A\|$/);
});
