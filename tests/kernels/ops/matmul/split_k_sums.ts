/**
 * Partial sums of a product, made up for tests.
 *
 * @module
 */
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import type { SplitKPartials } from "../../../../kernels/ops/split_k/split_k.ts";
import { quantize, randomArray, upload } from "../../harness.ts";

/** Rows of {@linkcode splitKSums}. */
export const ROWS = 5;

/** Partial sums of ROWS rows with one row more allocated a split, and what they add up to. */
export function splitKSums(
  gpu: Gpu,
  splits: number,
  width: number,
): { splitK: SplitKPartials; total: Float64Array } {
  const size = ROWS * width, total = new Float64Array(size);
  const values = quantize(randomArray(splits * size, 6), "f32");
  for (let i = 0; i < values.length; i++) total[i % size] += values[i];
  const allocated = new Float64Array((splits + 1) * size).fill(NaN);
  allocated.set(values);
  const tensor = upload(gpu, allocated, "f32", [allocated.length]);
  const splitK: SplitKPartials = { tensor, splits, rows: ROWS, width };
  return { splitK, total };
}
