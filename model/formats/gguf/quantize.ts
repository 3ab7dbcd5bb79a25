/**
 * Numbers as blocks of quantised ones, each step rounded to f32: the blocks are those of ggml's reference
 * (`quantize_row_q8_0_ref` and `quantize_row_q4_0_ref` in ggml-quants.c) and of Python's `gguf`, to the bit.
 *
 * @module
 */

import { storedBytes } from "./tensor_types.ts";

/** The types that numbers can be quantised to. */
export type WrittenBlocks = "Q8_0" | "Q4_0";

/** Numbers in a block of each. */
export const BLOCK = 32;

const { fround } = Math;

/** Blocks on their way: the same memory as bytes and as f16 numbers. */
interface Target {
  bytes: Uint8Array;
  halves: Float16Array;
}

/** Writes the block of the numbers from `from` on to byte `at`; returns its scale. */
type Encoder = (values: Float32Array, from: number, target: Target, at: number) => number;

/**
 * What numbers are multiplied by to become multiples of `scale`. The scale of numbers so small that none holds this is 0
 * in f16, whatever the numbers are.
 */
function inverse(scale: number): number {
  const inverse = fround(1 / scale);
  return Number.isFinite(inverse) ? inverse : 0;
}

/** To nearest, ties away from zero. */
function rounded(value: number): number {
  return value < 0 ? -Math.floor(0.5 - value) : Math.floor(0.5 + value);
}

/** 127 scales are the largest number by magnitude. */
function q8_0(values: Float32Array, from: number, { bytes, halves }: Target, at: number): number {
  let most = 0;
  for (let i = from; i < from + BLOCK; i++) most = Math.max(most, Math.abs(values[i]));
  const scale = fround(most / 127), times = inverse(scale);
  halves[at >> 1] = scale;
  for (let i = 0; i < BLOCK; i++) bytes[at + 2 + i] = rounded(fround(values[from + i] * times));
  return halves[at >> 1];
}

/** −8 scales are the number that is largest by magnitude, the first of several. */
function q4_0(values: Float32Array, from: number, { bytes, halves }: Target, at: number): number {
  let most = values[from];
  for (let i = from + 1; i < from + BLOCK; i++) {
    if (Math.abs(values[i]) > Math.abs(most)) most = values[i];
  }
  const scale = fround(most / -8), times = inverse(scale);
  halves[at >> 1] = scale;
  const code = (value: number) => Math.min(15, Math.trunc(fround(fround(value * times) + 8.5)));
  for (let i = 0; i < BLOCK / 2; i++) {
    bytes[at + 2 + i] = code(values[from + i]) | code(values[from + BLOCK / 2 + i]) << 4;
  }
  return halves[at >> 1];
}

const ENCODERS: Readonly<Record<WrittenBlocks, Encoder>> = { Q8_0: q8_0, Q4_0: q4_0 };

/**
 * Writes numbers as blocks.
 *
 * @param values Finite, a whole number of blocks.
 * @param target As many bytes as the blocks have, from an even place in their buffer on.
 * @returns Blocks whose numbers are too large for a scale in f16, which is infinite there.
 */
export function quantize(type: WrittenBlocks, values: Float32Array, target: Uint8Array): number {
  const bytes = storedBytes(type, [BLOCK]), count = values.length / BLOCK;
  if (!Number.isInteger(count) || target.length !== count * bytes) {
    throw new RangeError(
      `${target.length} bytes are not those of ${values.length} numbers in ${type}`,
    );
  }
  const halves = new Float16Array(target.buffer, target.byteOffset, target.length / 2);
  const blocks = { bytes: target, halves }, encode = ENCODERS[type];
  let overflows = 0;
  for (let i = 0; i < count; i++) {
    if (!Number.isFinite(encode(values, i * BLOCK, blocks, i * bytes))) overflows++;
  }
  return overflows;
}
