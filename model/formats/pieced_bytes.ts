/**
 * Bytes that are made from others as they are asked for, a bounded number of them at a time.
 *
 * @module
 */

import type { Scratch } from "./joined.ts";
import type { Plane } from "./weights.ts";

/** Most bytes that are made at once. */
const MOST_BYTES = 1 << 20;

/** How bytes are made. */
export interface Units {
  /** How many units there are. */
  count: number;
  /** Bytes of one. */
  bytes: number;
  /** Writes `out.length` bytes of units from unit `first` on; `out` begins at a multiple of 4 in its buffer. */
  make(first: number, out: Uint8Array): Promise<void>;
}

/**
 * Bytes made of equal units, any of them at a time. `read` throws a RangeError for bytes that there aren't.
 *
 * @param scratch Holds units of which not all is wanted.
 */
export function piecedBytes({ count, bytes: size, make }: Units, scratch: Scratch): Plane {
  const bytes = count * size, most = Math.max(1, Math.floor(MOST_BYTES / size));
  return {
    bytes,
    async read(begin, target) {
      const end = begin + target.length;
      if (!(begin >= 0 && end <= bytes)) {
        throw new RangeError(`${bytes} bytes, not ${target.length} from byte ${begin} on`);
      }
      for (let at = begin; at < end;) {
        const first = Math.floor(at / size), skipped = at - first * size;
        const units = Math.min(most, Math.ceil((end - first * size) / size));
        const length = Math.min(units * size - skipped, end - at), to = at - begin;
        if (length === units * size && (target.byteOffset + to) % 4 === 0) {
          await make(first, target.subarray(to, to + length));
        } else {
          const memory = scratch.take(units * size), made = memory.subarray(0, units * size);
          await make(first, made);
          target.set(made.subarray(skipped, skipped + length), to);
          scratch.give(memory);
        }
        at += length;
      }
    },
  };
}

/** Bytes seen as f32 numbers; they begin at a multiple of 4 in their buffer. */
export function asFloats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}
