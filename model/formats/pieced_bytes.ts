/**
 * Bytes that are made from others as they are asked for, a bounded number of them at a time.
 *
 * @module
 */

import type { Scratch } from "./joined.ts";

/** Most bytes that are made at once. */
const MOST_BYTES = 1 << 20;

/** How bytes are made. */
export interface Units {
  /** How many units there are. */
  count: number;
  /** Bytes of one, a multiple of 4. */
  bytes: number;
  /** Writes `out.length` bytes of units from unit `first` on; `out` begins at a multiple of 4 in its buffer. */
  make(first: number, out: Uint8Array): Promise<void>;
}

/** Bytes made of equal units, any of them at a time. */
export class PiecedBytes {
  readonly bytes: number;

  /** @param scratch Holds units of which not all is wanted. */
  constructor(readonly units: Units, readonly scratch: Scratch) {
    this.bytes = units.count * units.bytes;
  }

  /**
   * Fills `target` from byte `begin` on. Several calls may be under way at once.
   *
   * @throws RangeError for bytes that it doesn't have.
   */
  async read(begin: number, target: Uint8Array): Promise<void> {
    const { bytes: size, make } = this.units, end = begin + target.length;
    if (!(begin >= 0 && end <= this.bytes)) {
      throw new RangeError(`${this.bytes} bytes, not ${target.length} from byte ${begin} on`);
    }
    const most = Math.max(1, Math.floor(MOST_BYTES / size));
    for (let at = begin; at < end;) {
      const first = Math.floor(at / size), skipped = at - first * size;
      const count = Math.min(most, Math.ceil((end - first * size) / size));
      const length = Math.min(count * size - skipped, end - at), to = at - begin;
      if (length === count * size && (target.byteOffset + to) % 4 === 0) {
        await make(first, target.subarray(to, to + length));
      } else {
        const memory = this.scratch.take(count * size), made = memory.subarray(0, count * size);
        await make(first, made);
        target.set(made.subarray(skipped, skipped + length), to);
        this.scratch.give(memory);
      }
      at += length;
    }
  }
}

/** Bytes seen as f32 numbers; they begin at a multiple of 4 in their buffer. */
export function asFloats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}
