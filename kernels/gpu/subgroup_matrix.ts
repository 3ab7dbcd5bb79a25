/**
 * How WGSL spells matrices that a subgroup holds and multiplies together (tensor cores). A shape names its spelling,
 * and programs have the shape's name in their record, so that the spelling is part of a program's key. An
 * implementation that spells matrices differently is one more entry of {@linkcode MATRIX_SHAPES} and of SPELLINGS.
 *
 * Memory is an array of words of 16 bytes, `vec4<u32>`: eight f16 of an operand, four f32 of sums. `at` and `stride` (from
 * a row, or a column, to the next) count words, and must be the same for the whole subgroup.
 *
 * @module
 */

import type { Extension } from "./program.ts";

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
  /** The same in plain WGSL, for tests on any software driver with subgroups of eight. */
  emulated: { m: 8, n: 8, k: 8, lanes: 8, hardware: false, spelling: "shuffles" },
} as const satisfies Record<string, MatrixShape>;
/** The name of a shape, which fits a program's key. */
export type MatrixName = keyof typeof MATRIX_SHAPES;

/** Whether tensor cores multiply matrices of this name. */
export function onTensorCores(matrices: MatrixName | undefined): matrices is MatrixName {
  return matrices !== undefined && MATRIX_SHAPES[matrices].hardware;
}

/** Where the rows of a matrix lie. */
export interface Rows {
  /** A variable of the storage or workgroup address space. */
  array: string;
  at: string;
  stride: number;
}

/** Where a matrix lies, and whether its rows or its columns are contiguous. */
export interface Place extends Rows {
  majority: "row" | "column";
}

const MAJORITY = { row: "row_major", column: "col_major" };

/**
 * WGSL for one shape: expressions, and of `store` a statement. They stand where `thread` is the number of the thread in its
 * workgroup.
 */
export interface SubgroupMatrix {
  /** What programs with these matrices use. */
  readonly extensions: readonly Extension[];
  /** Functions and types that come before them. */
  readonly declare: string;
  /** Sums `[m, n]` in f32, all zero. */
  readonly zeros: string;
  /** A left operand `[m, k]` in f16. */
  loadLeft(place: Place): string;
  /** A right operand `[k, n]` in f16. */
  loadRight(place: Place): string;
  /** left·right + sum. */
  multiplyAdd(left: string, right: string, sum: string): string;
  /** Sums that were written. */
  loadSum(place: Rows): string;
  /** Writes sums as f32, row after row. */
  store(place: Rows, sum: string): string;
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
    extensions: ["f16", "subgroups", "subgroup_matrix"],
    declare: "",
    zeros: `subgroup_matrix_result<f32, ${n}, ${m}>()`,
    loadLeft: (place) => load(`subgroup_matrix_left<f16, ${k}, ${m}>`, place),
    loadRight: (place) => load(`subgroup_matrix_right<f16, ${n}, ${k}>`, place),
    multiplyAdd: (left, right, sum) =>
      `subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${sum})`,
    loadSum: (place) =>
      load(`subgroup_matrix_result<f32, ${n}, ${m}>`, { ...place, majority: "row" }),
    store: ({ array, at, stride }, sum) =>
      `subgroupMatrixStore<row_major>(&${array}, ${at}, ${sum}, ${stride}u);`,
  };
}

/**
 * Lane i holds row i of a left operand and of sums, and column i of a right operand, which the others ask it for. Of 8×8×8
 * matrices in subgroups of eight.
 */
function shuffles(): SubgroupMatrix {
  const load = ({ array, at, stride }: Place, contiguous: boolean) => {
    if (contiguous) return `own_line(${array}[${at} + thread % 8u * ${stride}u])`;
    const halves = LINES.map((k) =>
      `half_of(${array}[${at} + ${k * stride}u][thread / 2u % 4u], thread)`
    );
    return `MatrixLine(vec4<f32>(${halves.slice(0, 4)}), vec4<f32>(${halves.slice(4)}))`;
  };
  return {
    extensions: ["f16", "subgroups"],
    declare: EMULATION,
    zeros: "MatrixLine()",
    loadLeft: (place) => load(place, place.majority === "row"),
    loadRight: (place) => load(place, place.majority === "column"),
    multiplyAdd: (left, right, sum) => `multiply_add(${left}, ${right}, ${sum})`,
    loadSum: ({ array, at, stride }) => {
      const line = `${at} + thread % 8u * ${stride}u`;
      return `MatrixLine(bitcast<vec4<f32>>(${array}[${line}]), bitcast<vec4<f32>>(${array}[${line} + 1u]))`;
    },
    store: ({ array, at, stride }, sum) =>
      `{ let line = ${at} + thread % 8u * ${stride}u;
${array}[line] = bitcast<vec4<u32>>(${sum}.lo);
${array}[line + 1u] = bitcast<vec4<u32>>(${sum}.hi); }`,
  };
}

const LINES = [0, 1, 2, 3, 4, 5, 6, 7];

/** What {@linkcode shuffles} declares. */
const EMULATION = `
struct MatrixLine { lo: vec4<f32>, hi: vec4<f32> }
fn own_line(word: vec4<u32>) -> MatrixLine {
  return MatrixLine(
    vec4<f32>(unpack2x16float(word.x), unpack2x16float(word.y)),
    vec4<f32>(unpack2x16float(word.z), unpack2x16float(word.w)),
  );
}
fn half_of(pair: u32, thread: u32) -> f32 { return unpack2x16float(pair >> (thread % 2u * 16u)).x; }
fn multiply_add(left: MatrixLine, right: MatrixLine, sum: MatrixLine) -> MatrixLine {
${
  LINES.map((j) =>
    `  let product${j} = dot(left.lo, subgroupBroadcast(right.lo, ${j}u)) + ` +
    `dot(left.hi, subgroupBroadcast(right.hi, ${j}u));`
  ).join("\n")
}
  return MatrixLine(
    sum.lo + vec4<f32>(${LINES.slice(0, 4).map((j) => `product${j}`).join(", ")}),
    sum.hi + vec4<f32>(${LINES.slice(4).map((j) => `product${j}`).join(", ")}),
  );
}
`;

/** Spellings by name. */
const SPELLINGS = { chromium, shuffles };
