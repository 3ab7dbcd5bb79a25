/**
 * The tensors of a state: f32 masters and moments, on the GPU and in their file.
 *
 * @module
 */
import { join } from "node:path";
import { UserError } from "../kernels/errors.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { Tensor } from "../kernels/gpu/tensor.ts";
import { cutRows, padRows } from "../model/checkpoint/load.ts";
import { brief } from "../model/files/json_file.ts";
import { openSafetensors, type SafetensorsFile } from "../model/formats/safetensors.ts";
import { sameShape } from "../model/formats/weights.ts";
import { checksum, DamagedState, INSTEAD, startChecksum } from "./checksums.ts";
import { STATE_JSON, STATE_TENSORS } from "./saved_states.ts";
import type { TensorChecksums } from "./state_file.ts";
import type { Trainer } from "./trainer.ts";

/** Bytes read at a time, from the GPU and from a file. */
const CHUNK_BYTES = 1 << 24;

/** A tensor of a state, with its shape in the file. */
export interface StateTensor {
  name: string;
  shape: readonly number[];
  tensor: Tensor;
}

/** Every tensor of the state, in the order of the file. */
export function* stateTensors(trainer: Trainer): Generator<StateTensor> {
  for (const { parameter, moments } of trainer.optimizer.parameters) {
    const { name, shape, trained } = parameter;
    yield { name, shape, tensor: trained.master };
    if (moments === undefined) continue;
    yield { name: `${name}.exp_avg`, shape, tensor: moments.m };
    yield { name: `${name}.exp_avg_sq`, shape, tensor: moments.v };
  }
}

/** A tensor's values in its file shape, read back in pieces, each in memory of its own. */
export async function* tensorPieces(
  gpu: Gpu,
  { shape, tensor }: StateTensor,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const width = shape[shape.length - 1], storedWidth = tensor.shape[tensor.shape.length - 1];
  const rows = shape.reduce((a, b) => a * b, 1) / Math.max(1, width);
  const most = Math.max(1, Math.floor(CHUNK_BYTES / (4 * storedWidth)));
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const offset = tensor.offset + 4 * first * storedWidth;
    const piece = new Tensor(tensor.name, "f32", [count, storedWidth], tensor.buffer, offset);
    const values = cutRows(await gpu.readF32(piece), [count, width], [count, storedWidth]);
    yield new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  }
}

function damaged({ path }: SafetensorsFile, what: string): DamagedState {
  return new DamagedState(
    `${path}: ${what} is damaged or of another save: its checksum (SHA-256) is not the one in ` +
      `${STATE_JSON}; ${INSTEAD}`,
  );
}

/** One tensor's values in its file shape. @throws {DamagedState} where their checksum is not this one. */
function readTensor(
  file: SafetensorsFile,
  { name, shape }: StateTensor,
  expected: string | undefined,
): Float32Array<ArrayBuffer> {
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

/** What reads a file of a state; whatever is wrong with the file is damage. */
function asDamage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof UserError ? new DamagedState(error.message) : error;
  }
}

/**
 * Fills the tensors of a trainer from a state's file, every byte of which is checked.
 *
 * @throws {DamagedState} where the file is not as it was saved. Tensors may then be those of the state in part.
 */
export function restoreTensors(
  gpu: Gpu,
  trainer: Trainer,
  folder: string,
  checksums: TensorChecksums,
): void {
  const file = asDamage(() => openSafetensors(join(folder, STATE_TENSORS)));
  try {
    if (checksum(file.head) !== checksums.header) throw damaged(file, "the header");
    for (const state of stateTensors(trainer)) {
      const { name, shape, tensor } = state, entry = file.tensors.get(name);
      if (entry?.dtype !== "F32" || !sameShape(entry.shape, shape)) {
        throw new DamagedState(`${file.path}: expected F32 tensor ${name} [${shape}]`);
      }
      const values = asDamage(() => readTensor(file, state, checksums.tensors[name]));
      gpu.write(tensor, padRows(values, shape, tensor.shape));
    }
  } finally {
    file.close();
  }
}
