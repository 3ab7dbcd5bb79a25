/**
 * How tiles of A and B get to workgroup memory as f16, in words of eight: every thread loads some words into
 * registers and stores them later.
 *
 * @module
 */
import { repeat } from "../program.ts";
import type { Dtype } from "../tensor.ts";

/** A tile of A or B in workgroup memory: where the operand runs along k a row is one of A or B, else one of k. */
export interface StagedTile {
  alongK: boolean;
  rows: number;
  /** Words of a row, and from a row to the next. */
  words: number;
  stride: number;
  /** Words in all. */
  size: number;
}

/** The tile of an operand of which a workgroup takes `width` rows or columns, `blockK` deep. */
export function stagedTile(alongK: boolean, width: number, blockK: number): StagedTile {
  const rows = alongK ? width : blockK, words = (alongK ? blockK : width) / 8;
  return { alongK, rows, words, stride: words + 1, size: rows * (words + 1) };
}

/**
 * Values of K that f16 operands are loaded ahead. Twice as many gain nothing at a depth of 64; at 32 they
 * gain up to 8% (336 instead of 312 TFLOP/s in `tn`). Registers hold half as many of f32.
 */
export const LOADED_AHEAD = 64;

/** Code that moves a thread's words of an operand's tiles. A set of registers holds those of one tile. */
export interface Staging {
  declare: string;
  /** Loads into a set what lies at k = kLoad. */
  load(set: number): string;
  /** Stores a set in workgroup memory. */
  store(set: number): string;
}

/**
 * How the `threads` of a workgroup share an operand's tile, which begins at word `first`.
 *
 * @param ragged K may end within a tile: what lies beyond kEnd is zero.
 * @throws {Error} where the threads can't share the tile evenly.
 */
export function staging(
  name: "a" | "b",
  { alongK, rows, words, stride }: StagedTile,
  { first, dtype, threads, ragged, sets }: {
    first: number;
    dtype: Dtype;
    threads: number;
    ragged: boolean;
    sets: number;
  },
): Staging {
  const count = rows * words / threads;
  if (!Number.isInteger(count)) {
    throw new Error(`${threads} threads can't share ${rows} rows of ${words} words`);
  }
  // After so many of a thread's words the next ones lie as these do, some rows below.
  const period = words / greatestCommonDivisor(words, threads);
  const [base, limit] = name === "a" ? ["rowBase", "u.m"] : ["columnBase", "u.n"];
  const type = dtype === "f16" ? "vec4<u32>" : "vec4<f32>", registers = dtype === "f16" ? 1 : 2;
  const register = (set: number, s: number, half: number) => `${name}${set}_${s}_${half}`;
  // Eight neighbouring threads store two rows of four words: rows r and r + 4, which meet in no bank.
  const rowOf = (row: string) =>
    alongK && words === 4 ? `((${row}) & ~7u) | ((${row}) % 2u * 4u) | ((${row}) / 2u % 4u)` : row;
  const pieces = Array.from({ length: count }, (_, s) => {
    const below = Math.floor(s / period) * period * threads / words;
    const row = `${name}Row${s % period} + ${below}u`, word = `${name}Word${s % period}`;
    return {
      s,
      row,
      word,
      at: `${name}At${s}`,
      put: `${name}Put${s % period} + ${below * stride}u`,
    };
  });
  const declare = repeat(Math.min(period, count), (e) => `
let ${name}Row${e} = ${rowOf(`(thread + ${e * threads}u) / ${words}u`)};
let ${name}Word${e} = (thread + ${e * threads}u) % ${words}u;
let ${name}Put${e} = ${first}u + ${name}Row${e} * ${stride}u + ${name}Word${e};`) +
    pieces.map(({ s, row, word, at }) => {
      // Past the last row of A or B the last one is read again: its results are not stored.
      const index = alongK
        ? `(u.${name}Offset + min(${base} + ${row}, ${limit} - 1u) * u.${name}Stride) / 2u + ${word}`
        : `(u.${name}Offset + (${row}) * u.${name}Stride) / 2u` +
          ` + min(${base} / 8u + ${word}, ${limit} / 8u - 1u)`;
      return `let ${at} = ${index};\n` +
        repeat(
          sets,
          (set) => repeat(registers, (half) => `var ${register(set, s, half)} = ${type}();`),
        ) + "\n";
    }).join("");
  const load = (set: number) =>
    pieces.map(({ s, row, word, at }) =>
      repeat(registers, (half) => {
        const target = register(set, s, half);
        const index = `${at} + ${alongK ? "kLoad / 8u" : `kLoad * u.${name}Stride / 2u`}`;
        const source = registers === 1
          ? `${name}[${index}]`
          : `${name}[(${index}) * 2u + ${half}u]`;
        const k = `kLoad + ${alongK ? `${word} * 8u` : row}`;
        return ragged
          ? `if (${k} < kEnd) { ${target} = ${source}; } else { ${target} = ${type}(); }`
          : `${target} = ${source};`;
      })
    ).join("\n");
  const store = (set: number) =>
    pieces.map(({ s, put }) => {
      const pack = (half: number) =>
        ["xy", "zw"].map((two) => `pack2x16float(${register(set, s, half)}.${two})`).join(", ");
      const value = registers === 1 ? register(set, s, 0) : `vec4<u32>(${pack(0)}, ${pack(1)})`;
      return `tile[${put}] = ${value};`;
    }).join("\n");
  return { declare, load, store };
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
