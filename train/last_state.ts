/**
 * What a run that ends with an error leaves behind: its last good state.
 *
 * @module
 */
import { NotFinite } from "../model/transformer/not_finite.ts";
import { Diverged } from "./health.ts";
import type { RunFolder } from "./run_folder.ts";
import { savedStates } from "./saved_states.ts";

/**
 * Says where a run can be gone on from.
 *
 * @param goodUntil The last step whose state is known to be good.
 */
function lastState(folder: RunFolder, goodUntil: number): string {
  const states = savedStates(folder.file("states")), [newest] = states;
  if (newest === undefined) return "no state was saved before that";
  const good = states.find(({ step = 0 }) => step <= goodUntil);
  if (good === undefined) return `the only state, ${newest.path}, is from just before that`;
  const how = good === newest ? folder.path : `that folder and a new --output`;
  return `the last good state is ${good.path}; go on from it with --resume ${how}`;
}

/**
 * An error that ends a run under way, with where the run can be gone on from. Results that are no finite numbers are
 * those of a run that diverged.
 *
 * @param goodUntil The last step whose state is known to be good, where the error is the training's. Default: all are.
 */
export function withLastState(error: unknown, folder: RunFolder, goodUntil = Infinity): unknown {
  if (!(error instanceof Error)) return error;
  const diverged = error instanceof Diverged || error instanceof NotFinite;
  const message = `${error.message}; ${lastState(folder, diverged ? goodUntil : Infinity)}`;
  if (diverged) return new Diverged(message);
  error.message = message;
  return error;
}
