/**
 * How WGSL spells matrices that a subgroup holds and multiplies together (tensor cores). A shape names its spelling,
 * and programs have the shape's name in their record, so that the spelling is part of a program's key. An
 * implementation that spells matrices differently is one more entry of {@linkcode MATRIX_SHAPES} and of SPELLINGS.
 *
 * Memory is an array of any element type `E`: `at` and `stride` (from a row, or a column, to the next)
 * count elements of `E`, and must be the same for the whole subgroup.
 *
 * @module
 */

interface Size {
  m: number;
  n: number;
  k: number;
}

/** A product that a subgroup makes at once: `[m, k]`·`[k, n]` in f16, sums in f32. */
export interface MatrixShape extends Size {
  /** Threads of a subgroup. */
  lanes: number;
  /** Whether it is tensor cores that multiply them: faster than programs without matrices. */
  hardware: boolean;
  spelling: keyof typeof SPELLINGS;
}

/** The shapes that programs are written for. */
export const MATRIX_SHAPES = {
  /** What NVIDIA's tensor cores take. */
  tensor_cores: { m: 16, n: 16, k: 16, lanes: 32, hardware: true, spelling: "chromium" },
  /** What Mesa's software driver multiplies, from version 26 on: slowly, but tests need no GPU. */
  software: { m: 8, n: 8, k: 8, lanes: 8, hardware: false, spelling: "chromium" },
} as const satisfies Record<string, MatrixShape>;
/** The name of a shape, which fits a program's key. */
export type MatrixName = keyof typeof MATRIX_SHAPES;

/** Whether tensor cores multiply matrices of this name. */
export function onTensorCores(matrices: MatrixName | undefined): matrices is MatrixName {
  return matrices !== undefined && MATRIX_SHAPES[matrices].hardware;
}

/** Where a matrix lies, and whether its rows or its columns are contiguous. */
export interface Place {
  /** A variable of the storage or workgroup address space. */
  array: string;
  at: string;
  stride: number;
  majority: "row" | "column";
}

const MAJORITY = { row: "row_major", column: "col_major" };

/** WGSL for one shape: expressions, and of `store` a statement. */
export interface SubgroupMatrix {
  /** Sums `[m, n]` in f32, all zero. */
  readonly zeros: string;
  /** A left operand `[m, k]` in f16. */
  loadLeft(place: Place): string;
  /** A right operand `[k, n]` in f16. */
  loadRight(place: Place): string;
  /** left·right + sum. */
  multiplyAdd(left: string, right: string, sum: string): string;
  /** Writes sums as f32. */
  store(place: Place, sum: string): string;
}

/** How matrices of this shape are spelled. */
export function subgroupMatrix(shape: MatrixShape): SubgroupMatrix {
  return SPELLINGS[shape.spelling](shape);
}

/** Chrome's extension `chromium_experimental_subgroup_matrix`. */
function chromium({ m, n, k }: Size): SubgroupMatrix {
  const load = (type: string, { array, at, stride, majority }: Place) =>
    `subgroupMatrixLoad<${type}, ${MAJORITY[majority]}>(&${array}, ${at}, ${stride}u)`;
  return {
    zeros: `subgroup_matrix_result<f32, ${n}, ${m}>()`,
    loadLeft: (place) => load(`subgroup_matrix_left<f16, ${k}, ${m}>`, place),
    loadRight: (place) => load(`subgroup_matrix_right<f16, ${n}, ${k}>`, place),
    multiplyAdd: (left, right, sum) =>
      `subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${sum})`,
    store: ({ array, at, stride, majority }, sum) =>
      `subgroupMatrixStore<${MAJORITY[majority]}>(&${array}, ${at}, ${sum}, ${stride}u);`,
  };
}

/** Spellings by name. */
const SPELLINGS = { chromium };
