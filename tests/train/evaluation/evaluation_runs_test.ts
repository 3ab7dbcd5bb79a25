/** Evaluations in a run: they leave it as it is, know their best, end it early, and go on where it is resumed. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { parse as parseCsv } from "csv/sync";
import { eventRecords } from "../../../train/metrics/event.ts";
import { exists, smallData, succeeded, TemporaryFolder, TOKENIZER } from "../../cli/cli.ts";
import { lorikeetHere } from "../../cli/here.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { assertSameValues } from "../../same.ts";

/** Six steps of two micro-batches, two epochs, with all that draws random numbers. */
const RUN = ["--model", "random:tiny", "--tokenizer", TOKENIZER, "--epochs", "2"]
  .concat(["--batch-size", "2", "--gradient-accumulation-steps", "2", "--lora.dropout", "0.1"])
  .concat(["--learning-rate", "3e-3"]);
const EVALUATED = ["--eval-every", "1", "--eval-samples", "2", "--eval-max-tokens", "4"];

type Line = Record<string, unknown> & { step: number };

/** Lines of a file without what the clock says. */
function linesOf(run: string, name: string): Line[] {
  return Deno.readTextFileSync(join(run, name)).trimEnd().split("\n").map((text) => {
    const { seconds: _, ...line } = JSON.parse(text);
    return line;
  });
}

const assertSameFile = (a: string, b: string) =>
  assertSameValues(Deno.readFileSync(a), Deno.readFileSync(b), b);

const readJson = (...path: string[]) => JSON.parse(Deno.readTextFileSync(join(...path)));

/** Steps of the events in a run's event files, in the order in which TensorBoard reads them. */
function eventSteps(run: string): number[] {
  const folder = join(run, "tensorboard");
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort().flatMap((
    name,
  ) => [...eventRecords(Deno.readFileSync(join(folder, name)))]).filter(({ values }) => values).map(
    ({ step }) => step,
  );
}

/** The rows of a CSV file, beside the fields that lines of JSON have for them. */
function assertSameCsv(run: string, name: string) {
  const [fields, ...rows] = parseCsv(Deno.readTextFileSync(join(run, `${name}.csv`))) as string[][];
  const lines = Deno.readTextFileSync(join(run, `${name}.jsonl`)).trimEnd().split("\n")
    .map((text) => JSON.parse(text));
  const scalars = Object.keys(lines[0]).filter((field) => typeof lines[0][field] !== "object");
  assert.deepEqual(fields, scalars);
  assert.deepEqual(rows, lines.map((line) => fields.map((field) => String(line[field] ?? ""))));
}

gpuTest(
  "an evaluated run has the steps, the adapter and the state of one that is not",
  async () => {
    using folder = new TemporaryFolder();
    const data = folder.file("data.json", smallData(12)),
      eval_data = folder.file("e.json", smallData(3));
    const train = async (name: string, ...more: string[]) => {
      const output = folder.file(name),
        flags = [...RUN, "--data", data, "--output", output, ...more];
      return { output, stdout: succeeded(await lorikeetHere("train", flags)) };
    };
    const { output: plain } = await train("plain");
    const all = [...EVALUATED, "--eval-data", eval_data, "--eval-prompts", "Sing, \x1b[2J."];
    const { output, stdout } = await train(
      "evaluated",
      ...all,
      ...["--keep-best", "--tensorboard", "--csv"],
    );
    assert.deepEqual(linesOf(output, "metrics.jsonl"), linesOf(plain, "metrics.jsonl"));
    const tensors = join("adapter", "adapter_model.safetensors");
    assertSameFile(join(output, tensors), join(plain, tensors));
    const state = join("states", "step-00000006", "state.safetensors");
    assertSameFile(join(output, state), join(plain, state));
    assert.ok(!exists(join(plain, "evaluations.jsonl")) && !exists(join(plain, "metrics.csv")));

    const evaluations = linesOf(output, "evaluations.jsonl");
    assert.deepEqual(evaluations.map(({ step }) => step), [0, 1, 2, 3, 4, 5, 6]);
    for (const { loss, perplexity, samples } of evaluations) {
      assert.equal(perplexity, Math.exp(Number(loss)));
      const answers = samples as { prompt: string; answer: string; expected?: string }[];
      assert.deepEqual(answers.map(({ expected }) => expected), ["blue 0", "green 1", undefined]);
      assert.ok(answers[2].prompt.endsWith("### Instruction:\nSing, \x1b[2J.\n\n### Response:"));
    }
    assert.match(stdout, /Held-out loss after step 3: \d+\.\d{4}, perplexity \d+/);
    assert.ok(stdout.includes("Sing, \\x1b[2J.") && !stdout.includes("\x1b"));
    assertSameCsv(output, "metrics");
    assertSameCsv(output, "evaluations");
    assert.deepEqual(eventSteps(output), [
      0,
      ...[1, 2, 3, 4, 5, 6].flatMap((step) => [step, step]),
    ]);

    // The best is what a run has that ends there.
    const { step, loss } = readJson(output, "best", "adapter", "evaluation.json");
    assert.equal(loss, Math.min(...evaluations.slice(1).map(({ loss }) => Number(loss))));
    const { output: short } = await train("short", "--max-steps", String(step));
    assertSameFile(join(output, "best", tensors), join(short, tensors));
    const { best_evaluation, stopped_early } = readJson(output, "summary.json");
    assert.deepEqual([best_evaluation.step, stopped_early], [step, false]);
  },
);

gpuTest("evaluations of a run that is resumed are those of one that was not", async () => {
  using folder = new TemporaryFolder();
  const data = folder.file("data.json", smallData(16)), output = folder.file("run");
  const flags = [
    ...RUN,
    ...EVALUATED,
    "--data",
    data,
    "--eval-fraction",
    "0.25",
    "--output",
    output,
  ]
    .concat(["--save-every", "1", "--keep-states", "9", "--keep-best", "--tensorboard", "--csv"])
    .concat(["--resume", "auto"]);
  const names = ["metrics.jsonl", "evaluations.jsonl"];
  succeeded(await lorikeetHere("train", flags));
  const expected = names.map((name) => linesOf(output, name)), steps = eventSteps(output);
  const best = Deno.readFileSync(join(output, "best", "adapter", "adapter_model.safetensors"));
  const evaluation = readJson(output, "best", "adapter", "evaluation.json");
  // As if it had been killed in a line of its fifth step, while its second state was the last, and it had no CSV yet.
  for (const step of [3, 4, 5, 6]) {
    Deno.removeSync(join(output, "states", `step-0000000${step}`), { recursive: true });
  }
  for (const name of ["summary.json", "adapter", "metrics.csv"]) {
    Deno.removeSync(join(output, name), { recursive: true });
  }
  Deno.writeTextFileSync(join(output, "metrics.jsonl"), '{"step":7,"lo', { append: true });
  const stdout = succeeded(await lorikeetHere("train", flags));
  assert.match(stdout, /Going on after step 2 of 6/);
  assert.doesNotMatch(stdout, /Held-out loss after step [12]:/);
  assert.deepEqual(names.map((name) => linesOf(output, name)), expected);
  assert.deepEqual(eventSteps(output), steps);
  assertSameCsv(output, "metrics");
  assertSameCsv(output, "evaluations");
  const adapter = join(output, "best", "adapter");
  assertSameValues(Deno.readFileSync(join(adapter, "adapter_model.safetensors")), best, "best");
  assert.deepEqual(readJson(adapter, "evaluation.json"), evaluation);
});

gpuTest(
  "a run whose held-out loss no longer falls ends early, well, and knows that it did",
  async () => {
    using folder = new TemporaryFolder();
    const data = folder.file("data.json", smallData(16)), output = folder.file("run");
    const flags = [...RUN, "--data", data, "--eval-fraction", "0.25", "--output", output]
      .concat(["--eval-every", "2", "--early-stopping", "2", "--learning-rate", "0"])
      .concat(["--resume", "auto"]);
    const stdout = succeeded(await lorikeetHere("train", flags));
    const why = "the held-out loss did not fall in 2 evaluations in a row";
    assert.ok(stdout.includes(`Ended early after step 4 of 6: ${why}.`), stdout);
    assert.deepEqual(linesOf(output, "metrics.jsonl").map(({ step }) => step), [1, 2, 3, 4]);
    assert.deepEqual(linesOf(output, "evaluations.jsonl").map(({ step }) => step), [0, 2, 4]);
    assert.equal(readJson(output, "summary.json").stopped_early, true);
    assert.ok(exists(join(output, "adapter")));
    const again = succeeded(await lorikeetHere("train", flags));
    assert.ok(again.includes(`is finished: it ended early after step 4 of 6, as ${why}.`), again);
    // With more patience it goes on.
    const more = succeeded(await lorikeetHere("train", [...flags, "--early-stopping", "3"]));
    assert.match(more, /Going on after step 4 of 6/);
    assert.deepEqual(linesOf(output, "evaluations.jsonl").map(({ step }) => step), [0, 2, 4, 6]);
  },
);

gpuTest("held-out samples without a prompt, and prompts without room, are refused", async () => {
  using folder = new TemporaryFolder();
  const data = folder.file("data.json", smallData(4));
  const texts = folder.file("texts.json", JSON.stringify([{ text: "Blue." }]));
  const train = (...flags: string[]) =>
    lorikeetHere("train", [...RUN, "--data", data, "--output", folder.file("run"), ...flags]);
  const without = await train("--eval-data", texts, "--eval-samples", "1");
  assert.match(without.stderr, /eval_samples is 1, but no held-out sample has a prompt/);
  const long = await train("--eval-data", texts, "--eval-prompts", "word ".repeat(5000));
  assert.match(long.stderr, /a prompt to be answered at evaluations has \d+ tokens/);
  assert.deepEqual([without.code, long.code], [1, 1]);
  assert.ok(!exists(folder.file("run")));
});
