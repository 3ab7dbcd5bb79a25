/**
 * The course's table 1: which way each technique moves memory and computation, derived from measurements. The
 * base is full fine-tuning in fp32 with AdamW, eight samples in one micro-batch and no checkpointing; each
 * technique alone is switched on, and the step stays the same.
 *
 * @module
 */
import { z } from "zod";
import { present } from "../../kernels/present.ts";
import { UserError } from "../../kernels/errors.ts";
import { printJson, printLine } from "../../kernels/terminal.ts";
import { command, parseFlags } from "../../cli/command_line.ts";
import { ProgressBar } from "../../cli/progress.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import { type Measured, Measurements, VERSION } from "./measurements.ts";
import { subjectSettings, tableFlags } from "./series_flags.ts";
import { courseModel, subjectFlags, type TrainJson } from "./table2.ts";
import { tableLines } from "../text_table.ts";

/** Samples of one optimizer step, and optimizer steps of a run. */
const WINDOW = 8, STEPS = 4;

/** Flags of the base, and those that differ with each technique. */
const BASE = {
  "batch-size": `${WINDOW}`,
  "gradient-accumulation-steps": "1",
  checkpointing: "none",
  precision: "fp32",
  lora: "off",
};
const TECHNIQUES = {
  gradient_accumulation: { "batch-size": "1", "gradient-accumulation-steps": `${WINDOW}` },
  gradient_checkpointing: { checkpointing: "block" },
  mixed_precision: { precision: "mixed" },
  lora: { lora: "on" },
} satisfies Record<string, Partial<typeof BASE>>;

/** A column of the table. */
export type Technique = keyof typeof TECHNIQUES;

/** The columns, as people read them. */
export const TECHNIQUE_NAMES: Readonly<Record<Technique, string>> = {
  gradient_accumulation: "Grad. accumulation",
  gradient_checkpointing: "Grad. checkpointing",
  mixed_precision: "Mixed precision",
  lora: "LoRA",
};

/** What a row compares, how it is written, and which share of a difference counts as none. */
interface Quantity {
  of: (run: TrainJson) => number;
  unit: string;
  digits: number;
  /** Bytes and operations are counted exactly, seconds are not. */
  tolerance: number;
}

const memory = (category: keyof TrainJson["memory_mb"]): Quantity => ({
  of: (run) => run.memory_mb[category],
  unit: "MB",
  digits: 3,
  tolerance: 0.0005,
});

/** The rows, by the course's names. */
const QUANTITIES = {
  "Memory: parameter": memory("parameter"),
  "Memory: activation": memory("activation"),
  "Memory: gradient": memory("gradient"),
  "Memory: optimizer state": memory("optimizer"),
  "Computation": {
    of: ({ work, steps }) => work.flops / steps / 1e9,
    unit: "GFLOP a step",
    digits: 3,
    tolerance: 0.0005,
  },
  "Run time": {
    of: (run) => run.median_step_seconds,
    unit: "s a step",
    digits: 4,
    tolerance: 0.03,
  },
} satisfies Record<string, Quantity>;

/** A row's name. */
export type QuantityName = keyof typeof QUANTITIES;

/** One cell: the arrow and the numbers that it is derived from. */
export interface Effect {
  quantity: QuantityName;
  technique: Technique;
  without: number;
  with: number;
  unit: string;
  arrow: "↑" | "↓" | "−";
}

/** The table. */
export interface Table1 {
  model: string;
  /** First blocks of the model that the runs have, of how many it has. */
  layers: number;
  blocks: number;
  samples: number;
  gpu: string;
  provider: string;
  lorikeet: string;
  effects: Effect[];
}

/** Up, down, or no change beyond `tolerance`, a share. */
export function arrowOf(without: number, now: number, tolerance: number): Effect["arrow"] {
  const change = without === now ? 0 : now / without - 1;
  return Math.abs(change) <= tolerance ? "−" : change > 0 ? "↑" : "↓";
}

/** What is measured on which model. */
export interface Table1Settings {
  model?: string;
  layers?: number;
  data?: string;
  tokenizer?: string;
  gpu: string;
  learning_rate: number;
}

/** The most that `fits` says yes to, of 1 to `most`; 0 where it never does. */
async function mostThatFits(most: number, fits: (n: number) => Promise<boolean>): Promise<number> {
  if (await fits(most)) return most;
  let low = 0, high = most;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (await fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}

/**
 * Measures what the folder does not hold yet. Where the base does not fit, the most first blocks of the model that
 * do are taken.
 *
 * @throws {UserError} where not even one block fits, or a run fails otherwise.
 */
export async function table1(
  measurements: Measurements,
  settings: Table1Settings,
): Promise<Table1> {
  const model = settings.model ?? courseModel(measurements.device);
  const blocks = openModel(model).config.num_hidden_layers;
  const samples = WINDOW * STEPS;
  const bar = new ProgressBar("Runs", 1 + Object.keys(TECHNIQUES).length);
  const run = (name: string, layers: number, changed: Partial<typeof BASE>): Promise<Measured> => {
    const flags = Object.entries({ ...BASE, ...changed }).flatMap(([key, v]) => [`--${key}`, v]);
    const subject = subjectFlags({ ...settings, layers, samples }, model);
    return measurements.measure(`table1-${name}-${layers}-blocks`, [...subject, ...flags]);
  };
  const fits = async (layers: number) => (await run("base", layers, {})).result !== undefined;
  const layers = await mostThatFits(settings.layers ?? blocks, fits);
  if (layers === 0) {
    throw new UserError(`not even one block of ${model} fits this GPU for full fine-tuning`);
  }
  const base = (await run("base", layers, {})).result as unknown as TrainJson;
  bar.update(1, "base");
  const effects: Effect[] = [];
  for (const [i, technique] of (Object.keys(TECHNIQUES) as Technique[]).entries()) {
    const { result } = await run(technique, layers, TECHNIQUES[technique]);
    if (result === undefined) {
      throw new UserError(`${TECHNIQUE_NAMES[technique]} does not fit where the base does`);
    }
    for (const [name, { of, unit, tolerance }] of Object.entries<Quantity>(QUANTITIES)) {
      const without = of(base), now = of(result as unknown as TrainJson);
      effects.push({
        quantity: name as QuantityName,
        technique,
        without,
        with: now,
        unit,
        arrow: arrowOf(without, now, tolerance),
      });
    }
    bar.update(i + 2, TECHNIQUE_NAMES[technique]);
  }
  return {
    model,
    layers,
    blocks,
    samples,
    gpu: base.gpu,
    provider: base.provider,
    lorikeet: VERSION,
    effects,
  };
}

/** The effect of a technique on a quantity, which was measured. */
function effectOf(effects: readonly Effect[], quantity: string, technique: Technique): Effect {
  const found = effects.find((e) => e.quantity === quantity && e.technique === technique);
  return present(found, `effect of ${technique} on "${quantity}"`);
}

/** The arrows, then the numbers behind them: rows of cells, the first of each its head. */
export function table1Cells({ effects }: Table1): { arrows: string[][]; numbers: string[][] } {
  const techniques = Object.keys(TECHNIQUES) as Technique[];
  const head = ["", ...techniques.map((technique) => TECHNIQUE_NAMES[technique])];
  const rows = (cell: (effect: Effect, digits: number) => string) => [
    head,
    ...Object.entries<Quantity>(QUANTITIES).map(([name, { digits }]) => [
      name,
      ...techniques.map((technique) => cell(effectOf(effects, name, technique), digits)),
    ]),
  ];
  const written = (value: number, digits: number) => value.toFixed(value >= 1000 ? 0 : digits);
  const numbers = rows((e, digits) => `${written(e.without, digits)} → ${written(e.with, digits)}`);
  const units = Object.values<Quantity>(QUANTITIES).map(({ unit }) => unit);
  return {
    arrows: rows(({ arrow }) => arrow),
    numbers: numbers.map(([name, ...cells], i) => [
      i === 0 ? name : `${name} (${units[i - 1]})`,
      ...cells,
    ]),
  };
}

/** What the table compares, in a sentence. */
export function table1Subject({ model, layers, blocks, samples, gpu, provider }: Table1): string {
  const part = layers < blocks ? `the first ${layers} of ${blocks} blocks of ${model}` : model;
  return `${part}, ${samples} samples in steps of ${WINDOW}, on ${gpu} (${provider}). Without any ` +
    "technique: full fine-tuning in fp32 with AdamW, the samples of a step in one micro-batch.";
}

/** Both tables, as text or Markdown. */
export function table1Lines(table: Table1, markdown: boolean): string[] {
  const { arrows, numbers } = table1Cells(table);
  return [
    table1Subject(table),
    "",
    ...tableLines(arrows, markdown),
    "",
    "Without → with the technique:",
    "",
    ...tableLines(numbers, markdown),
  ];
}

const TABLE1 = command(
  "bench table1",
  "[--flag value ...]",
  "Derives the course's table 1 from measurements: what each technique does to memory and computation.",
  z.strictObject({ ...subjectSettings, ...tableFlags }),
);

/** Runs the bench and prints tables, or JSON. */
export async function benchTable1(args: string[]): Promise<void> {
  const { folder, json, markdown, ...settings } = parseFlags(TABLE1, args);
  const table = await table1(await Measurements.open(folder, settings.gpu), settings);
  if (json) printJson(table, 2);
  else printLine(table1Lines(table, markdown).join("\n"));
}
