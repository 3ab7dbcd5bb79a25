/**
 * What kinds whose blocks lie along a row have in common, as GGUF's do.
 *
 * @module
 */
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
