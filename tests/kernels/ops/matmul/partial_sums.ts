/**
 * Partial sums of a product, made up for tests.
 *
 * @module
 */
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import type { Partials } from "../../../../kernels/ops/matmul/partials.ts";
import { quantize, randomArray, upload } from "../../harness.ts";

/** Rows of {@linkcode partialSums}. */
export const ROWS = 5;

/** Partial sums of ROWS rows with one row more allocated a slot, and what they add up to. */
export function partialSums(
  gpu: Gpu,
  splits: number,
  width: number,
): { partials: Partials; total: Float64Array } {
  const slot = ROWS * width, total = new Float64Array(slot);
  const values = quantize(randomArray(splits * slot, 6), "f32");
  values.forEach((v, i) => total[i % slot] += v);
  const beyond = new Array(slot).fill(NaN);
  const tensor = upload(gpu, [...values, ...beyond], "f32", [(splits + 1) * slot]);
  const partials: Partials = { tensor, splits, rows: ROWS, width };
  return { partials, total };
}
