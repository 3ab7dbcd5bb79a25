/**
 * How the programs of LoRA adapters (lora.ts) for subgroup matrices (tensor cores) lay their work out. Operands are f16,
 * A, B, loraHidden and loraHiddenGrad rounded to it; every sum is f32.
 *
 * Workgroup memory is made of words of eight halves. Neither the rows of a matrix nor the words that threads write meet
 * in a bank: a row of a tile has an odd number of words.
 *
 * @module
 */
import { repeat } from "../../../wgsl/repeat.ts";
import {
  MATRIX_SHAPES,
  type MatrixName,
  type MatrixShape,
  type SubgroupMatrix,
  subgroupMatrix,
} from "../../../gpu/subgroup_matrix.ts";
import type { LoraSizes } from "../tiles.ts";

/** Subgroups of a workgroup. */
const SUBGROUPS = 8;

/**
 * The matrices of a program, its subgroups, the ranks of a tile, and the tiles that are loaded into registers before the
 * first of them is multiplied: a load takes longer than a tile.
 */
export type RankTile = { matrices: MatrixName; subgroups: number; ranks: number; ahead: number };
/** Down to the rank: rows of a tile, and values of a row that all subgroups multiply at once. */
export type DownTile = { downRows: number; downDepth: number };
/** Gradients: columns of the wide side of a tile, and rows that are added up at once. */
export type GradientTile = { gradColumns: number; gradDepth: number };
/** Up to a layer's width: rows and columns of a tile. */
export type UpTile = { upRows: number; upColumns: number };
/** The tiles of all programs; each has those that it depends on in its key. */
export type MatrixTiles = RankTile & DownTile & GradientTile & UpTile;

/** How a program shares its work out. */
export type MatrixPlan<Tiles> = Tiles & RankTile & {
  shape: MatrixShape;
  matrix: SubgroupMatrix;
  threads: number;
};

/** The plan of a program's tiles. */
export function matrixPlan<Tiles extends RankTile>(tiles: Tiles): MatrixPlan<Tiles> {
  const shape = MATRIX_SHAPES[tiles.matrices];
  return { ...tiles, shape, matrix: subgroupMatrix(shape), threads: tiles.subgroups * shape.lanes };
}

/** The tiles of adapters of a rank. `fewRows`: larger tiles would leave multiprocessors idle. */
export function matrixTiles(
  matrices: MatrixName,
  { rank, fewRows }: { rank: number; fewRows: boolean },
): MatrixTiles {
  const { m, n, k } = MATRIX_SHAPES[matrices];
  return {
    matrices,
    subgroups: SUBGROUPS,
    ranks: rank > n ? 2 * n : n,
    ahead: 2,
    downRows: fewRows ? m : 2 * m,
    downDepth: SUBGROUPS * 2 * k,
    gradColumns: 4 * n,
    gradDepth: SUBGROUPS * k,
    upRows: 4 * m,
    upColumns: 8 * n,
  };
}

/** The sizes of tiles, by which they are counted. */
export function matrixSizes(tiles: MatrixTiles): LoraSizes {
  const { threads, ranks, downRows, upRows, upColumns, gradColumns } = matrixPlan(tiles);
  return {
    threads,
    downRows,
    downResults: ranks,
    upColumns: upColumns / 4,
    upRows: upRows * upColumns / 4 / threads,
    gradColumns: gradColumns / 4,
    gradVectors: ranks / 4,
  };
}

/** A tile of f16 in workgroup memory. */
export interface Tile {
  /** Its first word. */
  first: number;
  rows: number;
  /** Words of a row, and from a row to the next. */
  words: number;
  stride: number;
  /** Words in all. */
  size: number;
}

/** A tile of rows of so many values. */
export function tileOf(first: number, rows: number, values: number): Tile {
  const words = values / 8, stride = words + 1 - words % 2;
  return { first, rows, words, stride, size: rows * stride };
}

/** WGSL for each of a thread's words of a tile: its number, row and word, and where it is in workgroup memory. */
export function eachWord(
  { first, rows, words, stride }: Tile,
  threads: number,
  line: (
    word: { s: number; row: string; word: string; at: string; to: string; within: string },
  ) => string,
): string {
  return repeat(Math.ceil(rows * words / threads), (s) => {
    const own = s === 0 ? "thread" : `(thread + ${s * threads}u)`;
    const row = `${own} / ${words}u`, word = words === 1 ? "0u" : `${own} % ${words}u`;
    const within = (s + 1) * threads <= rows * words ? "" : `if (${own} < ${rows * words}u) `;
    const at = `${first}u + ${row} * ${stride}u + ${word}`;
    return line({ s, row, word, at, to: `words[${at}]`, within });
  });
}

/**
 * A loop over tiles of `depth` from 0 to `end`: each is loaded into one of `sets` sets of registers, stored in workgroup memory from
 * there, and multiplied. `store` has the tile's place as `at`.
 */
export function walk(
  { sets, depth, end, load, store, multiply }: {
    sets: number;
    depth: number;
    end: string;
    load: (set: number, at: string) => string;
    store: (set: number) => string;
    multiply: string;
  },
): string {
  return `${repeat(sets, (set) => load(set, `${set * depth}u`))}
for (var tileAt = 0u; tileAt < ${end}; tileAt += ${sets * depth}u) {
${
    repeat(sets, (set) =>
      `{
let at = tileAt + ${set * depth}u;
if (at < ${end}) {
${store(set)}
${load(set, `(at + ${sets * depth}u)`)}
workgroupBarrier();
${multiply}
workgroupBarrier();
}
}`)
  }
}`;
}

/** Declares `rounded(lo, hi)`, which makes a word of eight values. */
export const DECLARE_ROUNDED = `
fn rounded(lo: vec4<f32>, hi: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(pack2x16float(lo.xy), pack2x16float(lo.zw), pack2x16float(hi.xy), pack2x16float(hi.zw));
}`;

/** Workgroup memory of so many words, and what makes them. */
export const wordsMemory = (words: number): string => `
var<workgroup> words: array<vec4<u32>, ${words}>;${DECLARE_ROUNDED}`;

/** Declares `keepWord(w, i, subsequence)`: word w, vectors i and i + 1 of x, as dropout leaves it. */
export const KEEP_WORD = `
fn keepWord(word: vec4<u32>, i: u32, subsequence: u32) -> vec4<u32> {
  let lo = keepMask(i, subsequence);
  let hi = keepMask(i + 1u, subsequence);
  return word & vec4<u32>(
    select(0u, 0xffffu, lo.x) | select(0u, 0xffff0000u, lo.y),
    select(0u, 0xffffu, lo.z) | select(0u, 0xffff0000u, lo.w),
    select(0u, 0xffffu, hi.x) | select(0u, 0xffff0000u, hi.y),
    select(0u, 0xffffu, hi.z) | select(0u, 0xffff0000u, hi.w),
  );
}`;
