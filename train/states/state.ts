/**
 * Exact resume: everything that decides the rest of a run, in one folder: state.json (step, micro-batches, the grad scaler
 * as `control`, configuration, fingerprints, checksums) and state.safetensors (f32 masters and moments).
 *
 * Both files are checked before anything is resumed: state.json ends with a checksum of itself, and holds those of the
 * other file's header and of each of its tensors. So tensors of another step or run are refused, too.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { refreshValue } from "../../model/checkpoint/load.ts";
import { brief } from "../../model/files/json_file.ts";
import { DamagedState } from "./checksums.ts";
import { checkIdentity, type RunIdentity } from "./resume_rules.ts";
import type { SavedState } from "./saved_states.ts";
import { type Progress, readStateJson, type StoredState } from "./state_file.ts";
import { restoreTensors } from "./state_tensors.ts";
import type { Trainer } from "../trainer.ts";

/** Tries states from the newest on, and says which are damaged. @throws {UserError} where all are. */
function firstWhole<T>(
  states: readonly SavedState[],
  attempt: (state: SavedState) => T,
  say: (line: string) => void,
): T {
  const problems: string[] = [];
  for (const state of states) {
    try {
      return attempt(state);
    } catch (error) {
      if (!(error instanceof DamagedState)) throw error;
      problems.push(error.message);
      if (problems.length < states.length) say(`${error.message}\nThe state before it is taken.`);
    }
  }
  const [first] = problems;
  throw new UserError(
    problems.length === 1
      ? first
      : `all ${problems.length} states are damaged; the last one: ${first}`,
  );
}

/**
 * What the newest state whose state.json is whole says.
 *
 * @param say Told which states are damaged.
 * @throws {UserError} where none is.
 */
export function newestState(
  states: readonly SavedState[],
  say: (line: string) => void,
): StoredState {
  return firstWhole(states, readStateJson, say);
}

/**
 * Restores a state.
 *
 * @throws {UserError} where the folder is no state, is damaged ({@linkcode DamagedState}), or belongs to a run of another
 *   configuration or made from other contents. Parameters may then be those of the state in part.
 */
export function loadState(
  gpu: Gpu,
  trainer: Trainer,
  saved: SavedState,
  identity: RunIdentity,
): Progress {
  const { path, identity: was, gradScaler, checksums, progress } = readStateJson(saved);
  checkIdentity(was, identity, path);
  const { gradScaler: tensor } = trainer.model;
  if (gradScaler.length !== tensor.size) {
    throw new DamagedState(
      `${path}: control has ${brief(gradScaler.length)} values; expected ${tensor.size}`,
    );
  }
  restoreTensors(gpu, trainer, saved.path, checksums);
  for (const { parameter } of trainer.optimizer.parameters) refreshValue(gpu, parameter);
  trainer.model.parametersChanged();
  gpu.write(tensor, gradScaler);
  trainer.readGradScaler(gradScaler);
  return progress;
}

/**
 * Restores the newest state that is whole.
 *
 * @param say Told which states are damaged.
 * @throws {UserError} where none is, or as {@linkcode loadState} does.
 */
export function loadNewest(
  gpu: Gpu,
  trainer: Trainer,
  { states, identity, say }: {
    states: readonly SavedState[];
    identity: RunIdentity;
    say: (line: string) => void;
  },
): Progress {
  return firstWhole(states, (state) => loadState(gpu, trainer, state, identity), say);
}
