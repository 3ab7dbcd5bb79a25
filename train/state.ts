/**
 * Exact resume: everything that decides the rest of a run, in one folder `state/`:
 * state.json (step, micro-batches, control values) and state.safetensors (f32 masters and moments).
 *
 * @module
 */
import { join } from "node:path";
import { UserError } from "../kernels/errors.ts";
import type { Gpu } from "../kernels/gpu.ts";
import type { Tensor } from "../kernels/tensor.ts";
import {
  openSafetensors,
  type SafetensorsFile,
  type TensorToWrite,
  writeSafetensors,
} from "../model/files/safetensors.ts";
import {
  brief,
  exists,
  fileError,
  isObject,
  readJson,
  sameShape,
  writeJson,
} from "../model/files/weights.ts";
import { cutRows, padRows, refreshValue } from "../model/load.ts";
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
}

/** Every tensor of the state with its shape in the file. */
function* stateTensors(trainer: Trainer) {
  for (const { parameter, moments } of trainer.optimizer.parameters) {
    const { name, shape, trained } = parameter;
    yield { name, shape, tensor: trained!.master };
    if (moments === undefined) continue;
    yield { name: `${name}.exp_avg`, shape, tensor: moments.m };
    yield { name: `${name}.exp_avg_sq`, shape, tensor: moments.v };
  }
}

/** A tensor's values in its file shape, read back when asked for. */
async function* fileBytes(
  gpu: Gpu,
  tensor: Tensor,
  shape: readonly number[],
): AsyncGenerator<Uint8Array> {
  const values = cutRows(await gpu.readF32(tensor), shape, tensor.shape);
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    yield bytes.subarray(at, at + CHUNK_BYTES);
  }
}

/**
 * Writes the state of a run, replacing the one before it only when the new one is whole: a run killed
 * while it saves leaves `folder` or `folder.old` behind.
 *
 * @throws {UserError} where the folder can't be written.
 */
export async function saveState(
  gpu: Gpu,
  trainer: Trainer,
  folder: string,
  progress: Progress,
): Promise<void> {
  const fresh = `${folder}.new`, old = `${folder}.old`;
  const tensors: TensorToWrite[] = [];
  for (const { name, shape, tensor } of stateTensors(trainer)) {
    tensors.push({ name, dtype: "F32", shape: [...shape], data: fileBytes(gpu, tensor, shape) });
  }
  try {
    remove(fresh);
    Deno.mkdirSync(fresh, { recursive: true });
    await writeSafetensors(join(fresh, TENSORS_FILE), tensors);
    const control = Array.from(await gpu.readF32(trainer.model.control));
    writeJson(join(fresh, JSON_FILE), { ...progress, control, config: trainer.config });
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

/** Keys that must be the same for a resumed run to be the run it goes on with. */
const FIXED = [
  "model",
  "layers",
  "data",
  "samples",
  "batch_size",
  "gradient_accumulation_steps",
  "packing",
  "loss_normalization",
  "optimizer",
  "seed",
  "shuffle",
  "eval_fraction",
  "max_length",
  "lora",
  "precision",
] as const;

/** What state.json says of the adapter that the run started from, in PEFT's form; undefined for none. */
export function stateAdapter(folder: string): unknown {
  const path = join(folder, JSON_FILE);
  const state = exists(path) ? readJson(path) : undefined;
  const config = isObject(state) ? state.config : undefined;
  const lora = isObject(config) ? config.lora : undefined;
  return isObject(lora) ? lora.adapter : undefined;
}

/** state.json without its configuration. */
interface StoredState extends Progress {
  control: Float32Array;
}

/** Checks every field of state.json but its configuration. */
function parseState(state: Record<string, unknown>, path: string, fields: number): StoredState {
  const need = (key: string, good: boolean, expected: string) => {
    if (!good) {
      throw new UserError(`${path}: ${key} is ${brief(state[key])}; expected ${expected}`);
    }
  };
  const { step, microBatches, firstLoss, control } = state;
  for (const key of ["step", "microBatches"]) {
    const good = Number.isSafeInteger(state[key]) && Number(state[key]) >= 0;
    need(key, good, "a whole number of at least 0");
  }
  need("firstLoss", firstLoss === null || typeof firstLoss === "number", "a number or null");
  // JSON has no NaN and no infinity: the norm of a skipped step is null, and nothing reads it again.
  const isField = (value: unknown) => value === null || typeof value === "number";
  const isControl = Array.isArray(control) && control.length === fields && control.every(isField);
  need("control", isControl, `a list of ${fields} numbers`);
  return {
    step: Number(step),
    microBatches: Number(microBatches),
    firstLoss: firstLoss as number | null,
    control: Float32Array.from(control as number[]),
  };
}

/** One tensor's values in its file shape. */
function readTensor(file: SafetensorsFile, name: string, shape: readonly number[]): Float32Array {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  file.readSync(name, 0, new Uint8Array(values.buffer));
  return values;
}

/**
 * Restores a state saved by {@linkcode saveState}.
 *
 * @throws {UserError} where the folder is no state, or belongs to a run of another configuration.
 */
export function loadState(gpu: Gpu, trainer: Trainer, folder: string): Progress {
  const path = join(folder, JSON_FILE);
  if (!exists(path)) {
    throw new UserError(`resume: ${folder} holds no ${JSON_FILE}; expected a run's state folder`);
  }
  const state = readJson(path);
  if (!isObject(state) || !isObject(state.config)) {
    throw new UserError(`${path}: expected what a run of Lorikeet saved`);
  }
  for (const key of FIXED) {
    const [was, is] = [state.config[key], trainer.config[key]].map((v) => JSON.stringify(v));
    if (was === is) continue;
    throw new UserError(
      `${path}: the run was made with ${key} ${was ?? "unset"}, not ${is ?? "unset"}; ` +
        "expected the configuration it began with",
      2,
    );
  }
  const { control, ...progress } = parseState(state, path, trainer.model.control.size);
  const file = openSafetensors(join(folder, TENSORS_FILE));
  try {
    for (const { name, shape, tensor } of stateTensors(trainer)) {
      const entry = file.tensors.get(name);
      if (entry?.dtype !== "F32" || !sameShape(entry.shape, shape)) {
        const expected = `expected F32 tensor ${name} [${shape}]`;
        throw new UserError(`${join(folder, TENSORS_FILE)}: ${expected}`);
      }
      gpu.write(tensor, padRows(readTensor(file, name, shape), shape, tensor.shape));
    }
  } finally {
    file.close();
  }
  for (const { parameter } of trainer.optimizer.parameters) refreshValue(gpu, parameter);
  trainer.model.parametersChanged();
  gpu.write(trainer.model.control, control);
  trainer.readControl(control);
  return progress;
}
