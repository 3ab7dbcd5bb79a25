/**
 * Weights that are no finite numbers where the model computes: in their file already, or beyond what f16 holds.
 *
 * @module
 */
import { UserError } from "../kernels/errors.ts";
import type { Gpu } from "../kernels/gpu.ts";
import { flagNotFinite } from "../kernels/not_finite.ts";
import type { Tensor } from "../kernels/tensor.ts";
import { toFloat32 } from "./files/half.ts";
import { bytesPerElement, type WeightSource } from "./files/weights.ts";
import type { Parameter } from "./parameters.ts";

/** The least magnitude that rounds to infinity in f16, and the largest finite f16. */
const F16_INFINITE = 65520, F16_LARGEST = 65504;
/** Bytes of a file looked at together. */
const CHUNK_BYTES = 1 << 24;

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

/** Flags, for {@linkcode checkFlags}, the parameters whose values in the compute dtype are not all finite. */
export function flagWeights(gpu: Gpu, parameters: readonly Parameter[], flags: Tensor): void {
  gpu.clear(flags);
  parameters.forEach(({ value }, slot) => flagNotFinite(gpu, { x: value, flags, slot }));
}

/**
 * Refuses a model of which something was flagged.
 *
 * @param flags One of each parameter, in order.
 * @throws {UserError} that names the first tensor, what is wrong with it and what to do.
 */
export async function checkFlags(
  flags: Uint32Array,
  parameters: readonly Parameter[],
  { name: model, weights }: { name: string; weights: WeightSource },
): Promise<void> {
  const faulty = parameters.filter((_, i) => flags[i] !== 0);
  if (faulty.length === 0) return;
  const [{ name }] = faulty;
  const faults = await inspect(weights, name);
  const others = faulty.length === 1
    ? ""
    : `, and so ${faulty.length === 2 ? "has 1 other tensor" : `have ${faulty.length - 1} others`}`;
  const notFinite = describeNotFinite(faults);
  if (notFinite !== undefined) {
    throw new UserError(
      `model "${model}": tensor "${name}" has ${notFinite}${others}; expected finite numbers: ` +
        "the file is damaged, or was written after a training run that diverged",
    );
  }
  const has = faults.beyondF16 === 1 ? "a value" : `${faults.beyondF16} values`;
  throw new UserError(
    `model "${model}": tensor "${name}" has ${has} beyond what f16 holds${others} (the largest is ` +
      `${
        Number(faults.largest.toPrecision(6))
      }, f16 holds ${F16_LARGEST}); expected --precision fp32`,
  );
}

/** What is wrong with a tensor in its file. */
async function inspect(weights: WeightSource, name: string): Promise<Faults> {
  const { dtype, bytes } = weights.info(name), chunk = new Uint8Array(Math.min(bytes, CHUNK_BYTES));
  const faults = countFaults(new Float32Array());
  for (let begin = 0; begin < bytes; begin += chunk.length) {
    const part = chunk.subarray(0, Math.min(chunk.length, bytes - begin));
    await weights.read(name, begin, part);
    countFaults(toFloat32(part, dtype), faults);
  }
  return faults;
}
