/**
 * WGSL that attention's programs for subgroup matrices share: how tiles in workgroup memory are filled, multiplied
 * and stored.
 *
 * @module
 */
import type { Binding } from "../../../gpu/program.ts";
import { repeat } from "../../../wgsl/repeat.ts";
import { type MatrixPlan, vectorsOf, weightWord } from "./plan.ts";

/** Bindings of head rows that are read in words. */
export function readsWords(...names: string[]): Binding[] {
  return names.map((name) => ({ name, dtype: "f16", access: "read", words: 4 }));
}

/** WGSL for the thread's and the subgroup's places in a tile. */
export function matrixPlaces(plan: MatrixPlan): string {
  const { words, rowThreads, subgroupRows, subgroupColumns } = plan;
  return `let word_row = thread / ${words}u;
  let word_column = thread % ${words}u;
  let subgroup_row = subgroup / ${subgroupColumns}u % ${subgroupRows}u;
  let subgroup_column = subgroup % ${subgroupColumns}u;
  let tile_row = thread / ${rowThreads}u;
  let tile_part = thread % ${rowThreads}u;
  let column_part = tile_part * ${4 * vectorsOf(plan)}u;`;
}

/** Code that moves a thread's words of a tile of head rows, by way of registers. */
export interface TileWords {
  declare: string;
  /** Loads the thread's words of the tile at a row; what waits for them runs later. */
  load(tile: string, word: WordOfRow): string;
  /** Puts them into workgroup memory. */
  store: string;
}

/** WGSL for the thread's word of a head row. */
export type WordOfRow = (row: string) => string;

/** A tile of `rows` head rows that lies at `place`; `name` tells registers apart. */
export function tileWords(
  { words, stride, threads }: MatrixPlan,
  { name, rows, place }: { name: string; rows: number; place: number },
): TileWords {
  const step = threads / words, count = rows / step;
  return {
    declare: repeat(count, (i) => `var ${name}${i} = vec4<u32>();`),
    load: (tile, word) =>
      repeat(count, (i) => `${name}${i} = ${word(`${tile} + word_row + ${i * step}u`)};`),
    store: repeat(count, (i) => {
      const at = `(word_row + ${i * step}u) * ${stride}u + word_column + ${place}u`;
      return `tiles[${at}] = ${name}${i};`;
    }),
  };
}

/** A line for each matrix: down i, across j. */
export function eachMatrix(
  down: number,
  across: number,
  line: (i: number, j: number) => string,
): string {
  return repeat(down, (i) => repeat(across, (j) => line(i, j)));
}

/** Reads the subgroup's own rows, of a tile that begins at `from`, into matrices that stay in registers. */
export function loadOwn(plan: MatrixPlan, from: string): string {
  const { shape: { m, k }, matrix, down, stride, headDim } = plan;
  return eachMatrix(down, headDim / k, (i, step) => {
    const at = `(${from} + subgroup_row * ${down * m * stride}u + ${
      i * m * stride + step * k / 8
    }u)`;
    return `let own${i}_${step} = ${
      matrix.loadLeft({ array: "tiles", at, stride, majority: "row" })
    };`;
  });
}

/** Declares the subgroup's scores. */
export function declareScores({ matrix, down, across }: MatrixPlan): string {
  return eachMatrix(down, across, (i, j) => `var score${i}_${j} = ${matrix.zeros};`);
}

/** Makes the subgroup's scores: products of own rows and the rows of the tile at `tile`. */
export function makeScores(plan: MatrixPlan, tile: string): string {
  const { shape: { n, k }, matrix, down, across, stride, headDim } = plan;
  return repeat(headDim / k, (step) => {
    const right = (j: number) => {
      const at = `(${tile} + subgroup_column * ${across * n * stride}u + ${
        j * n * stride + step * k / 8
      }u)`;
      return matrix.loadRight({ array: "tiles", at, stride, majority: "column" });
    };
    return `{
${repeat(across, (j) => `let right${j} = ${right(j)};`)}
${
      eachMatrix(
        down,
        across,
        (i, j) =>
          `score${i}_${j} = ${
            matrix.multiplyAdd(`own${i}_${step}`, `right${j}`, `score${i}_${j}`)
          };`,
      )
    }
}`;
  });
}

/** Stores the subgroup's scores in the tile at `tile`. */
export function storeScores(plan: MatrixPlan, tile: string): string {
  const { shape: { m, n }, matrix, down, across, scoreStride } = plan;
  return eachMatrix(down, across, (i, j) => {
    const at = `(${tile} + subgroup_row * ${down * m * scoreStride}u + subgroup_column * ${
      across * n / 4
    }u + ${i * m * scoreStride + j * n / 4}u)`;
    return matrix.store({ array: "tiles", at, stride: scoreStride }, `score${i}_${j}`);
  });
}

/** Four scores of the thread, by their number; `at`: WGSL for its first. */
export const scoreWord = (at: string, v: number): string =>
  `bitcast<vec4<f32>>(tiles[${at} + ${v}u])`;

/** WGSL for a word of eight weights, rounded to f16. */
export function weightsOf(lo: string, hi: string): string {
  const pairs = [`${lo}.xy`, `${lo}.zw`, `${hi}.xy`, `${hi}.zw`];
  return `vec4<u32>(${pairs.map((pair) => `pack2x16float(${pair})`).join(", ")})`;
}

/**
 * Stores the thread's weights `<name>0`, `<name>1` …, rounded to f16, over its scores, which begin at `at`; see
 * {@linkcode weightWord}.
 */
export function storeWeights(plan: MatrixPlan, name: string, at: string): string {
  const vectors = vectorsOf(plan);
  if (vectors === 1) {
    return `{
let own = vec2<u32>(pack2x16float(${name}0.xy), pack2x16float(${name}0.zw));
let other = subgroupShuffleXor(own, 1u);
if ((tile_part + 1u) % 4u >= 2u) {
  tiles[${at}] = select(vec4<u32>(own, other), vec4<u32>(other, own), tile_part % 2u == 1u);
}
}`;
  }
  return repeat(vectors / 2, (w) => {
    const place = vectors === 2 ? "1u - tile_part % 2u" : `${w}u`;
    return `tiles[${at} + ${place}] = ${weightsOf(`${name}${2 * w}`, `${name}${2 * w + 1}`)};`;
  });
}

/** WGSL for whether the thread's row does not attend to all of its columns, from `column` on. */
function hasMasked(plan: MatrixPlan, excludes: boolean): string {
  const end = `column + ${4 * vectorsOf(plan)}u`;
  return `column < low || ${end} > high${
    excludes ? ` || (column < excluded_high && ${end} > excluded_low)` : ""
  }`;
}

/** Runs `line` for each of the thread's vectors, with WGSL for which of its columns the row attends to, where not all. */
export function maskWeights(
  plan: MatrixPlan,
  excludes: boolean,
  line: (v: number, attends: string) => string,
): string {
  return `let column = tile + column_part;
if (${hasMasked(plan, excludes)}) {
${
    repeat(vectorsOf(plan), (v) =>
      `let columns${v} = vec4<u32>(column) + vec4<u32>(${
        [0, 1, 2, 3].map((e) => `${4 * v + e}u`)
      });
let attends${v} = ${attends(`columns${v}`, excludes)};
${line(v, `attends${v}`)}`)
  }
}`;
}

const attends = (columns: string, excludes: boolean): string =>
  `(${columns} >= vec4<u32>(low)) & (${columns} < vec4<u32>(high))${
    excludes
      ? ` & ((${columns} < vec4<u32>(excluded_low)) | (${columns} >= vec4<u32>(excluded_high)))`
      : ""
  }`;

/** Declares the subgroup's part of a weighted sum: `count` matrices across. */
export function declareMatrixSums({ matrix, down }: MatrixPlan, count: number): string {
  return eachMatrix(down, count, (i, j) => `var sum${i}_${j} = ${matrix.zeros};`);
}

/**
 * Adds weights times head rows to a weighted sum of `count` matrices across.
 *
 * @param weights WGSL for where the tile of scores begins that the weights lie over.
 * @param rows WGSL for where the subgroup's first column of the tile of head rows begins.
 */
export function addProducts(
  plan: MatrixPlan,
  { count, weights, rows }: { count: number; weights: string; rows: string },
): string {
  const { shape: { m, n, k }, matrix, columns, stride, scoreStride, down } = plan;
  return repeat(columns / k, (step) => {
    const left = (i: number) => {
      const at = `(${weights} + subgroup_row * ${down * m * scoreStride}u + ${
        i * m * scoreStride + weightWord(plan, step * k / 8)
      }u)`;
      return matrix.loadLeft({ array: "tiles", at, stride: scoreStride, majority: "row" });
    };
    const right = (j: number) => {
      const at = `(${rows} + ${step * k * stride + j * n / 8}u)`;
      return matrix.loadRight({ array: "tiles", at, stride, majority: "row" });
    };
    return `{
${repeat(down, (i) => `let left${i} = ${left(i)};`)}
${
      repeat(count, (j) =>
        `{
let right = ${right(j)};
${
          repeat(
            down,
            (i) => `sum${i}_${j} = ${matrix.multiplyAdd(`left${i}`, "right", `sum${i}_${j}`)};`,
          )
        }
}`)
    }
}`;
  });
}

/** A part of a weighted sum on its way out: the matrices `i` of all subgroups, and of their columns one of the pieces. */
export interface SumPiece {
  i: number;
  piece: number;
  /** Matrices across that a subgroup has in all. */
  across: number;
}

/** A line for each part of a weighted sum of which a subgroup has so many matrices across. */
export function eachPiece(
  { down, pieces }: MatrixPlan,
  across: number,
  line: (part: SumPiece) => string,
): string {
  return eachMatrix(down, pieces, (i, piece) => line({ i, piece, across }));
}

/** Stores the subgroup's matrices of a part as rows of f32; `at`: its first; `share`: its number across. */
export function stageSums(
  plan: MatrixPlan,
  { i, piece, across }: SumPiece,
  { at, share }: { at: string; share: string },
): string {
  const { shape: { n }, matrix, pieces, sumStride } = plan, count = across / pieces;
  return repeat(count, (j) => {
    const place = `(${at} + ${share} * ${count * n / 4}u + ${j * n / 4}u)`;
    const sum = `sum${i}_${piece * count + j}`;
    return matrix.store({ array: "tiles", at: place, stride: sumStride }, sum);
  });
}

/** WGSL for which vector of a head row is vector `x` of a row of a part. */
export function stagedVector(
  { shape: { n }, pieces }: MatrixPlan,
  { piece, across }: SumPiece,
  x: string,
): string {
  const whole = across * n / 4, part = whole / pieces;
  return pieces === 1 ? x : `${x} / ${part}u * ${whole}u + ${x} % ${part}u + ${piece * part}u`;
}

/** WGSL for which of the workgroup's rows is row `y` of a part. */
export function stagedRow({ shape: { m }, down }: MatrixPlan, { i }: SumPiece, y: string): string {
  return `${y} / ${m}u * ${down * m}u + ${i * m}u + ${y} % ${m}u`;
}
