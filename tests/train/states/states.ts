/**
 * Saved states in tests: of trainers that were made without files.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import type { Fingerprints } from "../../../train/states/fingerprints.ts";
import type { AccumulationWindow } from "../../../train/planner.ts";
import type { RunIdentity } from "../../../train/states/resume_rules.ts";
import { type SavedState, stateAt } from "../../../train/states/saved_states.ts";
import { loadState } from "../../../train/states/state.ts";
import { beginning, type Progress } from "../../../train/states/state_file.ts";
import { StateSaver } from "../../../train/states/state_saver.ts";
import type { StepResult, Trainer } from "../../../train/trainer.ts";
import { fixtureSamples, fixtureSubject, fixtureWindow, type Subject } from "../runs.ts";

/** Where a run stands, in part. */
export function progressAt(part: Partial<Progress> = {}): Progress {
  return { ...beginning(), ...part };
}

/** What decides the run of a trainer; `sha256` stands for its samples. */
export function identity(trainer: Trainer, sha256 = "samples"): RunIdentity {
  const { config, model } = trainer;
  const fingerprints: Fingerprints = {
    model: { config: model.config, weights: null },
    tokenizer: "tokenizer",
    adapter: null,
    data: { samples: 1, tokens: 1, sha256 },
    evalData: null,
  };
  return { config, total: 100, fingerprints };
}

/** Saves a state into `states`, as a run does. @returns The state. */
export async function save(
  gpu: Gpu,
  trainer: Trainer,
  states: string,
  progress: Progress,
): Promise<SavedState> {
  await using saver = new StateSaver(gpu, trainer);
  const target = { states, keep: 2, sync: [] };
  const { written } = await saver.save(progress, identity(trainer), target);
  return stateAt(await written);
}

/** Restores a state. */
export function load(gpu: Gpu, trainer: Trainer, state: SavedState, data?: string): Progress {
  return loadState(gpu, trainer, state, identity(trainer, data));
}

const samples = fixtureSamples();
/** Four accumulation windows. */
export const WINDOWS: AccumulationWindow[] = [[[0], [1], [2]], [[3, 4], [5]], [[6], [7], [8]], [
  [9],
  [10],
]]
  .map((window) => fixtureWindow(samples, window));

/** A model with an adapter. */
export const LORA: Subject = fixtureSubject({ model: "llama", adapter: "adapter_qv" });
/** Trains on the windows from where the run stands up to `to`. */
export async function train(
  gpu: Gpu,
  trainer: Trainer,
  progress: Progress,
  to: number,
): Promise<StepResult[]> {
  const results: StepResult[] = [];
  for (const window of WINDOWS.slice(progress.step, to)) {
    const result = await trainer.step(gpu, window, {
      learningRate: 0.003,
      firstMicroBatch: progress.microBatches,
    });
    results.push(result);
    progress.firstLoss ??= result.loss;
    progress.lastLoss = result.loss;
    progress.tokens += result.tokens;
    progress.step++;
    progress.microBatches += window.length;
  }
  return results;
}

/** Calls `body` with the path of a run's `states/`. */
export async function withFolder(body: (states: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(join(folder, "states"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The names in a folder, sorted. */
export const namesIn = (folder: string): string[] =>
  [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

/** A check for a UserError of one line that matches. */
export function expecting(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof UserError, String(error));
    assert.match(error.message, pattern);
    return true;
  };
}
