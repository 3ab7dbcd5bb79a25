/**
 * The tensors that bitsandbytes stores beside a quantised weight: found, checked and read.
 *
 * @module
 */

import { UserError } from "../../../kernels/errors.ts";
import { brief } from "../../files/json_file.ts";
import type { FolderTensors, FoundTensor } from "../folder_tensors.ts";
import { type Plane, sameShape } from "../weights.ts";

/** @throws UserError that names the file and the tensor. */
export function refuse({ name, file }: FoundTensor, problem: string): never {
  throw new UserError(`${file.path}: tensor ${brief(name)} ${problem}`);
}

/**
 * A tensor that belongs to a weight.
 *
 * @throws UserError where it is missing, or has another dtype or shape.
 */
export function companion(
  tensors: FolderTensors,
  weight: FoundTensor,
  { name, dtype, shape }: { name: string; dtype: string; shape: readonly number[] },
): FoundTensor {
  const found = tensors.find(name);
  if (found === undefined) {
    return refuse(weight, `is quantised, but ${brief(name)} that belongs to it is missing`);
  }
  const { dtype: actual, shape: actualShape } = found.entry;
  if (actual !== dtype) refuse(found, `has dtype ${actual}, expected ${dtype}`);
  if (!sameShape(actualShape, shape)) {
    refuse(found, `has shape ${brief(actualShape)}, expected ${brief(shape)}`);
  }
  return found;
}

/** The whole of a small tensor. */
export function wholeBytes({ name, file, entry }: FoundTensor): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(entry.end - entry.begin);
  file.readSync(name, 0, bytes);
  return bytes;
}

/** The whole of a small tensor of f32. */
export function wholeFloats(tensor: FoundTensor): Float32Array<ArrayBuffer> {
  return new Float32Array(wholeBytes(tensor).buffer);
}

/** `count` f32 numbers of a tensor from number `first` on. */
export async function someFloats(
  { name, file }: FoundTensor,
  first: number,
  count: number,
): Promise<Float32Array<ArrayBuffer>> {
  const floats = new Float32Array(count);
  await file.read(name, 4 * first, new Uint8Array(floats.buffer));
  return floats;
}

/** `count` bytes of a tensor from byte `first` on. */
export async function someBytes(
  { name, file }: FoundTensor,
  first: number,
  count: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(count);
  await file.read(name, first, bytes);
  return bytes;
}

/** A tensor's bytes as they are, and after them zeros up to a whole number of words. */
export function paddedBytes({ name, file, entry }: FoundTensor): Plane {
  const size = entry.end - entry.begin, bytes = Math.ceil(size / 4) * 4;
  return {
    bytes,
    async read(begin, target) {
      if (!(begin >= 0 && begin + target.length <= bytes)) {
        throw new RangeError(`${bytes} bytes, not ${target.length} from byte ${begin} on`);
      }
      const own = Math.max(0, Math.min(target.length, size - begin));
      await file.read(name, Math.min(begin, size), target.subarray(0, own));
      target.fill(0, own);
    },
  };
}
