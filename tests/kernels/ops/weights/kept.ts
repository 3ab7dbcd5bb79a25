/** Weights of the kinds that are only taken as a file holds them: any codes, laid out here by what the kinds say. */
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { weightKind } from "../../../../kernels/ops/weights/kinds.ts";
import { makeOperand, type WeightOperand } from "../../../../kernels/ops/weights/operand.ts";
import { poisoned, random } from "../../harness.ts";

/** Planes of a matrix, and the f32 values that they stand for. */
interface Kept {
  planes: (Uint8Array | Uint32Array | Float16Array)[];
  value(i: number): number;
}

/** Whole numbers from `least` to `most`. */
function whole(count: number, [least, most]: readonly [number, number], seed: number): number[] {
  const next = random(seed), range = most - least + 1;
  return Array.from({ length: count }, () => least + Math.floor((next() + 1) / 2 * range));
}

/** Scales of blocks in f16, of which the second is 0 and the third is multiplied by `factor`. */
function scales(blocks: number, size: number, factor: number, seed = 3): Float16Array {
  const next = random(seed);
  return Float16Array.from({ length: blocks }, (_, i) => {
    return i === 1 ? 0 : size * (1.5 + next()) * (i === 2 ? factor : 1);
  });
}

/** The lower four bits of codes: byte j of a word has those of value j below those of value 4 + j. */
function halfBytes(codes: readonly number[]): Uint8Array {
  return Uint8Array.from({ length: codes.length / 2 }, (_, byte) => {
    const first = (byte >> 2) * 8 + byte % 4;
    return (codes[first] & 15) | ((codes[first + 4] & 15) << 4);
  });
}

const KINDS = {
  q4_0(count, factor) {
    const q = whole(count, [-8, 7], 1), d = scales(count / 32, 0.1, factor);
    return { planes: [halfBytes(q), d], value: (i) => q[i] * d[i >> 5] };
  },

  q4_k(count, factor) {
    const blocks = count / 256, q = whole(count, [0, 15], 1);
    const d = scales(blocks, 2e-3, factor), dmin = scales(blocks, 0.01, 1, 4);
    const scale = whole(count / 32, [0, 63], 5), least = whole(count / 32, [0, 63], 6);
    const words = new Uint32Array(4 * blocks), halves = new Float16Array(words.buffer);
    for (let block = 0; block < blocks; block++) {
      halves.set([d[block], dmin[block]], 8 * block);
      for (let group = 0; group < 8; group++) {
        const s = scale[8 * block + group], m = least[8 * block + group], at = 4 * group;
        words[4 * block + 1] |= (s & 15) << at;
        words[4 * block + 2] |= (m & 15) << at;
        words[4 * block + 3] |= (s >> 4 << at) | (m >> 4 << (at + 2));
      }
    }
    return {
      planes: [halfBytes(q), words],
      value: (i) => q[i] * scale[i >> 5] * d[i >> 8] - least[i >> 5] * dmin[i >> 8],
    };
  },

  q6_k(count, factor) {
    const blocks = count / 256, q = whole(count, [-32, 31], 1);
    const d = scales(blocks, 2e-4, factor), scale = whole(count / 16, [-128, 127], 5);
    const high = Uint8Array.from({ length: count / 4 }, (_, byte) => {
      const first = (byte >> 2) * 16 + byte % 4;
      return [0, 4, 8, 12].reduce((bits, at, i) => bits | (q[first + at] >> 4 & 3) << 2 * i, 0);
    });
    const words = new Uint32Array(5 * blocks);
    for (let block = 0; block < blocks; block++) {
      new Int8Array(words.buffer, 20 * block).set(scale.slice(16 * block, 16 * block + 16));
      new Float32Array(words.buffer)[5 * block + 4] = d[block];
    }
    return {
      planes: [halfBytes(q), high, words],
      value: (i) => q[i] * scale[i >> 4] * d[i >> 8],
    };
  },
} satisfies Record<string, (count: number, factor: number) => Kept>;

/** One of those kinds. */
export type KeptName = keyof typeof KINDS;
/** All of them. */
export const KEPT = Object.keys(KINDS) as KeptName[];

/** Fills a weight of one of the kinds, of which one scale is multiplied by `factor`; returns its values. */
export function fill(gpu: Gpu, operand: WeightOperand, factor = 1): Float64Array {
  const { planes, value } = KINDS[operand.kind.name as KeptName](operand.values, factor);
  planes.forEach((plane, i) => gpu.write(operand.tensors[i], new Uint8Array(plane.buffer)));
  return Float64Array.from({ length: operand.values }, (_, i) => Math.fround(value(i)));
}

/** A matrix `[rows, columns]` of a kind, and its values; see {@linkcode fill}. */
export function kept(
  gpu: Gpu,
  name: KeptName,
  shape: readonly [number, number],
  factor = 1,
): { operand: WeightOperand; values: Float64Array } {
  const operand = makeOperand(
    weightKind(name),
    shape,
    ({ dtype, shape }) => poisoned(gpu, dtype, shape),
  );
  return { operand, values: fill(gpu, operand, factor) };
}
