/**
 * Blocks of quantised numbers as kernels hold them: their codes, scales and other numbers apart, each in a plane of its
 * own, arranged as the kinds in kernels/ops/weights/ say. No number is rounded.
 *
 * Types without a kind of their own may be exact in another one: Q5_0's and IQ4_NL's numbers are whole numbers of
 * eight bits times a scale, as those of Q8_0.
 *
 * @module
 */

import { JoinedMatrix, type Scratch } from "../joined.ts";
import { piecedBytes } from "../pieced_bytes.ts";
import type { QuantizedWeight } from "../weights.ts";
import { fifthBits, IQ4_NL, kMinimum, kScale } from "./dequantize.ts";
import type { TensorInfo } from "./header.ts";
import type { ReadType } from "./tensor_types.ts";

/** Most bytes of blocks that are read at a time. */
const MOST_BYTES = 1 << 22;

/** Blocks, or a part of a plane, which begin at a multiple of 4 in their buffer. */
class Memory {
  readonly halves: Uint16Array;
  readonly words: Uint32Array;
  /** The same as f16 numbers, and as f32. */
  readonly numbers: Float16Array;
  readonly floats: Float32Array;

  constructor(readonly bytes: Uint8Array) {
    const { buffer, byteOffset, length } = bytes;
    this.halves = new Uint16Array(buffer, byteOffset, length >> 1);
    this.words = new Uint32Array(buffer, byteOffset, length >> 2);
    this.numbers = new Float16Array(buffer, byteOffset, length >> 1);
    this.floats = new Float32Array(buffer, byteOffset, length >> 2);
  }

  /** The word from half `at` on. */
  word(at: number): number {
    return this.halves[at] | (this.halves[at + 1] << 16);
  }
}

/** One plane: how many bytes of it a block makes, and how it makes them, from byte `from` on to byte `to` on. */
interface BlockPlane {
  bytes: number;
  make(blocks: Memory, from: number, plane: Memory, to: number): void;
}

/** Lower halves of four bytes. */
const LOW = 0x0f0f0f0f;

/** The f16 number that a block begins with. */
const SCALE: BlockPlane = {
  bytes: 2,
  make(blocks, from, plane, to) {
    plane.halves[to >> 1] = blocks.halves[from >> 1];
  },
};

/** Codes of 32 numbers as signed bytes: those of pairs are the halves of a byte, numbers 16 apart. */
const signedBytes = (
  offset: number,
  code: (blocks: Memory, from: number, half: number, i: number) => number,
): BlockPlane => ({
  bytes: 32,
  make(blocks, from, plane, to) {
    for (let i = 0; i < 16; i++) {
      const pair = blocks.bytes[from + offset + i];
      plane.bytes[to + i] = code(blocks, from, pair & 15, i);
      plane.bytes[to + 16 + i] = code(blocks, from, pair >> 4, i + 16);
    }
  },
});

const Q8_0: BlockPlane = {
  bytes: 32,
  make(blocks, from, { words }, to) {
    const at = (from >> 1) + 1, out = to >> 2;
    for (let i = 0; i < 8; i++) words[out + i] = blocks.word(at + 2 * i);
  },
};

/** Words have two fours of numbers; here a word's halves of bytes are 16 numbers apart. */
const Q4_0: BlockPlane = {
  bytes: 16,
  make(blocks, from, { words }, to) {
    // From 0 to 15 to two's complement.
    const flip = 0x88888888 | 0;
    for (let i = 0; i < 2; i++) {
      const at = (from >> 1) + 1 + 4 * i, out = (to >> 2) + i;
      const a = blocks.word(at), b = blocks.word(at + 2);
      words[out] = ((a & LOW) | ((b & LOW) << 4)) ^ flip;
      words[out + 2] = (((a >>> 4) & LOW) | (b & ~LOW)) ^ flip;
    }
  },
};

/** Here halves of bytes are 32 numbers apart. */
const Q4_K: BlockPlane = {
  bytes: 128,
  make(blocks, from, { words }, to) {
    for (let i = 0; i < 16; i++) {
      const group = i >> 2, at = (from >> 1) + 8 + 4 * i, out = (to >> 2) + 4 * group + i;
      const a = blocks.word(at), b = blocks.word(at + 2);
      words[out] = (a & LOW) | ((b & LOW) << 4);
      words[out + 4] = ((a >>> 4) & LOW) | (b & ~LOW);
    }
  },
};

const Q4_K_SCALES: BlockPlane = {
  bytes: 16,
  make(blocks, from, { words }, to) {
    let scales = 0, minima = 0, upper = 0;
    for (let group = 0; group < 8; group++) {
      const scale = kScale(blocks.bytes, from + 4, group), shift = 4 * group;
      const minimum = kMinimum(blocks.bytes, from + 4, group);
      scales |= (scale & 15) << shift;
      minima |= (minimum & 15) << shift;
      upper |= ((scale >> 4) | ((minimum >> 4) << 2)) << shift;
    }
    const out = to >> 2;
    words[out] = blocks.word(from >> 1);
    words[out + 1] = scales;
    words[out + 2] = minima;
    words[out + 3] = upper;
  },
};

/** Halves of 128 numbers have 64 bytes, whose halves are 64 numbers apart. */
const Q6_K: BlockPlane = {
  bytes: 128,
  make(blocks, from, { words }, to) {
    for (let i = 0; i < 16; i++) {
      const half = i >> 3, at = (from >> 1) + 4 * i, out = (to >> 2) + 8 * half + i;
      const a = blocks.word(at), b = blocks.word(at + 2);
      words[out] = (a & LOW) | ((b & LOW) << 4);
      words[out + 8] = ((a >>> 4) & LOW) | (b & ~LOW);
    }
  },
};

/** Two bits of four numbers 32 apart are a byte there, of four numbers 4 apart here. */
const Q6_K_HIGH: BlockPlane = {
  bytes: 64,
  make(blocks, from, { words }, to) {
    const bits = 0x03030303;
    for (let i = 0; i < 4; i++) {
      const at = (from >> 1) + 64 + 8 * i, out = (to >> 2) + 8 * (i >> 1) + (i & 1);
      const a = blocks.word(at), b = blocks.word(at + 2);
      const c = blocks.word(at + 4), d = blocks.word(at + 6);
      for (let quarter = 0, shift = 0; quarter < 4; quarter++, shift += 2) {
        const word = ((a >>> shift) & bits) | (((b >>> shift) & bits) << 2) |
          (((c >>> shift) & bits) << 4) | (((d >>> shift) & bits) << 6);
        // From 0 to 63 to two's complement.
        words[out + 2 * quarter] = word ^ 0xaaaaaaaa;
      }
    }
  },
};

const Q6_K_SCALES: BlockPlane = {
  bytes: 20,
  make(blocks, from, plane, to) {
    for (let i = 0; i < 8; i++) plane.halves[(to >> 1) + i] = blocks.halves[(from >> 1) + 96 + i];
    plane.floats[(to >> 2) + 4] = blocks.numbers[(from >> 1) + 104];
  },
};

/** The types whose numbers a kind of weights has, and its planes in order. */
const KEPT: Readonly<Partial<Record<ReadType, { kind: string; planes: readonly BlockPlane[] }>>> = {
  Q8_0: { kind: "int8", planes: [Q8_0, SCALE] },
  Q4_0: { kind: "q4_0", planes: [Q4_0, SCALE] },
  Q4_K: { kind: "q4_k", planes: [Q4_K, Q4_K_SCALES] },
  Q6_K: { kind: "q6_k", planes: [Q6_K, Q6_K_HIGH, Q6_K_SCALES] },
  Q5_0: {
    kind: "int8",
    planes: [
      signedBytes(6, (blocks, from, half, i) => {
        return (half | ((fifthBits(blocks.bytes, from + 2) >>> i & 1) << 4)) - 16;
      }),
      SCALE,
    ],
  },
  IQ4_NL: {
    kind: "int8",
    planes: [signedBytes(2, (_blocks, _from, half) => IQ4_NL[half]), SCALE],
  },
};

/**
 * A matrix as kernels read it quantised; undefined where no kind has its type's numbers.
 *
 * @param headRows Rows of a head where those of each head are permuted in the file, else 0.
 */
export function keptPlanes(
  { file, position, type, shape: [rows, columns] }: TensorInfo,
  headRows: number,
  scratch: Scratch,
): QuantizedWeight | undefined {
  const kept = KEPT[type.name];
  if (kept === undefined) return undefined;
  const count = rows * columns / type.elements, step = Math.floor(MOST_BYTES / type.bytes);
  const layout = {
    rows,
    rowBytes: columns / type.elements * type.bytes,
    join: "rows",
    headRows,
  } as const;
  // Blocks lie within rows, so that rows move whole.
  const matrix = new JoinedMatrix([{ file, position }], layout, scratch);
  const planes = kept.planes.map(({ bytes, make }) =>
    piecedBytes({
      count,
      bytes,
      async make(first, out) {
        const plane = new Memory(out), end = first + out.length / bytes;
        for (let block = first; block < end; block += step) {
          const blocks = Math.min(step, end - block);
          const memory = scratch.take(blocks * type.bytes);
          await matrix.read(block * type.bytes, memory.subarray(0, blocks * type.bytes));
          const read = new Memory(memory);
          for (let i = 0; i < blocks; i++) {
            make(read, i * type.bytes, plane, (block - first + i) * bytes);
          }
          scratch.give(memory);
        }
      },
    }, scratch)
  );
  return { kind: kept.kind, planes };
}
