/**
 * What a run says of itself when it is over, and when there was nothing left to do.
 *
 * @module
 */
import { clock } from "../cli/progress.ts";
import { memoryLines } from "../kernels/gpu/memory.ts";
import { type Profile, profileLines } from "../kernels/gpu/profiler.ts";
import { printLine } from "../kernels/terminal.ts";
import type { Llama } from "../model/transformer/llama.ts";
import { countSteps } from "./data.ts";
import { EvaluationHistory } from "./evaluation/history.ts";
import { exists } from "../model/files/whole_file.ts";
import { countParameters } from "./run/output.ts";
import { RUN_FILES, type RunFile } from "./run/run_files.ts";
import type { RunFolder } from "./run/run_folder.ts";
import type { TrainingSetup } from "./setup.ts";
import type { Training } from "./training.ts";

/** What a finished run may have beside what it trained and its metrics, and which of it are folders. */
const OTHER_FILES = [
  "csv",
  "tensorboard",
  "evaluations",
  "evaluationsCsv",
  "best",
  "summary",
  "states",
] as const satisfies RunFile[];
const FOLDERS: ReadonlySet<RunFile> = new Set(["tensorboard", "best", "states"]);

/** `28672 of 1078400 parameters (2.6588 %)`. */
export function describeParameters(model: Llama): string {
  const { trainable, total } = countParameters(model);
  return `${trainable} of ${total} parameters (${(100 * trainable / total).toFixed(4)} %)`;
}

/** Prints what a finished run did. */
export function report(
  { gpu, trainer, folder, progress: { firstLoss, lastLoss, seconds } }: Training,
  { trained, profile, history }: {
    trained?: string;
    profile?: Profile;
    history: EvaluationHistory;
  },
): void {
  printLine(`\nPeak GPU memory by category:`);
  printLine(memoryLines(gpu.memory.peak, gpu.memory.peakTotal).join("\n"));
  if (profile) printLine(`\n${profileLines(profile).join("\n")}`);
  printLine(`\nTrained ${describeParameters(trainer.model)} in ${clock(seconds)}`);
  if (firstLoss !== null && lastLoss !== null) {
    printLine(`Loss: ${firstLoss.toFixed(4)} first, ${lastLoss.toFixed(4)} last`);
  }
  const { best } = history;
  if (best !== undefined) {
    printLine(`Best held-out loss: ${best.loss.toFixed(4)} after step ${best.step}`);
  }
  if (trainer.skipped > 0) printLine(`Steps skipped for overflow: ${trainer.skipped}`);
  if (trained !== undefined) {
    const others = OTHER_FILES.filter((name) => exists(folder.file(name)));
    const names = others.map((name) => RUN_FILES[name] + (FOLDERS.has(name) ? "/" : ""));
    printLine(`Files: ${[trained, folder.file("metrics"), ...names].join(", ")}`);
  }
}

/** Whether all steps of a run were done, or it was ended early, and its results are there; says so. */
export function isFinished(folder: RunFolder, { resumed, plan, config }: TrainingSetup): boolean {
  if (!folder.existed || !folder.hasResults || resumed === undefined) return false;
  const { step, evaluations } = resumed.progress, total = countSteps(plan);
  const history = new EvaluationHistory(config, evaluations);
  if (step < total && !history.exhausted) return false;
  const why = step < total
    ? `it ended early after step ${step} of ${total}, as ${history.reason}`
    : `all ${step} steps are done`;
  printLine(`The run in ${folder.path} is finished: ${why}.`);
  return true;
}
