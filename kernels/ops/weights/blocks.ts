/**
 * What kinds in blocks along a row have in common, as GGUF's are, and those of 4-bit codes.
 *
 * @module
 */
import type { Binding } from "../../gpu/program.ts";
import type { RowLoadWidth } from "./kind.ts";

/** @throws {Error} where rows of so many values are no whole blocks. */
export function checkBlocks(columns: number, block: number): void {
  if (columns % block === 0) return;
  throw new Error(`rows of ${columns} values can't be held in blocks of ${block}`);
}

/**
 * WGSL of the words of load `i` of 4-bit codes, eight a word: byte j has that of value j in its lower half, that of value
 * 4 + j in its upper. Of a load of 4 the codes are in the lower halves.
 */
export function fourBitWords(name: string, width: RowLoadWidth): string {
  return width === 4 ? `${name}[i / 2u] >> (i % 2u * 4u)` : `${name}[i]`;
}

/** The binding of 4-bit codes for loads of one width. */
export function fourBitBinding(name: string, width: RowLoadWidth): Binding {
  return { name, dtype: "u32", access: "read", words: width === 16 ? 2 : 1 };
}

/** The type of a load's codes in products of few rows, and WGSL of the word that has those of four `p`. */
export function fourBitRow(
  width: RowLoadWidth,
): { type: string; word: (codes: string, p: number) => string } {
  return width === 16
    ? { type: "vec2<u32>", word: (codes, p) => `${codes}[${p >> 1}]` }
    : { type: "u32", word: (codes) => codes };
}
