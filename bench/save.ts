/**
 * Saving: what a state every so many steps costs a run, and how long it takes to be on the disk. Parts of a run with a state
 * take turns with parts without one. The last state is restored, all its checksums checked, before anything is told.
 *
 * @module
 */
import { join } from "node:path";
import { z } from "zod";
import { command, parseFlags } from "../cli/command_line.ts";
import { flag, text, whole } from "../cli/settings.ts";
import { UserError } from "../kernels/errors.ts";
import { megabytes } from "../kernels/gpu/memory.ts";
import { median } from "../kernels/measure/timing.ts";
import { printJson, printLine } from "../kernels/terminal.ts";
import { makeTrainConfig } from "../train/config/config.ts";
import * as common from "../cli/common_settings.ts";
import { stateAt } from "../train/states/saved_states.ts";
import { trainSchema } from "../train/config/schema.ts";
import { identityOf } from "../train/setup.ts";
import { loadState } from "../train/states/state.ts";
import { openTraining, type Training } from "../train/training.ts";

const { shape } = trainSchema;

const schema = z.strictObject({
  model: shape.model,
  tokenizer: shape.tokenizer,
  data: common.withDefault(common.data, "builtin"),
  samples: shape.samples,
  precision: shape.precision,
  checkpointing: shape.checkpointing,
  lora: flag().default(true).describe("LoRA of rank 16 on q and v; off trains all weights."),
  packing: shape.packing,
  batch_size: shape.batch_size,
  gradient_accumulation_steps: shape.gradient_accumulation_steps,
  every: whole(2).default(50).describe("Steps for each state."),
  states: whole(1).default(3).describe("States that are saved."),
  folder: text("folder", "a folder that exists").optional().describe(
    "Where states are written and removed again; without it, the system's temporary folder.",
  ),
  gpu: shape.gpu,
  json: flag().default(false).describe("Print one JSON object."),
});

const SAVE = command(
  "bench save",
  "[--flag value ...]",
  "Times a run that saves states beside one that doesn't.",
  schema,
);

/** What saving costs. */
interface Result {
  gpu: string;
  state_mb: number;
  every: number;
  /** Of a step, where no state is saved. */
  median_step_seconds: number;
  /** Of each state: how long steps waited, how long until it was on the disk, and steps done between the two. */
  waits_seconds: number[];
  written_seconds: number[];
  steps_meanwhile: number[];
  /** Time that parts with a state take beyond parts without one, of the latter; medians. */
  overhead: number;
}

/** Runs the parts in turn: one without a state, one that begins with a state, and so on. */
async function measure(
  training: Training,
  every: number,
): Promise<Omit<Result, "gpu" | "state_mb" | "every"> & { path: string }> {
  const waits: number[] = [],
    written: number[] = [],
    meanwhile: number[] = [],
    steps: number[] = [];
  const parts: Record<"with" | "without", number[]> = { with: [], without: [] };
  let last = performance.now(), began = last, path = "";
  const seconds = (since: number) => (performance.now() - since) / 1000;
  for await (const { step: { step } } of training.run(({ step }) => step % (2 * every) === 0)) {
    if (step > every) steps.push(seconds(last));
    last = performance.now();
    if (step % every !== 0) continue;
    // The first part also warms up.
    if (step > every) parts[step % (2 * every) === 0 ? "without" : "with"].push(seconds(began));
    began = performance.now();
    if (step % (2 * every) !== 0) continue;
    const state = await training.saveState();
    waits.push(seconds(began));
    state.written.then((found) => {
      path = found;
      written.push(seconds(began));
      meanwhile.push(training.progress.step - step);
    }, () => {});
  }
  await training.saved();
  return {
    path,
    median_step_seconds: median(steps),
    waits_seconds: waits,
    written_seconds: written,
    steps_meanwhile: meanwhile,
    overhead: median(parts.with) / median(parts.without) - 1,
  };
}

function report({ gpu, state_mb, every, ...result }: Result): void {
  const list = (values: readonly number[]) => values.map((value) => value.toFixed(3)).join(", ");
  printLine(`${gpu}; a state of ${state_mb.toFixed(1)} MB every ${every} steps`);
  printLine(`Median step: ${(1000 * result.median_step_seconds).toFixed(1)} ms`);
  printLine(`Steps waited ${list(result.waits_seconds)} s for the states' copies`);
  printLine(
    `States were on the disk after ${list(result.written_seconds)} s, with ` +
      `${result.steps_meanwhile.join(", ")} steps meanwhile`,
  );
  printLine(`Saving takes ${(100 * result.overhead).toFixed(2)} % of the time`);
}

/** Runs the bench and prints a few lines, or JSON. */
export async function benchSave(args: string[]): Promise<void> {
  const { every, states, folder, json, lora, ...flags } = parseFlags(SAVE, args);
  const temporary = Deno.makeTempDirSync({ dir: folder });
  try {
    await using training = await openTraining(makeTrainConfig({
      ...flags,
      lora,
      epochs: 1_000_000,
      max_steps: (2 * states + 1) * every,
      keep_states: 1,
      save_every: 2 * every,
      output: join(temporary, "run"),
    }));
    const { gpu, trainer } = training, { path, ...result } = await measure(training, every);
    if (loadState(gpu, trainer, stateAt(path), identityOf(training.setup)).step < every) {
      throw new UserError(`${path} is no state of this run`);
    }
    const bytes = [...Deno.readDirSync(path)]
      .reduce((sum, { name }) => sum + Deno.statSync(join(path, name)).size, 0);
    const all = { gpu: gpu.name, state_mb: megabytes(bytes), every, ...result };
    if (json) printJson(all, 2);
    else report(all);
  } finally {
    Deno.removeSync(temporary, { recursive: true });
  }
}
