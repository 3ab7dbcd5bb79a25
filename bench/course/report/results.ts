/**
 * The measurements that a report is made of: from the folder where they are there, else measured now.
 *
 * @module
 */
import { join } from "node:path";
import { present } from "../../../kernels/present.ts";
import { UserError } from "../../../kernels/errors.ts";
import { ProgressBar } from "../../../cli/progress.ts";
import { readJson } from "../../../model/files/json_file.ts";
import { exists } from "../../../model/files/whole_file.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import type { Measurements } from "../measurements.ts";
import type { Scaling } from "../../scaling.ts";
import { type Table1, table1 } from "../table1.ts";
import { type Table2, table2, type Table2Settings } from "../table2.ts";
import type { Timeline } from "../timeline.ts";

/** Time and memory of a step with the input of every k-th block kept. */
export interface Interval {
  k: number;
  seconds: number;
  memory_mb: number;
}

/** One prompt with what is expected and what the model says. */
export interface Answers {
  prompt: string;
  expected: string;
  before: string;
  after: string;
}

/** A run of `lorikeet train`. */
export interface Training {
  model: string;
  /** Of each optimizer step. */
  losses: number[];
  seconds: number;
  trainable_percent: number;
}

/** Everything that a report shows. */
export interface Results {
  table1: Table1;
  table2: Table2;
  /** Blocks of the model that were used, where not all. */
  layers?: number;
  scaling: Scaling;
  /** The model of the timelines and intervals, and its blocks. */
  deep: { model: string; blocks: number; tokens: number };
  timelines: Timeline[];
  intervals: Interval[];
  training: Training;
  answers: Answers[];
  /** What was run, in order, as one would type it. */
  commands: string[];
}

/** A model's own samples have to be there for it to be trained. */
const trainable = (model: string) => model.startsWith("random:") ? "builtin" : model;

const HELD_OUT = new URL("../../../examples/builtin/held_out.json", import.meta.url);
/** Prompts that are answered before and after training. */
const PROMPTS = 5;

interface Sample {
  instruction: string;
  input: string;
  output: string;
}

/** Prompts of all kinds, which stand one kind after the other in the file. */
function heldOut(): Sample[] {
  const samples = JSON.parse(Deno.readTextFileSync(HELD_OUT)) as Sample[];
  return Array.from(
    { length: PROMPTS },
    (_, i) => samples[Math.floor(i * samples.length / PROMPTS)],
  );
}

/** The powers of two up to n, and ⌈√n⌉. */
export function checkpointIntervals(blocks: number): number[] {
  const powers = Array.from({ length: Math.floor(Math.log2(blocks)) + 1 }, (_, i) => 2 ** i);
  return [...new Set([...powers, Math.ceil(Math.sqrt(blocks))])].sort((a, b) => a - b);
}

/** Runs one measurement after the other, with a line that tells how far it is. */
class Series {
  readonly commands: string[] = [];
  readonly #bar: ProgressBar;
  #done = 0;

  constructor(readonly measurements: Measurements, total: number) {
    this.#bar = new ProgressBar("Measurements", total);
  }

  /** @throws {UserError} where it does not fit the GPU. */
  async measure<T>(name: string, command: readonly string[]): Promise<T> {
    const { result } = await this.measurements.measure(name, command);
    if (result === undefined) {
      throw new UserError(
        `${command.join(" ")} does not fit the GPU's memory; expected a smaller --model`,
      );
    }
    this.note(name, command);
    return result as T;
  }

  note(name: string, command: readonly string[]): void {
    const words = command.map((word) =>
      /^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word)
    );
    this.commands.push(["./lorikeet", ...words].join(" "));
    this.#bar.update(++this.#done, name);
  }
}

/** The lines of a run's metrics. */
function readLosses(path: string): number[] {
  const lines = Deno.readTextFileSync(path).trim().split("\n");
  return lines.map((line) => (JSON.parse(line) as { loss: number }).loss);
}

interface Summary {
  runtime_s: number;
  trainable_percent: number;
  config: Record<string, unknown>;
}

/** Whether a folder has a whole run of this command. */
function isComplete(folder: string, note: string): boolean {
  if (!exists(note) || !exists(join(folder, "adapter"))) return false;
  return exists(join(folder, "summary.json"));
}

/** Fine-tunes with LoRA, once with the same sources on a GPU: its output folder is kept beside the measurements. */
async function train(series: Series, command: readonly string[], model: string): Promise<Training> {
  const { folder, device, program } = series.measurements, output = join(folder, "train");
  const note = join(folder, "train.command"),
    words = [program.sources, device.gpu, ...command].join("\n");
  const kept = isComplete(output, note) && Deno.readTextFileSync(note) === words;
  if (!kept) {
    if (exists(output)) Deno.removeSync(output, { recursive: true });
    Deno.mkdirSync(folder, { recursive: true });
    const { code, stderr } = await program.run([...program.args, ...command]);
    if (code !== 0) throw new UserError(`${command.join(" ")} failed: ${stderr.trim()}`);
    Deno.writeTextFileSync(note, words);
  }
  series.note("training", command);
  const summary = readJson(join(output, "summary.json")) as Summary;
  return {
    model,
    losses: readLosses(join(output, "metrics.jsonl")),
    seconds: summary.runtime_s,
    trainable_percent: summary.trainable_percent,
  };
}

function trainCommand(settings: Table2Settings, model: string, output: string): string[] {
  const common = ["train", "--model", model, "--output", output, "--gpu", settings.gpu];
  if (model === "builtin") {
    return [...common, "--learning-rate", "2e-3", "--epochs", "2", "--packing"];
  }
  const { data = "builtin", tokenizer, layers, samples, learning_rate } = settings;
  const optional = Object.entries({ tokenizer, layers })
    .flatMap(([name, value]) => value === undefined ? [] : [`--${name}`, `${value}`]);
  const numbers = ["--samples", `${samples}`, "--learning-rate", `${learning_rate}`];
  return [...common, "--data", data, ...numbers, ...optional];
}

/**
 * Everything that a report shows.
 *
 * @throws {UserError} where a measurement fails.
 */
export async function collect(
  measurements: Measurements,
  settings: Table2Settings,
): Promise<Results> {
  const table = await table2(measurements, settings), { model, device: { software } } = table;
  const effects = await table1(measurements, { ...settings, model });
  const deepModel = model === "builtin" ? "random:tiny-deep" : model;
  const blocks = openModel(deepModel, settings.layers).config.num_hidden_layers;
  const intervals = checkpointIntervals(blocks), prompts = heldOut();
  const series = new Series(measurements, 1 + 3 + intervals.length + 1 + 2 * prompts.length);
  const layers = settings.layers === undefined ? [] : ["--layers", `${settings.layers}`];
  const tail = [...layers, "--gpu", settings.gpu, "--json"];
  const lengths = software ? "128,256,512,1024" : "256,512,1024,2048,4096";
  const scaling = await series.measure<Scaling>("tokens", [
    "bench",
    "train",
    "--model",
    model,
    "--tokens",
    lengths,
    ...tail,
  ]);
  const tokens = software ? 256 : 1024;
  const timelines: Timeline[] = [];
  for (const mode of ["none", "block", "inference"]) {
    const how = mode === "inference" ? ["--inference"] : ["--checkpointing", mode];
    timelines.push(
      await series.measure<Timeline>(`timeline-${mode}`, [
        "bench",
        "timeline",
        "--model",
        deepModel,
        ...how,
        "--tokens",
        `${tokens}`,
        ...tail,
      ]),
    );
  }
  const measured: Interval[] = [];
  // `bench train --tokens` takes two lengths or more, and only the last is shown: the first costs next to nothing.
  const intervalLengths = `16,${tokens}`;
  for (const k of intervals) {
    const { rows } = await series.measure<Scaling>(`checkpointing-every-${k}`, [
      "bench",
      "train",
      "--model",
      deepModel,
      "--checkpointing",
      `every:${k}`,
      "--tokens",
      intervalLengths,
      ...tail,
    ]);
    const { seconds, memory_mb } = present(rows.at(-1), "measured length");
    measured.push({ k, seconds, memory_mb });
  }
  const trained = trainable(model), output = join(measurements.folder, "train");
  const training = await train(series, trainCommand(settings, trained, output), trained);
  const answers: Answers[] = [];
  for (const [i, { instruction, input, output: expected }] of prompts.entries()) {
    const question = ["--prompt", instruction, ...(input === "" ? [] : ["--input", input])];
    const ask = async (name: string, adapter: readonly string[]) =>
      (await series.measure<{ text: string }>(`answer-${i}-${name}`, [
        "generate",
        "--model",
        trained,
        ...adapter,
        ...question,
        "--max-tokens",
        "48",
        "--gpu",
        settings.gpu,
        "--json",
      ])).text.trim();
    answers.push({
      prompt: [instruction, input].filter((text) => text !== "").join(" "),
      expected,
      before: await ask("before", []),
      after: await ask("after", ["--adapter", join(output, "adapter")]),
    });
  }
  return {
    table1: effects,
    table2: table,
    layers: settings.layers,
    scaling,
    deep: { model: deepModel, blocks, tokens },
    timelines,
    intervals: measured,
    training,
    answers,
    commands: series.commands,
  };
}
