/**
 * WGSL that attention's programs for subgroup matrices share: how tiles in workgroup memory are filled, multiplied
 * and stored.
 *
 * @module
 */
import type { Binding } from "../../../gpu/program.ts";
import { repeat } from "../../../wgsl/repeat.ts";
import { rotateBack } from "../../../wgsl/rotate.ts";
import type { SumRotation } from "../row_index.ts";
import type { MatrixPlan } from "./plan.ts";

/** Bindings of head rows that are read in words. */
export function readsWords(...names: string[]): Binding[] {
  return names.map((name) => ({ name, dtype: "f16", access: "read", words: 4 }));
}

/**
 * Declares workgroup memory: `tiles` for two tiles of head rows, and `scores` for a tile of scores and one of
 * weights after it. Weights may also take the place of scores that all threads have read.
 */
export function declareTiles(plan: MatrixPlan): string {
  const { rows, columns, stride, weightStride, sumStride, weightPlaces } = plan;
  const words = Math.max(2 * columns * stride, rows * sumStride);
  return `var<workgroup> tiles: array<vec4<u32>, ${words}>;
var<workgroup> scores: array<vec4<u32>, ${weightPlaces.afterScores + rows * weightStride}>;`;
}

/** A function `fetch_<binding>(row, end, first, word)`: a word of a head row, zeros from row `end` on. */
export function fetchWord(binding: string, stride: string = binding): string {
  return `fn fetch_${binding}(row: u32, end: u32, first: u32, word: u32) -> vec4<u32> {
  if (row >= end) { return vec4<u32>(); }
  return ${binding}[row * u.${stride}_stride + first + word];
}`;
}

/** Code that moves a thread's words of tiles of head rows, by way of registers. */
export interface TileWords {
  declare: string;
  /** Loads the thread's words; what waits for them runs later. */
  load: string;
  /** Puts them into workgroup memory. */
  store: string;
}

/** WGSL for a word of a head row: row and word are expressions. */
export type FetchWord = (row: string, word: string) => string;

/** The first tiles, each filled by a fetch of its own; `name` tells registers apart. */
export function tileWords(
  { columns, words, stride, threads }: MatrixPlan,
  name: string,
  fetches: readonly FetchWord[],
): TileWords {
  const count = columns * words / threads;
  const at = (n: number) => n === 0 ? "thread" : `(thread + ${n * threads}u)`;
  const each = (line: (t: number, n: number) => string) =>
    fetches.map((_, t) => repeat(count, (n) => line(t, n))).join("\n");
  return {
    declare: each((t, n) => `var ${name}${t}_${n} = vec4<u32>();`),
    load: each((t, n) => {
      const word = fetches[t](`${at(n)} / ${words}u`, `${at(n)} % ${words}u`);
      return `${name}${t}_${n} = ${word};`;
    }),
    store: each((t, n) => {
      const row = `${t * columns * stride}u + ${at(n)} / ${words}u * ${stride}u`;
      return `tiles[${row} + ${at(n)} % ${words}u] = ${name}${t}_${n};`;
    }),
  };
}

/** Reads the subgroup's own rows out of tile `tile` into matrices `<name>0`, `<name>1` …. */
export function loadOwn(plan: MatrixPlan, name: string, tile: number): string {
  const { shape: { m, k }, matrix, columns, stride, headDim } = plan;
  return repeat(headDim / k, (step) => {
    const at = `own_matrix * ${m * stride}u + ${tile * columns * stride + step * k / 8}u`;
    return `let ${name}${step} = ${
      matrix.loadLeft({ array: "tiles", at, stride, majority: "row" })
    };`;
  });
}

/** WGSL for the thread's and the subgroup's places; `tile_row` and `tile_word` are those of its weights. */
export function matrixPlaces({ weightWords }: MatrixPlan): string {
  return `let own_matrix = subgroup / 2u;
let other_matrix = subgroup % 2u;
let tile_row = thread / ${weightWords}u;
let tile_word = thread % ${weightWords}u;`;
}

/** Stores the products of own rows `<name>…` and the rows of tile `tile` as scores. */
export function makeScores(plan: MatrixPlan, name: string, tile: number): string {
  const { shape: { m, n, k }, matrix, columns, stride, scoreStride, headDim } = plan;
  const to = `own_matrix * ${m * scoreStride}u + other_matrix * ${n / 4}u`;
  const products = repeat(headDim / k, (step) => {
    const at = `other_matrix * ${n * stride}u + ${tile * columns * stride + step * k / 8}u`;
    const right = matrix.loadRight({ array: "tiles", at, stride, majority: "column" });
    return `product = ${matrix.multiplyAdd(`${name}${step}`, right, "product")};`;
  });
  return `{
var product = ${matrix.zeros};
${products}
${matrix.store({ array: "scores", at: to, stride: scoreStride }, "product")}
}`;
}

/** Reads the thread's eight scores as `<name>_lo` and `<name>_hi`. */
export function readScores({ scoreStride }: MatrixPlan, name: string): string {
  const at = `tile_row * ${scoreStride}u + tile_word * 2u`;
  return `let ${name}_lo = bitcast<vec4<f32>>(scores[${at}]);
let ${name}_hi = bitcast<vec4<f32>>(scores[${at} + 1u]);`;
}

/** WGSL for whether the thread's row attends to each of its columns of the tile at `tile`. */
export const attends = (excludes: boolean): string =>
  `let column_lo = vec4<u32>(tile + tile_word * 8u) + vec4<u32>(0u, 1u, 2u, 3u);
let column_hi = column_lo + 4u;
let attends_lo = (column_lo >= vec4<u32>(low)) & (column_lo < vec4<u32>(high))${
    outside("lo", excludes)
  };
let attends_hi = (column_hi >= vec4<u32>(low)) & (column_hi < vec4<u32>(high))${
    outside("hi", excludes)
  };`;

const outside = (half: "lo" | "hi", excludes: boolean) =>
  excludes
    ? ` & ((column_${half} < vec4<u32>(excluded_low)) | (column_${half} >= vec4<u32>(excluded_high)))`
    : "";

/** Stores the thread's eight weights `<name>_lo` and `<name>_hi`, rounded to f16, in the tile that begins at `place`. */
export function storeWeights({ weightStride }: MatrixPlan, name: string, place: number): string {
  const at = `tile_row * ${weightStride}u + tile_word + ${place}u`;
  const pairs = ["lo.xy", "lo.zw", "hi.xy", "hi.zw"].map((pair) =>
    `pack2x16float(${name}_${pair})`
  );
  return `scores[${at}] = vec4<u32>(${pairs.join(", ")});`;
}

/** A line for each matrix of the subgroup's part of a weighted sum: down i, across j. */
function eachSum({ sumColumns }: MatrixPlan, line: (i: number, j: number) => string): string {
  return repeat(2, (i) => repeat(sumColumns, (j) => line(i, j)));
}

/** Declares the subgroup's part of a weighted sum. */
export function declareMatrixSums(plan: MatrixPlan, sum: string): string {
  return eachSum(plan, (i, j) => `var ${sum}${i}_${j} = ${plan.matrix.zeros};`);
}

/** Adds the tile of weights that begins at `weights` times a tile of head rows to a weighted sum. */
export function addProducts(
  plan: MatrixPlan,
  sum: string,
  { weights, tile }: { weights: number; tile: number },
): string {
  const { shape: { m, n, k }, matrix, columns, stride, weightStride, sumColumns } = plan;
  return repeat(columns / k, (step) => {
    const left = (i: number) => {
      const at = `${weights + i * m * weightStride + step * k / 8}u`;
      return matrix.loadLeft({ array: "scores", at, stride: weightStride, majority: "row" });
    };
    const right = (j: number) => {
      const from = (tile * columns + step * k) * stride + j * n / 8;
      const at = `subgroup * ${sumColumns * n / 8}u + ${from}u`;
      return matrix.loadRight({ array: "tiles", at, stride, majority: "row" });
    };
    return `{
${repeat(2, (i) => `let left${i} = ${left(i)};`)}
${repeat(sumColumns, (j) => `let right${j} = ${right(j)};`)}
${
      eachSum(plan, (i, j) => {
        const to = `${sum}${i}_${j}`;
        return `${to} = ${matrix.multiplyAdd(`left${i}`, `right${j}`, to)};`;
      })
    }
}`;
  });
}

/** Where a weighted sum goes: a binding, WGSL for a row's first vector in it, and how it is rotated back, where it is. */
export interface SumTarget {
  binding: string;
  start: (row: string) => string;
  rotation?: SumRotation;
}

/**
 * Stores a weighted sum times `factor`, by way of workgroup memory: only there can a thread find its
 * vectors. Rows from `u.rows` on are left out.
 */
export function storeMatrixSums(
  plan: MatrixPlan,
  sum: string,
  { binding, start, rotation }: SumTarget,
  factor: string,
): string {
  const { shape: { m, n }, matrix, rows, threads, words, sumStride, sumColumns } = plan;
  const parts = eachSum(plan, (i, j) => {
    const at = `subgroup * ${sumColumns * n / 4}u + ${i * m * sumStride + j * n / 4}u`;
    return matrix.store(
      { array: "tiles", at, stride: sumStride },
      `${sum}${i}_${j}`,
    );
  });
  const rotated = ({ angles, pairs }: SumRotation) => {
    const pair = rotateBack({ first: "lo", second: "hi", cos: "cos", sin: "sin" }, pairs);
    return `let angle = ${angles("row")} + pair;
    let cos = load_table(angle);
    let sin = load_table(angle + ${words}u);
    store_${binding}(to, ${pair.first});
    store_${binding}(to + ${words}u, ${pair.second});`;
  };
  const stored = rotation === undefined
    ? `store_${binding}(to, lo);
    store_${binding}(to + ${words}u, hi);`
    : rotated(rotation);
  return `workgroupBarrier();
${parts}
workgroupBarrier();
for (var n = thread; n < ${rows * words}u; n += ${threads}u) {
  let row = first + n / ${words}u;
  let pair = n % ${words}u;
  if (row < u.rows) {
    let at = n / ${words}u * ${sumStride}u + pair;
    let lo = bitcast<vec4<f32>>(tiles[at]) * (${factor});
    let hi = bitcast<vec4<f32>>(tiles[at + ${words}u]) * (${factor});
    let to = ${start("row")} + pair;
    ${stored}
  }
}`;
}
