/**
 * Blocks of quantised numbers as f32. Each step is rounded to f32, as Python's `gguf` (gguf/quants.py) computes it, whose
 * results these are to the bit. The layouts are ggml's (ggml-common.h).
 *
 * @module
 */

import type { ReadType, TensorType } from "./tensor_types.ts";

/** The types whose numbers are in blocks. */
export type QuantizedType = Exclude<ReadType, "F32" | "F16" | "BF16">;

/** Whether a type's numbers are in blocks. */
export function isQuantized(type: TensorType): type is TensorType & { name: QuantizedType } {
  return type.elements > 1;
}

/** Bytes of several blocks, which begin at an even place in their buffer. */
interface Blocks {
  bytes: Uint8Array;
  /** The same as f16 numbers, two bytes each: a block's own are at even places. */
  halves: Float16Array;
  /** The same as signed bytes. */
  signed: Int8Array;
}

/** Writes the numbers of the block that begins at byte `at` to `out`, from `to` on. */
type Decoder = (blocks: Blocks, at: number, out: Float32Array, to: number) => void;

const { fround } = Math;

/** d·(q − offset): 16 bytes hold the low four bits of numbers 0 to 15, their high ones those of 16 to 31. */
function q4_0({ bytes, halves }: Blocks, at: number, out: Float32Array, to: number): void {
  const d = halves[at >> 1];
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + 2 + i];
    out[to + i] = d * ((pair & 15) - 8);
    out[to + 16 + i] = d * ((pair >> 4) - 8);
  }
}

/** d·q + m. */
function q4_1({ bytes, halves }: Blocks, at: number, out: Float32Array, to: number): void {
  const d = halves[at >> 1], m = halves[(at >> 1) + 1];
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + 4 + i];
    out[to + i] = fround(d * (pair & 15)) + m;
    out[to + 16 + i] = fround(d * (pair >> 4)) + m;
  }
}

/** Four bytes as a little-endian number: the fifth bit of each of 32 numbers. */
export function fifthBits(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
}

function q5_0({ bytes, halves }: Blocks, at: number, out: Float32Array, to: number): void {
  const d = halves[at >> 1], high = fifthBits(bytes, at + 2);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + 6 + i];
    out[to + i] = d * (((pair & 15) | ((high >>> i & 1) << 4)) - 16);
    out[to + 16 + i] = d * (((pair >> 4) | ((high >>> (i + 16) & 1) << 4)) - 16);
  }
}

function q5_1({ bytes, halves }: Blocks, at: number, out: Float32Array, to: number): void {
  const d = halves[at >> 1], m = halves[(at >> 1) + 1], high = fifthBits(bytes, at + 4);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + 8 + i];
    out[to + i] = fround(d * ((pair & 15) | ((high >>> i & 1) << 4))) + m;
    out[to + 16 + i] = fround(d * ((pair >> 4) | ((high >>> (i + 16) & 1) << 4))) + m;
  }
}

function q8_0({ halves, signed }: Blocks, at: number, out: Float32Array, to: number): void {
  const d = halves[at >> 1];
  for (let i = 0; i < 32; i++) out[to + i] = d * signed[at + 2 + i];
}

/** The scale of group `j` of eight in a block of Q4_K or Q5_K: six bits of the twelve bytes from `at` on. */
export function kScale(bytes: Uint8Array, at: number, j: number): number {
  if (j < 4) return bytes[at + j] & 63;
  return (bytes[at + j + 4] & 15) | ((bytes[at + j - 4] >> 2) & 48);
}

/** Its minimum. */
export function kMinimum(bytes: Uint8Array, at: number, j: number): number {
  if (j < 4) return bytes[at + j + 4] & 63;
  return (bytes[at + j + 4] >> 4) | ((bytes[at + j] >> 2) & 48);
}

/** (d·scale)·q − dmin·minimum: pairs of groups of 32 share 32 bytes. */
function q4_k({ bytes, halves }: Blocks, at: number, out: Float32Array, to: number): void {
  const d = halves[at >> 1], dmin = halves[(at >> 1) + 1];
  for (let j = 0; j < 8; j++) {
    const scale = fround(d * kScale(bytes, at + 4, j));
    const minimum = fround(dmin * kMinimum(bytes, at + 4, j));
    const from = at + 16 + (j >> 1) * 32, shift = (j & 1) * 4, first = to + j * 32;
    for (let i = 0; i < 32; i++) {
      out[first + i] = fround(scale * ((bytes[from + i] >> shift) & 15)) - minimum;
    }
  }
}

/** As Q4_K; 32 bytes before the others hold the fifth bits, one of each group. */
function q5_k({ bytes, halves }: Blocks, at: number, out: Float32Array, to: number): void {
  const d = halves[at >> 1], dmin = halves[(at >> 1) + 1];
  for (let j = 0; j < 8; j++) {
    const scale = fround(d * kScale(bytes, at + 4, j));
    const minimum = fround(dmin * kMinimum(bytes, at + 4, j));
    const from = at + 48 + (j >> 1) * 32, shift = (j & 1) * 4, first = to + j * 32;
    for (let i = 0; i < 32; i++) {
      const high = ((bytes[at + 16 + i] >> j) & 1) << 4;
      out[first + i] = fround(scale * (((bytes[from + i] >> shift) & 15) | high)) - minimum;
    }
  }
}

/** (d·scale)·(q − 32), a scale for 16 numbers: halves of 128 numbers have 64 bytes of low and 32 of high bits. */
function q6_k({ bytes, halves, signed }: Blocks, at: number, out: Float32Array, to: number): void {
  const d = halves[(at + 208) >> 1];
  for (let group = 0; group < 16; group++) {
    const scale = fround(d * signed[at + 192 + group]);
    // Eight groups of 16 make half a block; there, quarters of 32 numbers take turns in the same bytes.
    const half = group >> 3, quarter = (group & 7) >> 1, within = (group & 1) * 16;
    const low = at + half * 64 + (quarter & 1) * 32 + within, lowShift = (quarter >> 1) * 4;
    const high = at + 128 + half * 32 + within, highShift = quarter * 2;
    const first = to + group * 16;
    for (let i = 0; i < 16; i++) {
      const q = ((bytes[low + i] >> lowShift) & 15) | (((bytes[high + i] >> highShift) & 3) << 4);
      out[first + i] = scale * (q - 32);
    }
  }
}

/** What the sixteen codes of IQ4_NL stand for. */
export const IQ4_NL = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

function iq4_nl({ bytes, halves }: Blocks, at: number, out: Float32Array, to: number): void {
  const d = halves[at >> 1];
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + 2 + i];
    out[to + i] = d * IQ4_NL[pair & 15];
    out[to + 16 + i] = d * IQ4_NL[pair >> 4];
  }
}

const DECODERS: Readonly<Record<QuantizedType, Decoder>> = {
  Q4_0: q4_0,
  Q4_1: q4_1,
  Q5_0: q5_0,
  Q5_1: q5_1,
  Q8_0: q8_0,
  Q4_K: q4_k,
  Q5_K: q5_k,
  Q6_K: q6_k,
  IQ4_NL: iq4_nl,
};

/**
 * Dequantises whole blocks.
 *
 * @param bytes They, beginning at an even place of their buffer.
 * @param out Gets their numbers; as long as they are many.
 */
export function dequantize(
  { name, elements, bytes: blockBytes }: TensorType & { name: QuantizedType },
  bytes: Uint8Array,
  out: Float32Array,
): void {
  const { buffer, byteOffset, length } = bytes;
  if (length % blockBytes !== 0 || out.length !== length / blockBytes * elements) {
    throw new RangeError(`${length} bytes of ${name} are not ${out.length} numbers`);
  }
  const blocks: Blocks = {
    bytes,
    halves: new Float16Array(buffer, byteOffset, length >> 1),
    signed: new Int8Array(buffer, byteOffset, length),
  };
  const decode = DECODERS[name];
  for (let at = 0, to = 0; at < length; at += blockBytes, to += elements) {
    decode(blocks, at, out, to);
  }
}
