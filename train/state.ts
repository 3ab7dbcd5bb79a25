/**
 * Exact resume: everything that decides the rest of a run, in one folder `state/`:
 * state.json (step, micro-batches, the grad scaler as `control`, checksums) and state.safetensors (f32 masters and moments).
 *
 * Both files are checked before anything is resumed: state.json ends with a checksum of itself, and holds those of the
 * other file's header and of each of its tensors.
 *
 * @module
 */
import { join } from "node:path";
import { UsageError, UserError } from "../kernels/errors.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import type { Tensor } from "../kernels/gpu/tensor.ts";
import { openSafetensors, type SafetensorsFile } from "../model/formats/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../model/formats/write_safetensors.ts";
import { brief, isObject, readJson } from "../model/files/json_file.ts";
import { sameShape } from "../model/formats/weights.ts";
import { exists, fileError } from "../model/files/whole_file.ts";
import { cutRows, padRows, refreshValue } from "../model/checkpoint/load.ts";
import { checkSeal, checksum, INSTEAD, sealedJson, startChecksum } from "./checksums.ts";
import { refuseDiverged } from "./health.ts";
import { checkResumedConfig } from "./resume_rules.ts";
import type { Trainer } from "./trainer.ts";

const JSON_FILE = "state.json", TENSORS_FILE = "state.safetensors";
/** Bytes read back and written at a time. */
const CHUNK_BYTES = 1 << 24;

/** Where a run stands. */
export interface Progress {
  /** Optimizer steps done, and micro-batches in them. */
  step: number;
  microBatches: number;
  /** Loss of the first step, for the summary. */
  firstLoss: number | null;
  /** `samplesChecksum` of the run's data. */
  data: string;
}

/** Checksums of state.safetensors: of what is before the data, and of each tensor's bytes. */
interface TensorChecksums {
  header: string;
  tensors: Record<string, string>;
}

/** Every tensor of the state with its shape in the file. */
function* stateTensors(trainer: Trainer) {
  for (const { parameter, moments } of trainer.optimizer.parameters) {
    const { name, shape, trained } = parameter;
    yield { name, shape, tensor: trained.master };
    if (moments === undefined) continue;
    yield { name: `${name}.exp_avg`, shape, tensor: moments.m };
    yield { name: `${name}.exp_avg_sq`, shape, tensor: moments.v };
  }
}

/** A tensor's values in its file shape, read back when asked for; `done` is told their checksum. */
async function* fileBytes(
  gpu: Gpu,
  tensor: Tensor,
  shape: readonly number[],
  done: (checksum: string) => void,
): AsyncGenerator<Uint8Array> {
  const values = cutRows(await gpu.readF32(tensor), shape, tensor.shape);
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const hash = startChecksum();
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    const chunk = bytes.subarray(at, at + CHUNK_BYTES);
    hash.update(chunk);
    yield chunk;
  }
  done(hash.digest("hex"));
}

/**
 * Writes the state of a run, replacing the one before it only when the new one is whole: a run killed
 * while it saves leaves `folder` or `folder.old` behind.
 *
 * @throws {UserError} where the folder can't be written, or the weights are no finite numbers: nothing is written then.
 */
export async function saveState(
  gpu: Gpu,
  trainer: Trainer,
  folder: string,
  progress: Progress,
): Promise<void> {
  await refuseDiverged(gpu, trainer.model, `the state is not saved in ${folder}`);
  const fresh = `${folder}.new`, old = `${folder}.old`;
  const tensors: TensorToWrite[] = [], checksums: TensorChecksums = { header: "", tensors: {} };
  for (const { name, shape, tensor } of stateTensors(trainer)) {
    const data = fileBytes(gpu, tensor, shape, (sum) => checksums.tensors[name] = sum);
    tensors.push({ name, dtype: "F32", shape: [...shape], data });
  }
  try {
    remove(fresh);
    Deno.mkdirSync(fresh, { recursive: true });
    await writeSafetensors(join(fresh, TENSORS_FILE), tensors);
    const written = openSafetensors(join(fresh, TENSORS_FILE));
    checksums.header = checksum(written.head);
    written.close();
    const gradScaler = Array.from(await gpu.readF32(trainer.model.gradScaler));
    const state = { ...progress, control: gradScaler, config: trainer.config, checksums };
    Deno.writeTextFileSync(join(fresh, JSON_FILE), sealedJson(state));
    if (exists(folder)) {
      // A run killed here once before left its old state beside the new one.
      remove(old);
      Deno.renameSync(folder, old);
    }
    Deno.renameSync(fresh, folder);
    remove(old);
  } catch (error) {
    throw fileError(folder, "write", error);
  }
}

/** Removes a folder, where there is one. */
function remove(folder: string): void {
  if (exists(folder)) Deno.removeSync(folder, { recursive: true });
}

/**
 * What state.json says of the adapter that the run started from, in PEFT's form; undefined for none.
 *
 * @throws {UserError} where the file is not as it was saved.
 */
export function stateAdapter(folder: string): unknown {
  const path = join(folder, JSON_FILE);
  if (!exists(path)) return undefined; // `loadState` says so
  checkSeal(path);
  const state = readJson(path);
  const config = isObject(state) ? state.config : undefined;
  const lora = isObject(config) ? config.lora : undefined;
  return isObject(lora) ? lora.adapter : undefined;
}

/** state.json without its configuration. */
interface StoredState extends Progress {
  gradScaler: Float32Array;
  checksums: TensorChecksums;
}

/** Checks every field of state.json but its configuration. */
function parseState(state: Record<string, unknown>, path: string, fields: number): StoredState {
  const need = (key: string, good: boolean, expected: string) => {
    if (!good) {
      throw new UserError(`${path}: ${key} is ${brief(state[key])}; expected ${expected}`);
    }
  };
  const { step, microBatches, firstLoss, control, data, checksums } = state;
  for (const key of ["step", "microBatches"]) {
    const good = Number.isSafeInteger(state[key]) && Number(state[key]) >= 0;
    need(key, good, "a whole number of at least 0");
  }
  need("firstLoss", firstLoss === null || typeof firstLoss === "number", "a number or null");
  // JSON has no NaN and no infinity: the norm of a skipped step is null, and nothing reads it again.
  const isField = (value: unknown) => value === null || typeof value === "number";
  const isGradScaler = Array.isArray(control) && control.length === fields &&
    control.every(isField);
  need("control", isGradScaler, `a list of ${fields} numbers`);
  need("data", typeof data === "string", "a checksum");
  const areChecksums = isObject(checksums) && typeof checksums.header === "string" &&
    isObject(checksums.tensors);
  need("checksums", areChecksums, "those of a header and of tensors");
  return {
    step: Number(step),
    microBatches: Number(microBatches),
    firstLoss: firstLoss as number | null,
    gradScaler: Float32Array.from(control as number[]),
    data: data as string,
    checksums: checksums as unknown as TensorChecksums,
  };
}

/** One tensor's values in its file shape. @throws {UserError} where their checksum is not this one. */
function readTensor(
  file: SafetensorsFile,
  name: string,
  shape: readonly number[],
  expected: string | undefined,
): Float32Array {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  const bytes = new Uint8Array(values.buffer), hash = startChecksum();
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    const chunk = bytes.subarray(at, at + CHUNK_BYTES);
    file.readSync(name, at, chunk);
    hash.update(chunk);
  }
  if (hash.digest("hex") !== expected) throw damaged(file, `tensor ${brief(name)}`);
  return values;
}

function damaged({ path }: SafetensorsFile, what: string): UserError {
  return new UserError(
    `${path}: ${what} is damaged or of another save: its checksum (SHA-256) is not the one in ` +
      `${JSON_FILE}; ${INSTEAD}`,
  );
}

/**
 * Restores a state saved by {@linkcode saveState}.
 *
 * @param data `samplesChecksum` of the data to go on with.
 * @throws {UserError} where the folder is no state, is damaged, or belongs to a run of another configuration or other
 *   data. Parameters may then be those of the state in part.
 */
export function loadState(gpu: Gpu, trainer: Trainer, folder: string, data: string): Progress {
  const path = join(folder, JSON_FILE);
  if (!exists(path)) {
    throw new UserError(`resume: ${folder} holds no ${JSON_FILE}; expected a run's state folder`);
  }
  checkSeal(path);
  const state = readJson(path);
  if (!isObject(state) || !isObject(state.config)) {
    throw new UserError(`${path}: expected what a run of Lorikeet saved`);
  }
  checkResumedConfig(state.config, trainer.config, path);
  const fields = trainer.model.gradScaler.size;
  const { gradScaler, checksums, ...progress } = parseState(state, path, fields);
  if (progress.data !== data) {
    throw new UsageError(
      `${path}: the run was made with other samples: the data, as the tokenizer gives it, ` +
        "has changed since; expected the same data and tokenizer",
    );
  }
  const file = openSafetensors(join(folder, TENSORS_FILE));
  try {
    if (checksum(file.head) !== checksums.header) throw damaged(file, "the header");
    for (const { name, shape, tensor } of stateTensors(trainer)) {
      const entry = file.tensors.get(name);
      if (entry?.dtype !== "F32" || !sameShape(entry.shape, shape)) {
        const expected = `expected F32 tensor ${name} [${shape}]`;
        throw new UserError(`${join(folder, TENSORS_FILE)}: ${expected}`);
      }
      const values = readTensor(file, name, shape, checksums.tensors[name]);
      gpu.write(tensor, padRows(values, shape, tensor.shape));
    }
  } finally {
    file.close();
  }
  for (const { parameter } of trainer.optimizer.parameters) refreshValue(gpu, parameter);
  trainer.model.parametersChanged();
  gpu.write(trainer.model.gradScaler, gradScaler);
  trainer.readGradScaler(gradScaler);
  return progress;
}
