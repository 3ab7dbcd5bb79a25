/**
 * How attention's programs for subgroup matrices (tensor cores) lay their work out: by pure functions. All tensors
 * are f16; every sum is f32.
 *
 * A workgroup of four subgroups owns `rows` rows of one side (queries, or keys in their gradient) and walks
 * over the other side `columns` at a time. Both are two matrices high, so each subgroup makes one matrix of
 * a tile's scores, and a quarter of the columns of a weighted sum.
 *
 * Workgroup memory is made of words of eight halves. A row has one word more than it needs, so that neither
 * the rows of a matrix nor the words that threads write meet in a bank. All of it together is 24 KiB with heads of
 * 128: a multiprocessor of an H100 holds two such workgroups, and one that takes more.
 *
 * @module
 */
import type { Gpu } from "../../../gpu/gpu.ts";
import {
  MATRIX_SHAPES,
  type MatrixName,
  type MatrixShape,
  onTensorCores,
  type SubgroupMatrix,
  subgroupMatrix,
} from "../../../gpu/subgroup_matrix.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import type { Heads } from "../heads.ts";
import type { AttentionOptions } from "../tiled/plan.ts";

const SUBGROUPS = 4;
/** A subgroup keeps its own rows' matrices in registers: more do not fit. */
const MOST_HEAD_DIM = 128;

/** What a plan is made from: entries of a program's key. */
export interface MatrixKey {
  matrices: MatrixName;
  headDim: number;
}

/** How one program shares its work out. */
export interface MatrixPlan {
  shape: MatrixShape;
  matrix: SubgroupMatrix;
  headDim: number;
  rows: number;
  columns: number;
  threads: number;
  /** Words of a head row, and from row to row of a tile of them. */
  words: number;
  stride: number;
  /** Words, of four f32 each, from row to row of a tile of scores. */
  scoreStride: number;
  /** Words of a tile's row of weights, and from row to row. */
  weightWords: number;
  weightStride: number;
  /** Where tiles of weights begin behind the tiles of head rows: in place of the scores, and after them. */
  weightPlaces: { overScores: number; afterScores: number };
  /** Vectors of four f32 from row to row of a weighted sum on its way out. */
  sumStride: number;
  /** Matrices side by side in a subgroup's part of a weighted sum. */
  sumColumns: number;
}

/** The plan of a key. */
export function matrixPlan({ matrices, headDim }: MatrixKey): MatrixPlan {
  const shape = MATRIX_SHAPES[matrices], rows = 2 * shape.m, columns = 2 * shape.n;
  return {
    shape,
    matrix: subgroupMatrix(shape),
    headDim,
    rows,
    columns,
    threads: SUBGROUPS * shape.lanes,
    words: headDim / 8,
    stride: headDim / 8 + 1,
    scoreStride: columns / 4 + 1,
    weightWords: columns / 8,
    weightStride: columns / 8 + 1,
    weightPlaces: { overScores: 0, afterScores: rows * (columns / 4 + 1) },
    sumStride: headDim / 4 + 1,
    sumColumns: headDim / shape.n / SUBGROUPS,
  };
}

/**
 * The key of the program for these tensors, or undefined where tiles are asked for, the device has no matrices,
 * results have to be exact, or sizes do not suit words and matrices.
 */
export function matrixKey(
  gpu: Pick<Gpu, "matrices">,
  options: Pick<AttentionOptions, "headDim" | "f16Sums" | "matrices" | "shape">,
  tensors: readonly (Heads | Tensor)[],
): MatrixKey | undefined {
  const { headDim, f16Sums, shape, matrices = onTensorCores(gpu.matrices) } = options;
  if (!matrices || !f16Sums || shape !== undefined || gpu.matrices === undefined) return undefined;
  const even = headDim % (SUBGROUPS * MATRIX_SHAPES[gpu.matrices].n) === 0;
  const suits = tensors.every((x) => {
    const { tensor, from } = "tensor" in x ? x : { tensor: x, from: 0 };
    return tensor.dtype === "f16" && tensor.rowSize % 8 === 0 && from % 8 === 0;
  });
  return even && suits && headDim <= MOST_HEAD_DIM
    ? { matrices: gpu.matrices, headDim }
    : undefined;
}

/** Strides and first columns of `headValues` in words of eight halves. */
export function inWords(values: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value / 2]));
}
