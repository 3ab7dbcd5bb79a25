/**
 * The matrix product for GPUs: a workgroup stages tiles of A and B in workgroup memory, each thread keeps
 * its results in registers. The inner loop is unrolled, since wgpu guards every loop. All but one of its indices into
 * the tile are constants, and that one does not change, so that wgpu's guards leave the loop.
 *
 * Sums are f32. With f16 operands (which need the extension f16) A and B are rounded to f16, and sums over up to
 * {@linkcode F16_RANGE} values of k are f16: a relative error of 7·10⁻⁴ of a sum of random numbers.
 *
 * @module
 */
import { programFamily, reads, writes } from "../../gpu/program.ts";
import { repeat } from "../../wgsl/repeat.ts";
import type { Dtype } from "../../gpu/tensor.ts";
import type { Float } from "../numerics.ts";
import { denseKind, weightKind } from "../weights/kinds.ts";
import { type Orientation, UNIFORMS } from "./orientation.ts";
import {
  columnsOfWord,
  ROWS_OF_WORD,
  type Tile,
  wordsOfA,
  workgroupThreads,
} from "./tiled_geometry.ts";
import { F16_RANGE, f16Scale, tileStaging } from "./tiled_staging.ts";

const range = (count: number) => Array.from({ length: count }, (_, i) => i);
const COMPONENTS = "xyzw";

/**
 * A thread's values of A and B at k: its rows `a0`, `a1`, … and the words of its columns `b0`, `b1`, …. Of its last
 * word of rows only the rows that it has are read.
 */
function loadOperands(k: number, { blockN, threadM, threadN }: Tile, operands: Float): string {
  const across = blockN / threadN, words = Math.ceil(threadM / ROWS_OF_WORD);
  const at = `tile[${k % 4}][${k >> 2}]`;
  const rows = (word: number) => {
    const place = `${at}[aFirst + ${word}u]`, first = word * ROWS_OF_WORD;
    const count = Math.min(ROWS_OF_WORD, threadM - first);
    const part = (i: number) => `let a${first + i} = `;
    return count < ROWS_OF_WORD
      ? repeat(count, (i) => `${part(i)}${place}.${COMPONENTS[i]};`)
      : `let w${word} = ${place};\n${repeat(count, (i) => `${part(i)}w${word}.${COMPONENTS[i]};`)}`;
  };
  return repeat(words, rows) + "\n" +
    repeat(threadN / columnsOfWord(operands), (j) => `let b${j} = ${at}[bFirst + ${j * across}u];`);
}

/** Adds the products of a tile to the results `c{row}_{column/4}`, vectors of f32. */
function multiply(tile: Tile): string {
  const { threadM, threadN, blockK } = tile;
  const fma = (i: number, j: number) => {
    const component = COMPONENTS[j % 4], sum = `c${i}_${j >> 2}.${component}`;
    return `${sum} = fma(a${i}, b${j >> 2}.${component}, ${sum});`;
  };
  // Back and forth over two rows, so that the next instruction reads a register again: 47 instead of 44 TFLOP/s on an
  // H100.
  const rows = (i: number) => {
    const columns = range(threadN);
    const there = columns.map((j) => fma(i, j));
    const back = i + 1 < threadM ? columns.reverse().map((j) => fma(i + 1, j)) : [];
    return [...there, ...back].join("\n");
  };
  return repeat(
    blockK,
    (k) =>
      `{\n${loadOperands(k, tile, "f32")}\n${
        repeat(Math.ceil(threadM / 2), (i) => rows(2 * i))
      }\n}`,
  );
}

/** The same with f16 sums `h{row}_{column/2}`, vectors of two, over up to {@linkcode F16_RANGE} values of k. */
function multiplyF16(tile: Tile): string {
  const { threadM, threadN, blockK } = tile;
  const summed = Math.min(F16_RANGE, blockK);
  return repeat(blockK, (k) => {
    const first = k % summed === 0, last = k % summed === summed - 1;
    const products = repeat(threadM, (i) =>
      repeat(threadN / 2, (j) => {
        const h = `h${i}_${j}`, pair = `b${j >> 2}.${COMPONENTS[j % 4]}`;
        return first ? `${h} = a${i} * ${pair};` : `${h} = fma(a${i}, ${pair}, ${h});`;
      }));
    const sums = repeat(threadM, (i) =>
      repeat(
        threadN / 4,
        (j) => `c${i}_${j} += vec4<f32>(vec2<f32>(h${i}_${2 * j}), vec2<f32>(h${i}_${2 * j + 1}));`,
      ));
    return `{\n${loadOperands(k, tile, "f16")}\n${products}\n}\n${last ? sums : ""}`;
  });
}

/** Declares the results, zero. */
function results({ threadM, threadN }: Tile, operands: Float): string {
  return repeat(threadM, (i) =>
    repeat(threadN / 4, (j) => `var c${i}_${j} = vec4<f32>();`) +
    (operands === "f16" ? "\n" + repeat(threadN / 2, (j) => `var h${i}_${j} = vec2<f16>();`) : ""));
}

/** Stores the results that are within C. */
function store(tile: Tile, inWord: number, accumulate: boolean, scale: number): string {
  const { blockN, threadM, threadN } = tile, across = blockN / threadN;
  const alpha = scale === 1 ? "u.alpha" : `(u.alpha * ${1 / scale}.0)`;
  const line = (i: number, j: number) => {
    const word = Math.floor(4 * j / inWord) * across;
    return `{ let column = columnBase + (tx + ${word}u) * ${inWord}u + ${4 * j % inWord}u;
if (column < u.n) { let at = first + column / 4u;
store_c(at, c${i}_${j} * ${alpha}${accumulate ? " + load_c(at)" : ""}); } }`;
  };
  return repeat(threadM, (i) =>
    `{ let row = firstRow + ${i}u;
if (row < u.m) { let first = u.cOffset + (group.z * u.m + row) * u.cStride;
${repeat(threadN / 4, (j) => line(i, j))} } }`);
}

/** What a tiled program depends on. */
type TiledProduct = {
  orientation: Orientation;
  a: Dtype;
  /** The kind of B's weights. */
  b: string;
  c: Dtype;
  /** Adds to C. */
  accumulate: boolean;
  /** What A and B are staged as. */
  operands: Float;
} & Pick<Tile, "blockM" | "blockN" | "blockK" | "threadM" | "threadN">;

/** The program of one kind of product and one tile. Split z of K makes rows z·m to (z + 1)·m of C. */
export const tiledMatmul = programFamily(
  "matmul",
  ({ orientation, a, b, c, accumulate, operands, ...tile }: TiledProduct) => {
    const { blockM, blockN, blockK, threadM, threadN } = tile, kindOfB = weightKind(b);
    const across = blockN / threadN, columns = columnsOfWord(operands);
    const threads = workgroupThreads(tile);
    const stage = tileStaging({ orientation, a: denseKind(a), b: kindOfB, operands, tile });
    return {
      bindings: [...reads(a, "a"), ...kindOfB.bindings("b", 4), ...writes(c, "c")],
      uniforms: UNIFORMS,
      extensions: operands === "f16" ? ["f16"] : [],
      body: `
${stage.module}${kindOfB.functions("b", 4, true)}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
let rowBase = group.x * ${blockM}u;
let columnBase = group.y * ${blockN}u;
// Threads whose rows are past the end don't multiply. A warp stays on the scheduler of its number. The numbers are
// shifted in every workgroup, so that no scheduler has all the work.
let lane = (thread + (group.y + group.z) * 32u) % ${threads}u;
let tx = lane % ${across}u;
let ty = lane / ${across}u;
let firstRow = rowBase + ty * ${threadM}u;
let busy = firstRow < u.m;
let aFirst = ty * ${Math.ceil(threadM / ROWS_OF_WORD)}u;
let bFirst = tx + ${wordsOfA(tile)}u;
let kBegin = group.z * u.kPerSplit;
let kEnd = min(u.k, kBegin + u.kPerSplit);
${stage.declare}
${results(tile, operands)}
var k0 = kBegin;
${stage.load}${kindOfB.setup?.("b", threads) ?? ""}
loop {
if (k0 >= kEnd) { break; }
${stage.store}
workgroupBarrier();
k0 += ${blockK}u;
// The next tiles are being loaded while these are used.
${stage.load}
if (busy) {
${operands === "f16" ? multiplyF16(tile) : multiply(tile)}
}
workgroupBarrier();
}
${store(tile, columns, accumulate, f16Scale({ orientation, operands }))}
}`,
    };
  },
);
