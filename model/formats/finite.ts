/**
 * Numbers of files that are no finite numbers, or beyond what f16 holds.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";

/** The largest finite f16, and the least magnitude that rounds to infinity in f16. */
export const F16_LARGEST = 65504;
const F16_INFINITE = 65520;

/** Why a file may hold what is not finite. */
export const DAMAGED_FILE =
  "the file is damaged, or was written after a training run that diverged";

/** What is wrong with numbers. */
export interface Faults {
  nan: number;
  infinite: number;
  /** Finite numbers that f16 has no room for. */
  beyondF16: number;
  /** Largest magnitude of a finite number. */
  largest: number;
}

/** Counts what is wrong with numbers, on top of what was found before. */
export function countFaults(
  values: Float32Array,
  faults: Faults = { nan: 0, infinite: 0, beyondF16: 0, largest: 0 },
): Faults {
  for (let i = 0; i < values.length; i++) {
    const size = Math.abs(values[i]);
    if (size < F16_INFINITE) {
      if (size > faults.largest) faults.largest = size;
    } else if (size === Infinity) faults.infinite++;
    else if (Number.isNaN(size)) faults.nan++;
    else {
      faults.beyondF16++;
      if (size > faults.largest) faults.largest = size;
    }
  }
  return faults;
}

/** `2 values that are NaN and 1 that is infinite`; undefined where all are finite. */
export function describeNotFinite({ nan, infinite }: Faults): string | undefined {
  const are = (count: number) => count === 1 ? "is" : "are";
  const word = nan + infinite === 1 ? "value" : "values";
  if (nan > 0 && infinite > 0) {
    return `${nan} ${word} that ${are(nan)} NaN and ${infinite} that ${are(infinite)} infinite`;
  }
  if (nan > 0) return `${nan} ${word} that ${are(nan)} NaN`;
  if (infinite > 0) return `${infinite} ${word} that ${are(infinite)} infinite`;
}

/** Whether all numbers are finite. */
function allFinite(values: Float32Array): boolean {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    if ((bits[i] & 0x7f800000) === 0x7f800000) return false;
  }
  return true;
}

/**
 * Refuses numbers of which one is NaN or infinite.
 *
 * @param what The tensor that they are of, and where it is.
 * @param why What may have led to it.
 * @throws {UserError} that names the tensor and counts them.
 */
export function refuseNotFinite(values: Float32Array, what: string, why: string): void {
  if (allFinite(values)) return;
  const has = describeNotFinite(countFaults(values));
  throw new UserError(`${what} has ${has}; expected finite numbers: ${why}`);
}
