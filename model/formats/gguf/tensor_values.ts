/**
 * Any bytes of a tensor as it is computed with: those of F32, F16 and BF16 as the file has them, blocks dequantised to
 * f32, a bounded number of them at a time.
 *
 * @module
 */

import type { Scratch } from "../joined.ts";
import type { FileDtype } from "../weights.ts";
import { dequantize, isQuantized, type QuantizedType } from "./dequantize.ts";
import type { TensorInfo } from "./header.ts";
import type { TensorType } from "./tensor_types.ts";

/** Numbers that are dequantised at a time: a multiple of every block. */
const MOST_ELEMENTS = 1 << 18;

/** The dtype that a tensor is read as. */
export function readDtype({ name }: TensorType): FileDtype {
  return name === "F16" || name === "BF16" ? name : "F32";
}

/** A tensor's bytes in its {@linkcode readDtype}. */
export class TensorValues {
  /** @param scratch Holds blocks on their way, at least those of {@linkcode MOST_ELEMENTS} numbers. */
  constructor(readonly place: TensorInfo, readonly scratch: Scratch) {}

  /** Fills `target` from byte `begin` on. Several calls may be under way at once. */
  async read(begin: number, target: Uint8Array): Promise<void> {
    const { file, position, type } = this.place;
    if (!isQuantized(type)) return await file.read(position + begin, target);
    const { elements } = type, end = begin + target.length;
    const last = Math.ceil(end / (4 * elements));
    const step = MOST_ELEMENTS / elements;
    for (let block = Math.floor(begin / (4 * elements)); block < last; block += step) {
      await this.#blocks(type, { block, count: Math.min(step, last - block), begin, target });
    }
  }

  /** Dequantises blocks, and copies what of them is wanted. */
  async #blocks(
    type: TensorType & { name: QuantizedType },
    { block, count, begin, target }: {
      block: number;
      count: number;
      begin: number;
      target: Uint8Array;
    },
  ): Promise<void> {
    const { file, position } = this.place, size = count * type.elements;
    // Behind the blocks are their numbers, at a place that is a multiple of 4.
    const numbersAt = Math.ceil(count * type.bytes / 4) * 4;
    const to = block * type.elements * 4 - begin,
      isWhole = to >= 0 &&
        to + 4 * size <= target.length && (target.byteOffset + to) % 4 === 0;
    const memory = this.scratch.take(isWhole ? numbersAt : numbersAt + 4 * size);
    const bytes = memory.subarray(0, count * type.bytes);
    await file.read(position + block * type.bytes, bytes);
    if (isWhole) {
      dequantize(type, bytes, new Float32Array(target.buffer, target.byteOffset + to, size));
    } else {
      const numbers = new Float32Array(memory.buffer, memory.byteOffset + numbersAt, size);
      dequantize(type, bytes, numbers);
      const from = memory.subarray(numbersAt + Math.max(0, -to), numbersAt + 4 * size);
      const at = Math.max(0, to);
      target.set(from.subarray(0, target.length - at), at);
    }
    this.scratch.give(memory);
  }
}
