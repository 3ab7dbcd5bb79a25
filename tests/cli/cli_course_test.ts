/**
 * `lorikeet train` without arguments, `bench table2`, `bench table1` and `report` from end to end, with one folder of
 * measurements: what one of them has measured, the next one finds there. Most runs of a series are made in this
 * process, some by the launcher, as all of a user's are.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import {
  lorikeetProgram,
  type Measured,
  Measurements,
  type Program,
} from "../../bench/course/measurements.ts";
import { collect } from "../../bench/course/report/results.ts";
import { type Effect, table1 } from "../../bench/course/table1.ts";
import {
  combinations,
  nameOf,
  table2,
  type Table2Row,
  type Table2Settings,
} from "../../bench/course/table2.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import { ROOT } from "../../scripts/compile.ts";
import { readTrainArguments } from "../../train/config/config.ts";
import { gpuTest } from "../kernels/harness.ts";
import { exists, lorikeet, succeeded, TemporaryFolder, TOKENIZER } from "./cli.ts";
import { lorikeetHere } from "./here.ts";

const temporary = new TemporaryFolder();
addEventListener("unload", () => temporary[Symbol.dispose]());
const folder = temporary.file("course");
Deno.mkdirSync(folder);

/** What every series is told: all blocks of the smallest model, named as a part of it, and short texts. */
const SETTINGS: Table2Settings = {
  model: "random:tiny",
  layers: 2,
  data: temporary.file(
    "data.json",
    JSON.stringify(Array.from({ length: 32 }, (_, i) => ({ text: `${i} birds` }))),
  ),
  tokenizer: TOKENIZER,
  samples: 2,
  gpu: "deno",
  optimizer: "adamw",
  learning_rate: 1e-5,
  trust_plan: false,
};

/** A command of a series on that; `bench table1` counts its samples itself. */
function onSubject(...command: string[]): string[] {
  const { model, layers, data, tokenizer, samples, gpu } = SETTINGS;
  const subject = Object.entries({ model, layers, data, tokenizer, gpu, folder });
  if (!command.includes("table1")) subject.push(["samples", samples]);
  return [...command, ...subject.flatMap(([name, value]) => [`--${name}`, `${value}`])];
}

/** Starts it by the launcher. */
function start(...command: string[]): Deno.ChildProcess {
  return new Deno.Command(join(ROOT, "lorikeet"), {
    args: onSubject(...command),
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** What it prints in this process; the runs that it asks for are the launcher's. */
async function printedHere(...command: string[]): Promise<string> {
  const [first, ...args] = onSubject(...command);
  return succeeded(await lorikeetHere(first, args));
}

/** The README's first command, run once: its output folder, and what it printed. */
let first: Promise<{ output: string; said: string }> | undefined;
const trained = () =>
  first ??= (async () => {
    const output = temporary.file("run");
    return { output, said: succeeded(await lorikeet("train", ["--output", output])) };
  })();

/** What a report asks for on a software driver, and shorter texts that take the same way. */
const LENGTHS = new Map([["128,256,512,1024", "16,32,64,128"], ["16,256", "16,32"]]);

/** Lorikeet's commands in this process. What a report trains is what the README's first command has trained. */
const here: Program = {
  args: [],
  sources: lorikeetProgram().sources,
  run: async ([command, ...args]) => {
    if (command !== "train") {
      return await lorikeetHere(command, args.map((arg) => LENGTHS.get(arg) ?? arg));
    }
    const { config } = readTrainArguments(args), { output, said } = await trained();
    const summary = JSON.parse(Deno.readTextFileSync(join(output, "summary.json")));
    const same = { ...config, output, gpu: summary.config.gpu };
    assert.deepEqual(JSON.parse(JSON.stringify(same)), summary.config);
    Deno.renameSync(output, config.output ?? assert.fail());
    return { code: 0, stdout: said, stderr: "" };
  },
};

gpuTest(
  "cli: train without arguments teaches the built-in model, and generate shows it",
  async () => {
    const { output, said } = await trained();
    const counts = /^Right answers: (\d+) of 12 before, (\d+) of 12 after\.$/m.exec(said);
    assert.ok(counts, said);
    assert.ok(Number(counts[1]) <= 2 && Number(counts[2]) >= 9, counts[0]);
    const { first_loss, last_loss } = JSON.parse(
      Deno.readTextFileSync(join(output, "summary.json")),
    );
    assert.ok(first_loss > 2 && last_loss < 0.15, `${first_loss} to ${last_loss}`);

    const shown = [...said.matchAll(/^ {4}after {2}[✓✗] (.*)$/gm)].map(([, answer]) => answer);
    const answered = await lorikeetHere("generate", [
      ...["--model", "builtin", "--adapter", join(output, "adapter"), "--max-tokens", "20"],
      ...["--data", join(ROOT, "examples/builtin/held_out.json"), "--batch-size", "5", "--json"],
    ]);
    const texts = succeeded(answered).trim().split("\n").map((line) =>
      JSON.parse(line).text.trim()
    );
    assert.equal(shown.length, 12);
    // Training keeps activations in f16 and generate in f32: a close call may fall the other way.
    const same = texts.filter((text, i) => text.replaceAll("\n", "⏎") === shown[i]).length;
    assert.ok(same >= 11, `${same} of 12 answers are those that train showed`);
  },
);

const measurements = () =>
  [...Deno.readDirSync(folder)].map(({ name }) => name)
    .filter((name) => /^table2-.*\.json$/.test(name));

const read = (name: string): Measured =>
  JSON.parse(Deno.readTextFileSync(join(folder, `${name}.json`)));

const TABLE2 = ["bench", "table2", "--json"];

gpuTest("cli: bench table2, killed in the middle, keeps what it measured and ends", async () => {
  const killed = start(...TABLE2), output = killed.output();
  const ended = output.then(() => true);
  while (measurements().length < 1 && !await Promise.race([ended, setTimeout(20, false)]));
  killed.kill("SIGKILL");
  const { signal, stderr } = await output;
  assert.equal(signal, "SIGKILL", new TextDecoder().decode(stderr));
  const before = new Map(
    measurements().map((name) => [name, Deno.readTextFileSync(join(folder, name))]),
  );
  const table = await table2(await Measurements.open(folder, "deno", here), SETTINGS);
  for (const [name, text] of before) {
    assert.equal(Deno.readTextFileSync(join(folder, name)), text, "measured again");
    const { result } = JSON.parse(text);
    assert.ok(table.rows.some(({ losses }) => losses?.join() === result.losses.join()), name);
  }
  assert.equal(measurements().length, 16);
  assert.deepEqual(
    table.rows.map((
      { gradient_accumulation, mixed_precision, lora, checkpointing, optimizer },
    ) => ({
      gradient_accumulation,
      mixed_precision,
      lora,
      checkpointing,
      optimizer,
    })),
    combinations("adamw"),
  );
  for (const row of table.rows) {
    assert.ok(row.fits && row.runtime_s! > 0 && row.peak_memory_mb! <= row.planned_mb);
    assert.deepEqual([row.losses!.length, row.step_seconds!.length], [
      2,
      row.gradient_accumulation ? 1 : 2,
    ]);
  }
  const [{ memory_mb: full }, { memory_mb: lora }] = table.rows;
  assert.ok(lora.gradient < full.gradient && lora.optimizer < full.optimizer);

  // The command measures what is missing, and takes the rest from the folder.
  const last = `table2-${nameOf(table.rows[15])}`;
  Deno.removeSync(join(folder, `${last}.json`));
  const again = JSON.parse(await printedHere(...TABLE2));
  assert.deepEqual(again.rows.slice(0, 15), JSON.parse(JSON.stringify(table.rows.slice(0, 15))));
  assert.deepEqual(again.rows[15].losses, table.rows[15].losses);
});

gpuTest("cli: bench table1 derives every arrow from what it measured", async () => {
  const table = await table1(await Measurements.open(folder, "deno", here), SETTINGS);
  assert.equal(table.layers, openModel("random:tiny").config.num_hidden_layers);
  const effect = (quantity: string, technique: string): Effect =>
    table.effects.find((e) => e.quantity === quantity && e.technique === technique)!;
  for (const { arrow, with: now, without } of table.effects) {
    assert.ok(arrow === "−" || (arrow === "↑") === (now > without));
  }
  const arrows = (quantity: string) =>
    ["gradient_accumulation", "gradient_checkpointing", "mixed_precision", "lora"]
      .map((technique) => effect(quantity, technique).arrow).join("");
  assert.equal(arrows("Memory: parameter"), "−−↑↑");
  assert.equal(arrows("Memory: activation").slice(0, 3), "↓↓↓");
  assert.equal(arrows("Memory: gradient"), "−−−↓");
  assert.equal(arrows("Memory: optimizer state"), "−−−↓");
  assert.equal(arrows("Computation"), "−↑−↓");
  // Without a GPU and the measurements it would need some: they are all there, and print the same.
  assert.deepEqual(JSON.parse(await printedHere("bench", "table1", "--json")), table);
  assert.match(succeeded(await lorikeetHere("bench", ["table1", "--help"])), /--folder/);
});

const SECTIONS = [
  ...["What each technique does", "Memory and time of every combination of techniques"],
  ...["Where the memory goes", "Loss", "Memory over one step"],
  ...["Time and memory against sequence length", "Time and memory against checkpoint interval"],
  ...["LoRA rank against trainable parameters", "Answers before and after fine-tuning"],
  "Hardware, versions and commands",
];

gpuTest("cli: report measures, and writes the same in HTML, PDF and Markdown", async () => {
  await collect(await Measurements.open(folder, "deno", here), SETTINGS);
  // The launcher measures what is missing, and takes the rest from the folder.
  const missing = join(folder, "timeline-inference.json");
  Deno.removeSync(missing);
  const { code, stdout, stderr } = await start("report").output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  const names = new TextDecoder().decode(stdout);
  assert.ok(exists(missing));
  const [html, pdf, markdown] = ["report.html", "report.pdf", "tables.md"].map((name) => {
    const path = join(folder, name);
    assert.ok(names.includes(path));
    return new TextDecoder("latin1").decode(Deno.readFileSync(path));
  });

  assert.deepEqual([...html.matchAll(/<h2>([^<]*)<\/h2>/g)].map(([, text]) => text), SECTIONS);
  assert.doesNotMatch(html, /https?:\/\/|<script|@import|url\(/);
  assert.equal([...html.matchAll(/<img src="data:image\/svg\+xml;base64,/g)].length, 13);
  assert.match(pdf, /^%PDF-1\.\d[^]*%%EOF\s*$/);
  assert.ok([...pdf.matchAll(/\/Type \/Page\b/g)].length >= 4);

  // The rows are those that were measured.
  const name = "table2-accumulation-8-mixed-lora-on-checkpointing-block-adamw";
  const { result } = read(name);
  const { peak_memory_mb, first_loss } = result as unknown as Required<Table2Row>;
  for (const text of [html, markdown]) {
    assert.ok(text.includes(peak_memory_mb.toFixed(1)) && text.includes(first_loss.toFixed(4)));
  }
  assert.match(html, /Counted for the first 2 blocks of random:tiny, /);
});
