/**
 * state.json: where a run stands, what decides it, and the checksums of its tensors.
 *
 * @module
 */
import { join } from "node:path";
import { GRAD_SCALER } from "../../kernels/ops/optimizer/loss_scale.ts";
import { brief, isObject } from "../../model/files/json_file.ts";
import { exists } from "../../model/files/whole_file.ts";
import { DamagedState, INSTEAD, readSealed } from "./checksums.ts";
import { type EvaluationRecord, isEvaluationRecord } from "../evaluation/history.ts";
import type { StoredIdentity } from "./resume_rules.ts";
import { type SavedState, STATE_JSON } from "./saved_states.ts";

/** Where a run stands. */
export interface Progress {
  /** Optimizer steps done, and micro-batches in them. */
  step: number;
  microBatches: number;
  /** Losses of the first and the last step. */
  firstLoss: number | null;
  lastLoss: number | null;
  /** Tokens trained on, and the seconds that the steps took. */
  tokens: number;
  seconds: number;
  /** The evaluations on held-out samples, in order. */
  evaluations: EvaluationRecord[];
}

/** Where a run begins. */
export function beginning(): Progress {
  return {
    step: 0,
    microBatches: 0,
    firstLoss: null,
    lastLoss: null,
    tokens: 0,
    seconds: 0,
    evaluations: [],
  };
}

/** Checksums of state.safetensors: of what is before the data, and of each tensor's bytes. */
export interface TensorChecksums {
  header: string;
  tensors: Record<string, string>;
}

/** What state.json says. */
export interface StoredState {
  /** The file. */
  path: string;
  progress: Progress;
  /** The grad scaler's values. JSON has no NaN: what it says as null, which nothing reads again, is 0 here. */
  gradScaler: Float32Array<ArrayBuffer>;
  identity: StoredIdentity;
  checksums: TensorChecksums;
}

/** A count, up to a largest one. */
const isCount = (value: unknown, most = Infinity): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most;

/** Beyond this, f32 counts no more. */
const LARGEST_COUNT = 2 ** 24;

/** Whether values of the grad scaler can be those after so many steps. */
function isGradScaler(control: unknown, step: number): control is (number | null)[] {
  // The norm of a skipped step is null.
  const isField = (value: unknown) => value === null || typeof value === "number";
  if (!Array.isArray(control) || !control.every(isField)) return false;
  const value = (field: keyof typeof GRAD_SCALER) =>
    Math.fround(control[GRAD_SCALER[field]] ?? NaN);
  const scale = value("scale"), skipped = value("skipped"), steps = value("steps");
  return scale > 0 && Number.isFinite(scale) &&
    [value("growth"), skipped, steps].every((count) => isCount(count, step)) &&
    (step >= LARGEST_COUNT || skipped + steps === step);
}

/**
 * Reads state.json of a state and checks every field of it.
 *
 * @throws {DamagedState} that names the field, or says that the file is not as it was saved.
 */
export function readStateJson(state: SavedState): StoredState {
  const path = join(state.path, STATE_JSON);
  if (!exists(path)) throw new DamagedState(`${state.path} holds no ${STATE_JSON}; ${INSTEAD}`);
  const stored = readSealed(path);
  if (!isObject(stored)) throw new DamagedState(`${path}: expected what a run of Lorikeet saved`);
  const need = (key: string, good: boolean, expected: string) => {
    if (!good) {
      throw new DamagedState(`${path}: ${key} is ${brief(stored[key])}; expected ${expected}`);
    }
  };
  const { step, microBatches, control, tokens, seconds, evaluations } = stored;
  const { checksums, config, total, fingerprints } = stored;
  need("step", isCount(step), "a whole number of at least 0");
  const done = step as number;
  need("step", (state.step ?? done) === done, `${state.step}, which the folder's name says`);
  need("microBatches", isCount(microBatches) && microBatches >= done, `at least ${done}`);
  for (const key of ["firstLoss", "lastLoss"]) {
    const value = stored[key];
    const good = done === 0 ? value === null : typeof value === "number";
    need(key, good, done === 0 ? "null before the first step" : "a number");
  }
  need("tokens", isCount(tokens), "a whole number of at least 0");
  need("seconds", typeof seconds === "number" && seconds >= 0, "a number of at least 0");
  const areEvaluations = Array.isArray(evaluations) && evaluations.every(isEvaluationRecord);
  need("evaluations", areEvaluations, "a list of evaluations with their steps and losses");
  need(
    "control",
    isGradScaler(control, done),
    `a loss scale above 0 and counts that fit ${done} steps`,
  );
  need("config", isObject(config), "a configuration");
  need("total", isCount(total), "a whole number of at least 0");
  const isWhole = isObject(fingerprints) && isObject(fingerprints.model) &&
    isObject(fingerprints.data);
  need("fingerprints", isWhole, "those of a model and of data");
  const areChecksums = isObject(checksums) && typeof checksums.header === "string" &&
    isObject(checksums.tensors);
  need("checksums", areChecksums, "those of a header and of tensors");
  const scaler = (control as (number | null)[]).map((value) => value ?? 0);
  return {
    path,
    progress: {
      step: done,
      microBatches: microBatches as number,
      firstLoss: stored.firstLoss as number | null,
      lastLoss: stored.lastLoss as number | null,
      tokens: tokens as number,
      seconds: seconds as number,
      evaluations: evaluations as EvaluationRecord[],
    },
    gradScaler: Float32Array.from(scaler),
    identity: { config, total, fingerprints } as unknown as StoredIdentity,
    checksums: checksums as unknown as TensorChecksums,
  };
}

/** state.json's fields but the checksums, which its writer adds. */
export function stateFields(
  progress: Progress,
  gradScaler: Float32Array,
  identity: StoredIdentity,
): Record<string, unknown> {
  return { ...progress, control: Array.from(gradScaler), ...identity };
}
