/**
 * Numbers as blocks of quantised ones, each step rounded to f32: the blocks are those of ggml's reference
 * (`quantize_row_q8_0_ref` and its like in ggml-quants.c) and of Python's `gguf`, to the bit.
 *
 * @module
 */

import { q4_k, q5_k, q6_k } from "./quantize_k.ts";
import { blockElements, type BlockTarget, storedBytes } from "./tensor_types.ts";

/** The types that numbers can be quantised to. */
export type WrittenBlocks = "Q8_0" | "Q5_0" | "Q4_0" | "Q6_K" | "Q5_K" | "Q4_K";

/** Numbers in a block of the types that are not `_K`. */
const BLOCK = 32;

const { fround } = Math;

/** Writes the block of the numbers from `from` on to byte `at`; returns the largest scale that it holds in f16. */
type Encoder = (values: Float32Array, from: number, target: BlockTarget, at: number) => number;

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
function q8_0(
  values: Float32Array,
  from: number,
  { bytes, halves }: BlockTarget,
  at: number,
): number {
  let most = 0;
  for (let i = from; i < from + BLOCK; i++) most = Math.max(most, Math.abs(values[i]));
  const scale = fround(most / 127), times = inverse(scale);
  halves[at >> 1] = scale;
  for (let i = 0; i < BLOCK; i++) bytes[at + 2 + i] = rounded(fround(values[from + i] * times));
  return halves[at >> 1];
}

/** −`steps` scales are the number that is largest by magnitude, the first of several. Returns what makes codes of numbers. */
function symmetric(
  values: Float32Array,
  from: number,
  { halves }: BlockTarget,
  { at, steps }: { at: number; steps: number },
): (i: number) => number {
  let most = values[from];
  for (let i = from + 1; i < from + BLOCK; i++) {
    if (Math.abs(values[i]) > Math.abs(most)) most = values[i];
  }
  const scale = fround(most / -steps), times = inverse(scale);
  halves[at >> 1] = scale;
  return (i) =>
    Math.min(2 * steps - 1, Math.trunc(fround(fround(values[from + i] * times) + (steps + 0.5))));
}

function q4_0(values: Float32Array, from: number, target: BlockTarget, at: number): number {
  const code = symmetric(values, from, target, { at, steps: 8 });
  for (let i = 0; i < BLOCK / 2; i++) {
    target.bytes[at + 2 + i] = code(i) | code(BLOCK / 2 + i) << 4;
  }
  return target.halves[at >> 1];
}

/** The fifth bits of all codes are before the others. */
function q5_0(values: Float32Array, from: number, target: BlockTarget, at: number): number {
  const code = symmetric(values, from, target, { at, steps: 16 });
  const { bytes, halves } = target;
  bytes.fill(0, at + 2, at + 6);
  for (let i = 0; i < BLOCK / 2; i++) {
    const low = code(i), high = code(BLOCK / 2 + i);
    bytes[at + 6 + i] = low & 15 | (high & 15) << 4;
    bytes[at + 2 + (i >> 3)] |= low >> 4 << (i & 7);
    bytes[at + 4 + (i >> 3)] |= high >> 4 << (i & 7);
  }
  return halves[at >> 1];
}

const ENCODERS: Readonly<Record<WrittenBlocks, Encoder>> = {
  Q8_0: q8_0,
  Q5_0: q5_0,
  Q4_0: q4_0,
  Q6_K: q6_k,
  Q5_K: q5_k,
  Q4_K: q4_k,
};

/**
 * Writes numbers as blocks.
 *
 * @param values Finite, a whole number of blocks.
 * @param target As many bytes as the blocks have, from an even place in their buffer on.
 * @returns Blocks whose numbers are too large for a scale in f16, which is infinite there.
 */
export function quantize(type: WrittenBlocks, values: Float32Array, target: Uint8Array): number {
  const elements = blockElements(type), bytes = storedBytes(type, [elements]);
  const count = values.length / elements;
  if (!Number.isInteger(count) || target.length !== count * bytes) {
    throw new RangeError(
      `${target.length} bytes are not those of ${values.length} numbers in ${type}`,
    );
  }
  const halves = new Float16Array(target.buffer, target.byteOffset, target.length / 2);
  const blocks = { bytes: target, halves }, encode = ENCODERS[type];
  let overflows = 0;
  for (let i = 0; i < count; i++) {
    if (!Number.isFinite(encode(values, i * elements, blocks, i * bytes))) overflows++;
  }
  return overflows;
}
