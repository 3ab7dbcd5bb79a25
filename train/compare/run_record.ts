/**
 * A run's folder as one record: what it was told, how far it came, and how it ended. Nothing is written.
 *
 * @module
 */
import { join } from "node:path";
import { parse } from "yaml";
import { UserError } from "../../kernels/errors.ts";
import { regularFileSize } from "../../kernels/regular_file.ts";
import { isObject, readJson } from "../../model/files/json_file.ts";
import { exists, fileError, isFolder, readText } from "../../model/files/whole_file.ts";
import { BrokenLine } from "../metrics/read_lines.ts";
import { RUN_FILES, type RunFile } from "../run/run_files.ts";
import { savedStates } from "../states/saved_states.ts";
import {
  type EvaluationFigures,
  readEvaluations,
  readSteps,
  type StepFigures,
} from "./metrics_reader.ts";

/**
 * How a run stands: `finished` has results, `stopped early` too; `running` is at work now; `diverged` ended with a loss
 * that is no number; `interrupted` ended otherwise before its last step; `not begun` has no step; `broken` is none, or
 * has a file that can't be read.
 */
export type RunState =
  | "finished"
  | "stopped early"
  | "running"
  | "diverged"
  | "interrupted"
  | "not begun"
  | "broken";

/** What is known of a run. */
export interface RunRecord extends StepFigures, EvaluationFigures {
  /** The folder, as it was given. */
  run: string;
  state: RunState;
  /** What is wrong with a file of it. */
  problem?: string;
  /** The step of the newest state that a run could go on from. */
  resumable_from: number | null;
  tokens_per_second: number | null;
  peak_memory_mb: number | null;
  /** The configuration, keys of groups with a dot: `lora.rank`. */
  config: Record<string, unknown>;
}

/** More than any configuration or summary has. */
const MOST_BYTES = 4_000_000;

/** Keys of a configuration, those of groups beside them; a group itself is on or off. */
function flattened(config: Record<string, unknown>): Record<string, unknown> {
  const flat: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(config)) {
    if (value === null) continue; // A key without a value is in config.yaml, and not in summary.json.
    flat[key] = isObject(value) ? "on" : key === "lora" && value === false ? "off" : value;
    if (!isObject(value)) continue;
    for (const [inner, said] of Object.entries(value)) flat[`${key}.${inner}`] = said;
  }
  return flat;
}

/** Whether another process works in the folder: it holds a lock on this file, which is only asked about. */
function isLocked(path: string): boolean {
  if (!exists(path)) return false;
  try {
    regularFileSize(path);
    using file = Deno.openSync(path);
    if (!file.tryLockSync(false)) return true;
    file.unlockSync();
    return false;
  } catch {
    return false; // The file system has no locks, or others may not read the file.
  }
}

/** An object of a JSON file, or of a YAML file; undefined where there is no such file. */
function objectIn(path: string): Record<string, unknown> | undefined {
  if (!exists(path)) return undefined;
  const value = path.endsWith(".json")
    ? readJson(path, MOST_BYTES)
    : parsedYaml(path, readText(path, { what: "a configuration", maxBytes: MOST_BYTES }));
  if (isObject(value)) return value;
  throw new UserError(`${path}: holds no object`);
}

function parsedYaml(path: string, text: string): unknown {
  try {
    return parse(text);
  } catch {
    throw new UserError(`${path}: is no YAML`);
  }
}

/**
 * Looks at a run's folder, whatever state it is in.
 *
 * @throws {UserError} where there is no folder.
 */
export function readRun(folder: string): RunRecord {
  if (!exists(folder)) throw new UserError(`run ${folder} does not exist; expected a run's folder`);
  if (!isFolder(folder)) throw new UserError(`run ${folder} is no folder; expected a run's`);
  const record: RunRecord = {
    run: folder,
    state: "not begun",
    resumable_from: null,
    steps: 0,
    first_loss: null,
    last_loss: null,
    best_loss: null,
    evaluations: 0,
    last_eval_loss: null,
    best_eval_loss: null,
    perplexity: null,
    best_step: null,
    tokens: 0,
    seconds: 0,
    tokens_per_second: null,
    skipped_steps: 0,
    peak_memory_mb: null,
    config: {},
  };
  const problems: string[] = [];
  /** Does a part; what is wrong with a file is kept, and the other parts are still told. */
  const look = (file: RunFile, part: (path: string) => void) => {
    const name = RUN_FILES[file], path = join(folder, name);
    try {
      if (exists(path)) part(path);
    } catch (error) {
      if (error instanceof BrokenLine) problems.push(`${name}, ${error.message}`);
      else {
        const failed = fileError(path, "read", error);
        if (!(failed instanceof UserError)) throw failed;
        problems.push(failed.message);
      }
    }
  };
  let summary: Record<string, unknown> | undefined;
  look("config", (path) => record.config = flattened(objectIn(path) ?? {}));
  look("metrics", (path) => readSteps(path, record));
  look("evaluations", (path) => readEvaluations(path, record));
  look("states", (path) => record.resumable_from = savedStates(path)[0]?.step ?? null);
  look("summary", (path) => {
    summary = objectIn(path);
    const memory = summary?.peak_memory_mb;
    if (typeof memory === "number") record.peak_memory_mb = memory;
    if (isObject(summary?.config)) record.config = flattened(summary.config);
  });
  if (record.seconds > 0) record.tokens_per_second = record.tokens / record.seconds;
  const has = (file: RunFile) => exists(join(folder, RUN_FILES[file]));
  if (!has("metrics") && !has("lock") && !has("config")) {
    problems.push(`it holds no ${RUN_FILES.metrics}, and is no run's folder`);
  }
  if (problems.length > 0) record.problem = problems.join("; ");
  record.state = stateOf(record, summary, isLocked(join(folder, RUN_FILES.lock)));
  return record;
}

function stateOf(
  { steps, last_loss, problem }: RunRecord,
  summary: Record<string, unknown> | undefined,
  locked: boolean,
): RunState {
  if (locked) return "running";
  if (problem !== undefined) return "broken";
  if (summary !== undefined) return summary.stopped_early === true ? "stopped early" : "finished";
  if (steps === 0) return "not begun";
  return last_loss === null ? "diverged" : "interrupted";
}
