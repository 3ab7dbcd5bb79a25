/**
 * How attention is cut into tiles, and the WGSL that its programs share.
 *
 * A workgroup owns `rows` rows of one side (queries, or keys in the key gradient) and walks over the
 * other side `columns` at a time. A tile of scores is a product over the head dimension, read
 * `chunk` vectors at a time; each thread holds `rows`/16 × 4 scores in registers. A weighted sum of
 * the other side's rows is then accumulated, read `slice` rows at a time: each thread holds a few
 * rows of `chunks` vectors.
 *
 * Inner array indices are constants or loop invariants, so that a bounds check is made once per
 * loop and not once per access, and rows of shared arrays are an odd number of vectors long, so
 * that neighbouring rows lie in different memory banks.
 *
 * @module
 */
import { repeat } from "./program.ts";
import type { Dtype } from "./tensor.ts";

/** Threads of a workgroup. */
export const THREADS = 128;
/** Rows of the other side in one tile. */
export const COLUMNS = 32;
/** Threads side by side along a tile of scores; each has four columns. */
const SCORE_LANES = COLUMNS / 4;
const SCORE_ROWS = THREADS / SCORE_LANES;
/** The longest piece of a head row in shared memory, in vectors of four. */
const LONGEST_CHUNK = 16;

/** Tile sizes for one head dimension. */
export interface AttentionTiles {
  /** Rows of the workgroup's own side. */
  rows: number;
  /** Vectors of four in a head row. */
  vectors: number;
  /** Vectors of a head row held at a time, and how many such pieces make a row. */
  chunk: number;
  chunks: number;
  /** Rows of the other side held at a time with their whole length, and how many make a tile. */
  slice: number;
  slices: number;
  /** Threads side by side along a head row in the weighted sum. */
  lanes: number;
  /** Vectors from one row to the next in shared arrays of vectors and of weights. */
  stride: number;
  weightStride: number;
  /** Bytes of workgroup memory of the forward, the query gradient and the key gradient program. */
  workgroupBytes: { forward: number; query: number; key: number };
}

/**
 * The tile sizes for a head dimension.
 *
 * @param headDim A multiple of 4 from 4 to 256.
 */
export function attentionTiles(headDim: number): AttentionTiles {
  if (!Number.isInteger(headDim / 4) || headDim < 4 || headDim > 256) {
    throw new Error(`attention: head_dim ${headDim} is not a multiple of 4 from 4 to 256`);
  }
  const vectors = headDim / 4;
  const chunks = Math.ceil(vectors / LONGEST_CHUNK), chunk = Math.ceil(vectors / chunks);
  const rows = chunks <= 2 ? 32 : 16;
  const slice = { 1: 32, 2: 16, 3: 8, 4: 8 }[chunks]!, slices = COLUMNS / slice;
  const lanes = chunk <= 4 ? 4 : chunk <= 8 ? 8 : 16;
  const stride = chunk | 1, weightStride = (slice / 4) | 1;
  const tile = COLUMNS * stride * 16, weights = slices * rows * weightStride * 16;
  return {
    rows,
    vectors,
    chunk,
    chunks,
    slice,
    slices,
    lanes,
    stride,
    weightStride,
    workgroupBytes: {
      // Own rows, the other side's tile, weights; a maximum per thread and a correction per row.
      forward: chunks * rows * stride * 16 + tile + weights + THREADS * 4 + rows * 4,
      query: rows * stride * 16 + tile + weights,
      // Two statistics per column.
      key: 2 * tile + 2 * weights + 2 * COLUMNS * 4,
    },
  };
}

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

/** What programs are generated from. */
export interface AttentionPlan extends AttentionTiles {
  /**
   * Write inner loops out, which GPUs run faster. Otherwise they stay loops, which a software driver
   * compiles many times faster; `u.most`, larger than any count, keeps it from unrolling them itself.
   */
  unroll: boolean;
}

/** The uniforms of every program with tiles. */
export function attentionUniforms({ unroll }: AttentionPlan): Record<string, "u32" | "f32"> {
  const common = { rows: "u32", heads: "u32", kv_heads: "u32", scale: "f32" } as const;
  return unroll ? common : { ...common, most: "u32" };
}

/** Values of {@linkcode attentionUniforms}. */
export function uniformValues(
  rows: number,
  heads: number,
  kvHeads: number,
  headDim: number,
): Record<string, number> {
  return { rows, heads, kv_heads: kvHeads, scale: 1 / Math.sqrt(headDim), most: 0xffffffff };
}

/** The header of a loop that runs `count` times. */
export function loop({ unroll }: AttentionPlan, name: string, count: number): string {
  const bound = unroll ? `${count}u` : `min(${count}u, u.most)`;
  return `for (var ${name} = 0u; ${name} < ${bound}; ${name}++)`;
}

/** `line` for 0, 1, …: written out, or as a loop over the variable `name`. */
function unrollable(
  plan: AttentionPlan,
  name: string,
  count: number,
  line: (i: string) => string,
): string {
  if (plan.unroll) return repeat(count, (i) => `{\n${line(`${i}u`)}\n}`);
  return `${loop(plan, name, count)} {\n${line(name)}\n}`;
}

/** A shared array of vectors with `rows` rows. */
export function tileArray(name: string, { stride }: AttentionTiles, rows: number): string {
  return `var<workgroup> ${name}: array<array<vec4<f32>, ${stride}>, ${rows}>;`;
}

/** A shared array of weights, four columns to a vector: `[slice][row][columns of the slice / 4]`. */
export function weightArray(name: string, { slices, rows, weightStride }: AttentionTiles): string {
  return `var<workgroup> ${name}: ` +
    `array<array<array<vec4<f32>, ${weightStride}>, ${rows}>, ${slices}>;`;
}

/** Functions of every program: reading a head row, and a product that adds to a sum. */
export function functions({ vectors }: AttentionTiles, sources: readonly string[]): string {
  return sources.map((x) => `
fn fetch_${x}(row: u32, end: u32, head: u32, heads: u32, column: u32) -> vec4<f32> {
  // Rows past the end may hold anything, NaN too, which a weight of zero would not remove.
  if (row >= end || column >= ${vectors}u) { return vec4<f32>(); }
  return load_${x}((row * heads + head) * ${vectors}u + column);
}`).join("") + `
fn add_dot(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
  return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, sum))));
}`;
}

/** A read of part of a head: rows from `from`, zeros from row `end` on. */
export interface Source {
  binding: string;
  from: string;
  end: string;
  head: string;
  heads: string;
}

function copyTile(
  plan: AttentionPlan,
  count: number,
  { binding, from, end, head, heads }: Source,
  place: (i: string) => { row: string; column: string; to: string },
): string {
  const steps = Math.ceil(count / THREADS);
  const fetch = (i: string) => {
    const { row, column } = place(i);
    return `fetch_${binding}(${from} + ${row}, ${end}, ${head}, ${heads}, ${column})`;
  };
  if (!plan.unroll) {
    return `${loop(plan, "step", steps)} {
let i = thread + step * ${THREADS}u;
if (i < ${count}u) { ${place("i").to} = ${fetch("i")}; }
}`;
  }
  const at = (n: number) => `(thread + ${n * THREADS}u)`;
  const store = (n: number) => {
    const line = `${place(at(n)).to} = v${n};`;
    return (n + 1) * THREADS <= count ? line : `if (${at(n)} < ${count}u) { ${line} }`;
  };
  // All loads are issued before the first store waits for one.
  return `{
${repeat(steps, (n) => `let v${n} = ${fetch(at(n))};`)}
${repeat(steps, store)}
}`;
}

/**
 * Fills `to` with piece `chunk` (a WGSL expression) of `count` head rows. With `interleave`, row j
 * goes to place j%4·8 + j/4: the four columns of a thread are then 8 apart and those of
 * neighbouring threads side by side, which keeps them in different banks.
 */
export function loadChunk(
  tiles: AttentionPlan,
  to: string,
  count: number,
  chunk: string,
  source: Source,
  interleave = false,
): string {
  return copyTile(tiles, count * tiles.chunk, source, (i) => {
    const row = `${i} / ${tiles.chunk}u`, column = `${i} % ${tiles.chunk}u`;
    const slot = interleave ? `${row} % 4u * ${SCORE_LANES}u + ${row} / 4u` : row;
    return {
      row,
      column: `${chunk} * ${tiles.chunk}u + ${column}`,
      to: `${to}[${slot}][${column}]`,
    };
  });
}

/** Fills `to` with whole rows of slice `slice`; piece c of row r is at `to[c * slice + r]`. */
export function loadSlice(tiles: AttentionPlan, to: string, source: Source): string {
  const { chunk, chunks, slice } = tiles;
  const width = chunk * chunks;
  return copyTile(tiles, slice * width, source, (i) => {
    const row = `${i} / ${width}u`, column = `${i} % ${width}u`;
    const slot = `${column} / ${chunk}u * ${slice}u + ${row}`;
    return {
      row: `slice * ${slice}u + ${row}`,
      column,
      to: `${to}[${slot}][${column} % ${chunk}u]`,
    };
  });
}

/** Score rows of one thread. */
export const scoreRows = ({ rows }: AttentionTiles): number => rows / SCORE_ROWS;

/** The thread's place in a tile of scores: rows `score_row<i>` and columns `score_column` to + 3. */
export function scorePlace(tiles: AttentionTiles): string {
  return `let score_lane = thread % ${SCORE_LANES}u;
let score_column = score_lane * 4u;
${
    repeat(
      scoreRows(tiles),
      (i) => `let score_row${i} = thread / ${SCORE_LANES}u + ${i * SCORE_ROWS}u;`,
    )
  }`;
}

/** Adds the products of one chunk to `sum0`, `sum1`, …; own rows are in `a`, interleaved ones in `b`. */
export function addScores(
  tiles: AttentionPlan,
  sum: string,
  a: string,
  b: string,
): string {
  return unrollable(
    tiles,
    "d",
    tiles.chunk,
    (d) =>
      `${repeat(4, (j) => `let b${j} = ${b}[score_lane + ${j * SCORE_LANES}u][${d}];`)}
${
        repeat(scoreRows(tiles), (i) =>
          `let a${i} = ${a}[score_row${i}][${d}];
${sum}${i} = vec4<f32>(${
            range(4).map((j) => `add_dot(a${i}, b${j}, ${sum}${i}.${"xyzw"[j]})`).join(", ")
          });`)
      }`,
  );
}

/** Where the thread's four columns of score row i belong in an array of weights. */
export function weightPlace(
  { slice }: AttentionTiles,
  name: string,
  row: string,
  vector: string,
): string {
  return `${name}[${vector} / ${slice / 4}u][${row}][${vector} % ${slice / 4}u]`;
}

/** A condition per column: column index (first one `from`) within [low, high). */
export function within(from: string, low: string, high: string): string {
  return `(vec4<u32>(${from} + score_column) + vec4<u32>(0u, 1u, 2u, 3u) >= vec4<u32>(${low})) & ` +
    `(vec4<u32>(${from} + score_column) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(${high}))`;
}

/** Rows of a weighted sum that one thread holds. */
export const sumRows = ({ rows, lanes }: AttentionTiles): number => rows * lanes / THREADS;

/** The thread's place in a weighted sum: rows `sum_row<i>`, vectors `sum_column` + c · chunk. */
export function sumPlace(tiles: AttentionTiles): string {
  const { chunk, lanes } = tiles;
  return `let sum_column = min(thread % ${lanes}u, ${chunk - 1}u);
let sum_idle = thread % ${lanes}u >= ${chunk}u;
${
    repeat(
      sumRows(tiles),
      (i) => `let sum_row${i} = thread / ${lanes}u + ${i * (THREADS / lanes)}u;`,
    )
  }`;
}

/** Declares `name<row>_<chunk>`, the thread's part of a weighted sum. */
export function declareSums(tiles: AttentionTiles, name: string): string {
  return eachSum(tiles, (i, c) => `var ${name}${i}_${c} = vec4<f32>();`);
}

/** A line for every vector of the thread's part of a weighted sum. */
function eachSum(tiles: AttentionTiles, line: (i: number, c: number) => string): string {
  return repeat(sumRows(tiles), (i) => repeat(tiles.chunks, (c) => line(i, c)));
}

/** Adds slice `slice` of the weights times the rows in `values` to a weighted sum. */
export function addWeighted(
  tiles: AttentionPlan,
  sum: string,
  weights: string,
  values: string,
): string {
  const { chunks, slice } = tiles, rows = sumRows(tiles);
  return unrollable(
    tiles,
    "g",
    slice / 4,
    (g) =>
      `${repeat(rows, (i) => `let w${i} = ${weights}[slice][sum_row${i}][${g}];`)}
${
        repeat(4, (j) =>
          repeat(chunks, (c) =>
            `let x${j}_${c} = ${values}[${c * slice + j}u + ${g} * 4u][sum_column];
${
              repeat(
                rows,
                (i) =>
                  `${sum}${i}_${c} = fma(vec4<f32>(w${i}.${
                    "xyzw"[j]
                  }), x${j}_${c}, ${sum}${i}_${c});`,
              )
            }`))
      }`,
  );
}

/** Stores a weighted sum, each row times `factor`, for rows from `from` below `end`. */
export function storeSums(
  tiles: AttentionTiles,
  sum: string,
  target: Source,
  factor: (i: number) => string,
): string {
  const { chunk, chunks, vectors } = tiles;
  const { binding, from, end, head, heads } = target;
  const store = (i: number, c: number) => {
    const line = `store_${binding}(to + ${c * chunk}u, ${sum}${i}_${c} * factor);`;
    // Only the last chunk may be longer than the row's rest.
    return (c + 1) * chunk <= vectors
      ? line
      : `if (sum_column + ${c * chunk}u < ${vectors}u) { ${line} }`;
  };
  return repeat(sumRows(tiles), (i) =>
    `if (!sum_idle && ${from} + sum_row${i} < ${end}) {
let to = ((${from} + sum_row${i}) * ${heads} + ${head}) * ${vectors}u + sum_column;
let factor = ${factor(i)};
${repeat(chunks, (c) => store(i, c))}
}`);
}

/** Bytes of `rows` rows of `heads` heads. */
export function headBytes(dtype: Dtype, rows: number, heads: number, headDim: number): number {
  return rows * heads * headDim * (dtype === "f16" ? 2 : 4);
}
