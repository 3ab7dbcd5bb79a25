/**
 * Whether an output projection that lies beside a tied embedding is the embedding.
 *
 * @module
 */

import { toFloat32 } from "./half.ts";
import type { TensorFile } from "./tensor_file.ts";
import { bytesPerElement, type FileDtype } from "./weights.ts";

/** A matrix in a file. */
export interface StoredMatrix {
  name: string;
  file: TensorFile;
  dtype: FileDtype;
  /** `[vocab_size, hidden_size]` */
  shape: readonly number[];
}

/** Numbers that are compared at a time. */
const PIECE = 2 ** 20;

/**
 * Whether two matrices of one shape hold the same numbers, in whatever dtypes. Reads no further than the first
 * difference.
 */
export function sameNumbers(a: StoredMatrix, b: StoredMatrix): boolean {
  const count = a.shape.reduce((product, size) => product * size, 1);
  const piece = ({ name, file, dtype }: StoredMatrix, begin: number) => {
    const unit = bytesPerElement(dtype);
    const bytes = new Uint8Array(unit * Math.min(PIECE, count - begin));
    file.readSync(name, unit * begin, bytes);
    return bytes;
  };
  for (let begin = 0; begin < count; begin += PIECE) {
    const [first, second] = [piece(a, begin), piece(b, begin)];
    if (a.dtype === b.dtype && sameBytes(first, second)) continue;
    const numbers = toFloat32(second, b.dtype);
    if (toFloat32(first, a.dtype).some((number, i) => number !== numbers[i])) return false;
  }
  return true;
}

/** Whether two arrays of one length, a multiple of 2, in memory of their own, are equal. */
function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  const [first, second] = [new Uint16Array(a.buffer), new Uint16Array(b.buffer)];
  return first.every((pair, i) => pair === second[i]);
}
