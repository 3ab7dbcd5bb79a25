/**
 * The tensors of a state: f32 masters and moments, on the GPU and in their file.
 *
 * @module
 */
import { join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { Tensor } from "../../kernels/gpu/tensor.ts";
import { padRows } from "../../model/checkpoint/load.ts";
import { brief } from "../../model/files/json_file.ts";
import { openSafetensors, type SafetensorsFile } from "../../model/formats/safetensors.ts";
import { sameShape } from "../../model/formats/weights.ts";
import { checksum, DamagedState, INSTEAD, startChecksum } from "./checksums.ts";
import { STATE_JSON, STATE_TENSORS } from "./saved_states.ts";
import type { TensorChecksums } from "./state_file.ts";
import type { OptimizedParameter } from "../optimizer.ts";
import type { Trainer } from "../trainer.ts";

/** Bytes read at a time, from the GPU and from a file. */
const PIECE_BYTES = 1 << 24;
/** Bytes of the memory for a piece: what is read ends at a multiple of 16. */
export const PIECE_MEMORY = PIECE_BYTES + 16;

/** A tensor of a state, with its shape in the file. */
export interface StateTensor {
  name: string;
  shape: readonly number[];
  tensor: Tensor;
}

/** Every tensor of the state, in the order of the file: as they lie in memory, so that many are read at once. */
export function stateTensors(trainer: Trainer): StateTensor[] {
  const { parameters } = trainer.optimizer;
  const all = (suffix: string, tensorOf: (parameter: OptimizedParameter) => Tensor | undefined) =>
    parameters.flatMap((optimized): StateTensor[] => {
      const { name, shape } = optimized.parameter, tensor = tensorOf(optimized);
      return tensor === undefined ? [] : [{ name: `${name}${suffix}`, shape, tensor }];
    });
  return [
    ...all("", ({ parameter }) => parameter.trained.master),
    ...all(".exp_avg", ({ moments }) => moments?.m),
    ...all(".exp_avg_sq", ({ moments }) => moments?.v),
  ];
}

/** Bytes of the file at the beginning of some memory, and whose they are, in order. */
export interface StatePiece {
  memory: ArrayBuffer;
  parts: { tensor: string; bytes: number }[];
}

/** Bytes of a tensor in its file. */
const fileBytes = ({ shape }: StateTensor) => shape.reduce((a, b) => a * b, 4);

/** Rows of a tensor that are read at once: of a large one as many as fit a piece. */
interface Rows {
  state: StateTensor;
  /** First byte in the tensor's buffer, bytes there, and bytes in the file. */
  offset: number;
  stored: number;
  bytes: number;
}

/** A tensor in pieces of some of its rows. */
function rowsOf(state: StateTensor): Rows[] {
  const { shape, tensor } = state;
  const width = shape[shape.length - 1], storedWidth = tensor.shape[tensor.shape.length - 1];
  const rows = fileBytes(state) / 4 / Math.max(1, width);
  const most = Math.max(1, Math.floor(PIECE_BYTES / (4 * storedWidth)));
  const pieces: Rows[] = [];
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    pieces.push({
      state,
      offset: tensor.offset + 4 * first * storedWidth,
      stored: 4 * count * storedWidth,
      bytes: 4 * count * width,
    });
  }
  return pieces;
}

/** Neighbours in memory, each group of which fits a piece and is read at once. */
function groups(tensors: readonly StateTensor[]): Rows[][] {
  const groups: Rows[][] = [];
  for (const rows of tensors.flatMap(rowsOf)) {
    const group = groups.at(-1), first = group?.[0], before = group?.at(-1);
    const joins = first !== undefined && before !== undefined &&
      rows.state.tensor.buffer === first.state.tensor.buffer &&
      rows.offset >= before.offset + before.stored &&
      rows.offset + rows.stored - first.offset <= PIECE_BYTES;
    if (joins) group?.push(rows);
    else groups.push([rows]);
  }
  return groups;
}

/** Bytes of memory that neighbours take. */
function span(group: readonly Rows[]): number {
  const last = group[group.length - 1];
  return last.offset + last.stored - group[0].offset;
}

/** Bytes of each piece that {@linkcode statePieces} reads. */
export function pieceSizes(tensors: readonly StateTensor[]): number[] {
  return groups(tensors).map(span);
}

/** Closes the gaps between and the padding in rows, in place: in the file there are none. */
function pack(values: Float32Array, group: readonly Rows[]): void {
  const [{ offset: from }] = group;
  let at = 0;
  for (const { state: { shape, tensor }, offset, bytes } of group) {
    const width = shape[shape.length - 1], storedWidth = tensor.shape[tensor.shape.length - 1];
    const begin = (offset - from) / 4;
    if (width === storedWidth) {
      if (begin !== at) values.copyWithin(at, begin, begin + bytes / 4);
      at += bytes / 4;
    } else {
      for (let row = 0; row < bytes / 4 / width; row++, at += width) {
        const start = begin + row * storedWidth;
        values.copyWithin(at, start, start + width);
      }
    }
  }
}

/**
 * The bytes of tensors in their file, read back in pieces.
 *
 * @param memory Gives memory for a piece, of {@linkcode PIECE_MEMORY} bytes; undefined ends the reading.
 */
export async function* statePieces(
  gpu: Gpu,
  tensors: readonly StateTensor[],
  memory: () => Promise<ArrayBuffer | undefined>,
): AsyncGenerator<StatePiece> {
  for (const group of groups(tensors)) {
    const target = await memory();
    if (target === undefined) return;
    const [{ state, offset }] = group, floats = span(group) / 4, { name, buffer } = state.tensor;
    const range = new Tensor(name, "f32", [floats], buffer, offset);
    await gpu.readInto(range, new Uint8Array(target));
    pack(new Float32Array(target, 0, floats), group);
    const parts = group.map(({ state: { name }, bytes }) => ({ tensor: name, bytes }));
    yield { memory: target, parts };
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
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const chunk = bytes.subarray(at, at + PIECE_BYTES);
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
