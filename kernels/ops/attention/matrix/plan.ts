/**
 * How attention's programs for subgroup matrices (tensor cores) lay their work out: by pure functions. Operands are
 * f16; every sum is f32.
 *
 * A workgroup owns `rows` rows of one side (queries, or keys in their gradient) and walks over the other side `columns`
 * at a time. Its subgroups share a tile of scores down and across: each makes `down` by `across` matrices of it, and of a
 * weighted sum the same rows of as many columns as others beside it. So a matrix of the other side that is read from
 * workgroup memory is multiplied `down` times, and the subgroup's own rows are in its registers all the time.
 *
 * Workgroup memory is one array of words of eight halves: two tiles of head rows (keys and values, or queries and
 * gradients of outputs), then tiles of scores, which are overwritten with the weights made of them. A row has one word
 * more than it needs, so that neither the rows of a matrix nor the words that threads write meet in a bank.
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

/** A subgroup keeps its own rows' matrices in registers: more do not fit. */
const MOST_HEAD_DIM = 128;

/** How a tile of scores is shared out. */
interface TileSharing {
  /** Subgroups below each other, and side by side. */
  subgroupRows: number;
  subgroupColumns: number;
  /** Matrices of a subgroup. */
  down: number;
  across: number;
}

/**
 * Tiles of 128 rows by 32 columns on tensor cores, of 36 KiB with heads of 128. A multiprocessor of an H200 holds two
 * workgroups of up to 24 KiB of workgroup memory, and one that takes more: so one of eight subgroups.
 */
const FORWARD: TileSharing = { subgroupRows: 4, subgroupColumns: 2, down: 2, across: 1 };
/** Tiles of 64 rows by 32 columns, two at a time, of 36 KiB as well. */
const GRADIENT: TileSharing = { subgroupRows: 2, subgroupColumns: 2, down: 2, across: 1 };

/** Bytes of workgroup memory beside a plan's at most. */
const MORE_BYTES = 1024;

/** Subgroups that share the columns of a weighted sum at most. */
const SUM_SHARES = 2 * GRADIENT.subgroupColumns;

/** What a plan is made from: entries of a program's key. */
export interface MatrixKey {
  matrices: MatrixName;
  headDim: number;
}

/** How one program shares its work out. */
export interface MatrixPlan extends TileSharing {
  shape: MatrixShape;
  matrix: SubgroupMatrix;
  headDim: number;
  rows: number;
  columns: number;
  threads: number;
  /** Words of a head row, and from row to row of a tile of them. */
  words: number;
  stride: number;
  /** Words of a tile of the other side's head rows. */
  tileWords: number;
  /** Words, of four f32 each, from row to row of a tile of scores, and of all of it. */
  scoreStride: number;
  scoreWords: number;
  /** Threads that share a row of scores. */
  rowThreads: number;
  /** Pieces in which a weighted sum goes out: of each subgroup's columns as many parts. */
  pieces: number;
  /** Words of four f32 from row to row of such a piece. */
  sumStride: number;
  /** Words of workgroup memory. */
  memory: number;
}

/** A plan with `scores` tiles of scores, each made by subgroups of its own. */
function planOf(
  { matrices, headDim }: MatrixKey,
  sharing: TileSharing,
  scores: number,
): MatrixPlan {
  const shape = MATRIX_SHAPES[matrices], { m, n, lanes } = shape;
  const { subgroupRows, subgroupColumns, down, across } = sharing;
  const rows = subgroupRows * down * m, columns = subgroupColumns * across * n;
  const threads = scores * subgroupRows * subgroupColumns * lanes;
  const words = headDim / 8, stride = words + 1, scoreStride = columns / 4 + 1;
  const tileWords = columns * stride, scoreWords = rows * scoreStride;
  const walk = Math.max(2 * tileWords + scores * scoreWords, scores * rows * stride);
  const strideOf = (pieces: number) => headDim / pieces / 4 + 1;
  const sumWords = (pieces: number) => scores * subgroupRows * m * strideOf(pieces);
  // A subgroup has at least one matrix in each piece.
  const most = headDim / n / (scores * subgroupColumns);
  let pieces = 1;
  while (sumWords(pieces) > walk && 2 * pieces <= most) pieces *= 2;
  return {
    ...sharing,
    shape,
    matrix: subgroupMatrix(shape),
    headDim,
    rows,
    columns,
    threads,
    words,
    stride,
    tileWords,
    scoreStride,
    scoreWords,
    rowThreads: threads / rows,
    pieces,
    sumStride: strideOf(pieces),
    memory: Math.max(walk, sumWords(pieces)),
  };
}

/** The plan of the forward. */
export const forwardPlan = (key: MatrixKey): MatrixPlan => planOf(key, FORWARD, 1);

/** The plan of the gradients: half of the subgroups make scores, half the gradients of weights. */
export const gradientPlan = (key: MatrixKey): MatrixPlan => planOf(key, GRADIENT, 2);

/** Where a tile of scores begins. */
export const scoresFrom = ({ tileWords, scoreWords }: MatrixPlan, tile: number): number =>
  2 * tileWords + tile * scoreWords;

/** Vectors of four scores in a row that a thread has. */
export const vectorsOf = ({ columns, rowThreads }: MatrixPlan): number => columns / rowThreads / 4;

/**
 * Where word `w` of a row of weights lies, from the row's first score on. Threads write weights over scores that they have
 * read themselves, two words side by side over every sixteen scores: over the first two words of a thread that has all
 * sixteen, over the inner two where several share them.
 */
export function weightWord(plan: MatrixPlan, w: number): number {
  return 4 * (w >> 1) + w % 2 + (vectorsOf(plan) < 4 ? 1 : 0);
}

/**
 * The key of the program for these tensors, or undefined where tiles are asked for, the device has no matrices,
 * results have to be exact, or sizes do not suit words and matrices.
 *
 * @param halves What has to be f16. `either`: what may be f32 as well.
 */
export function matrixKey(
  gpu: Pick<Gpu, "matrices" | "device">,
  options: Pick<AttentionOptions, "headDim" | "f16Operands" | "f16Sums" | "matrices" | "shape">,
  { halves, either = [] }: {
    halves: readonly (Heads | Tensor)[];
    either?: readonly (Heads | Tensor)[];
  },
): MatrixKey | undefined {
  const { headDim, f16Operands, f16Sums, shape } = options;
  const { matrices = onTensorCores(gpu.matrices) } = options;
  if (!matrices || !(f16Operands || f16Sums)) return undefined;
  if (shape !== undefined || gpu.matrices === undefined) return undefined;
  const even = headDim % (SUM_SHARES * MATRIX_SHAPES[gpu.matrices].n) === 0;
  const place = (x: Heads | Tensor) => "tensor" in x ? x : { tensor: x, from: 0 };
  const isWhole = (x: Heads | Tensor) => {
    const { tensor, from } = place(x);
    return tensor.rowSize % 8 === 0 && from % 8 === 0;
  };
  const suits = [...halves, ...either].every(isWhole) &&
    halves.every((x) => place(x).tensor.dtype === "f16");
  if (!even || !suits || headDim > MOST_HEAD_DIM) return undefined;
  const key = { matrices: gpu.matrices, headDim };
  const bytes = Math.max(forwardPlan(key).memory, gradientPlan(key).memory) * 16 + MORE_BYTES;
  return bytes <= gpu.device.limits.maxComputeWorkgroupStorageSize ? key : undefined;
}

/** Strides and first columns of `headValues` in words of eight halves. */
export function inWords(values: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value / 2]));
}
