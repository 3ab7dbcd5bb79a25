/**
 * How WGSL spells matrices that a subgroup holds and multiplies together (tensor cores). The extension is
 * Chrome's `chromium_experimental_subgroup_matrix`; an implementation that spells it differently changes
 * this file only.
 *
 * Memory is an array of any element type `E`: `at` and `stride` (from a row, or a column, to the next)
 * count elements of `E`, and must be the same for the whole subgroup.
 *
 * @module
 */

/** A product that a subgroup makes at once: `[m, k]`·`[k, n]` in f16, sums in f32. */
export interface MatrixShape {
  m: number;
  n: number;
  k: number;
  /** Threads of a subgroup. */
  lanes: number;
}

/** What NVIDIA's tensor cores take. */
export const TENSOR_CORES: MatrixShape = { m: 16, n: 16, k: 16, lanes: 32 };

/** Where a matrix lies, and whether its rows or its columns are contiguous. */
export interface Place {
  /** A variable of the storage or workgroup address space. */
  array: string;
  at: string;
  stride: number;
  majority: "row" | "column";
}

const MAJORITY = { row: "row_major", column: "col_major" };

/** WGSL types and functions for one shape. */
export function subgroupMatrix({ m, n, k }: MatrixShape) {
  const load = (type: string, { array, at, stride, majority }: Place) =>
    `subgroupMatrixLoad<${type}, ${MAJORITY[majority]}>(&${array}, ${at}, ${stride}u)`;
  return {
    /** The type of sums `[m, n]`; without a value its constructor makes zeros. */
    result: `subgroup_matrix_result<f32, ${n}, ${m}>`,
    /** Reads a left operand `[m, k]`. */
    loadLeft: (place: Place) => load(`subgroup_matrix_left<f16, ${k}, ${m}>`, place),
    /** Reads a right operand `[k, n]`. */
    loadRight: (place: Place) => load(`subgroup_matrix_right<f16, ${n}, ${k}>`, place),
    /** left·right + sum. */
    multiplyAdd: (left: string, right: string, sum: string) =>
      `subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${sum})`,
    /** Writes sums as f32. */
    store: ({ array, at, stride, majority }: Place, value: string) =>
      `subgroupMatrixStore<${MAJORITY[majority]}>(&${array}, ${at}, ${value}, ${stride}u)`,
  };
}
