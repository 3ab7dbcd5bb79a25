/**
 * The states of a run, each a folder of its own: `states/step-00000012/`, with state.json and state.safetensors.
 *
 * @module
 */
import { basename, dirname, join, resolve } from "node:path";
import { removeQuietly } from "../../model/files/durable.ts";
import { exists, namesIn } from "../../model/files/whole_file.ts";

/** The files of a state. */
export const STATE_JSON = "state.json", STATE_TENSORS = "state.safetensors";

/** A state that was found; what is in it has yet to be checked. */
export interface SavedState {
  path: string;
  /** The step that its folder's name says, where it says one. */
  step?: number;
}

/** The name of a state's folder; names sort as steps do. */
export function stateName(step: number): string {
  return `step-${String(step).padStart(8, "0")}`;
}

/** The step that a folder's name says. */
function stepOf(name: string): number | undefined {
  const digits = /^step-(\d{8,15})$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** What a state is called while it is written (`new`), and while it is removed. */
export function hiddenName(name: string, why: "new" | "old"): string {
  return `.${name}.${why}`;
}

/** Whether a folder is that of a state. */
export function isStateFolder(path: string): boolean {
  return exists(join(path, STATE_JSON));
}

/** The state in a folder. */
export function stateAt(path: string): SavedState {
  return { path, step: stepOf(basename(resolve(path))) };
}

/** The states in a run's `states/`, the newest first. */
export function savedStates(folder: string): SavedState[] {
  if (!exists(folder)) return [];
  const found: Required<SavedState>[] = [];
  for (const name of namesIn(folder)) {
    const step = stepOf(name);
    if (step !== undefined) found.push({ path: join(folder, name), step });
  }
  return found.sort((a, b) => b.step - a.step);
}

/**
 * Removes a state, whole: under a hidden name first, so that a program that is killed meanwhile leaves nothing that looks
 * like a damaged one.
 */
export function removeState({ path }: SavedState): void {
  const hidden = join(dirname(path), hiddenName(basename(path), "old"));
  removeQuietly(hidden);
  Deno.renameSync(path, hidden);
  removeQuietly(hidden);
}

/** Removes what programs that were killed left half written or half removed in `states/`. */
export function clearStates(folder: string): void {
  if (!exists(folder)) return;
  for (const name of namesIn(folder)) {
    if (/^\.step-\d+\.(new|old)$/.test(name)) removeQuietly(join(folder, name));
  }
}

/**
 * Removes the states that a new one makes superfluous.
 *
 * @param step The step of the new one, which stays. Later ones are of steps that the run has gone back from: they were
 *   damaged.
 * @param keep How many stay, the new one among them.
 */
export function pruneStates(folder: string, step: number, keep: number): void {
  const states = savedStates(folder);
  const later = states.filter((state) => (state.step ?? 0) > step);
  const kept = states.filter((state) => (state.step ?? 0) <= step).slice(0, keep);
  for (const state of states) {
    if (later.includes(state) || !kept.includes(state)) removeState(state);
  }
}
