/**
 * What a run that ends with an error leaves behind: its last good state.
 *
 * @module
 */
import { NotFinite } from "../../model/transformer/not_finite.ts";
import { Diverged } from "../health.ts";
import type { RunFolder } from "./run_folder.ts";
import { savedStates } from "../states/saved_states.ts";

/**
 * Says where a run can be gone on from.
 *
 * @param goodUntil The last step whose state is known to be good.
 */
function lastState(folder: Pick<RunFolder, "path" | "file">, goodUntil: number): string {
  const states = savedStates(folder.file("states")), [newest] = states;
  if (newest === undefined) return "no state was saved before that";
  const good = states.find(({ step = 0 }) => step <= goodUntil);
  if (good === undefined) {
    const [all, are] = states.length > 1 ? ["states", "are"] : ["state", "is"];
    const paths = states.map(({ path }) => path).join(" and ");
    return `the only ${all}, ${paths}, ${are} from just before that`;
  }
  const how = good === newest ? folder.path : `${good.path} and a new --output`;
  return `the last good state is that of step ${good.step}; go on from it with --resume ${how}`;
}

/**
 * An error that ends a run under way, with where the run can be gone on from. Results that are no finite numbers are
 * those of a run that diverged.
 *
 * @param goodUntil The last step whose state is known to be good, where the error is the training's. Default: all are.
 */
export function withLastState(
  error: unknown,
  folder: Pick<RunFolder, "path" | "file">,
  goodUntil = Infinity,
): unknown {
  if (!(error instanceof Error)) return error;
  const diverged = error instanceof Diverged || error instanceof NotFinite;
  const message = `${error.message}; ${lastState(folder, diverged ? goodUntil : Infinity)}`;
  if (diverged) return new Diverged(message);
  error.message = message;
  return error;
}
