/**
 * nf4 as bitsandbytes quantises it, in plain TypeScript: what kernels and readers are compared with. Every step is
 * rounded to f32, as CUDA's kernels compute it with exact divisions. tests/fixtures/make_bnb.py has the same in numpy,
 * and nf4_reference_test.ts compares the two.
 *
 * @module
 */
import {
  DYNAMIC_MAP,
  NESTED_BLOCK,
  NF4_BLOCK,
  NF4_MIDPOINTS,
  NF4_VALUES,
} from "../../../../kernels/ops/weights/nf4_values.ts";

/** A quantised matrix, its values in a row. */
export interface Nf4 {
  /** How many values. */
  count: number;
  /** Two to a byte, the first in the high bits. */
  codes: Uint8Array;
  /** The scale of each block of 64, f32: the largest magnitude; with double quantisation what is stored of it. */
  absmax: Float32Array;
  /** Double quantisation: the scales as codes, the scale of each 256 of them, and what all are shifted by. */
  nested?: { codes: Uint8Array; absmax: Float32Array; offset: number };
}

const { fround } = Math;

/** The largest magnitude of each block. */
function largest(values: Float32Array, block: number): Float32Array {
  const count = Math.ceil(values.length / block);
  return Float32Array.from({ length: count }, (_, i) => {
    return values.subarray(i * block, (i + 1) * block).reduce(
      (m, v) => Math.max(m, Math.abs(v)),
      0,
    );
  });
}

/** Values in units of their block's scale; in a block of zeros these are no numbers, which get code 0. */
function normed(values: Float32Array, scales: Float32Array, block: number): Float32Array {
  const inverse = scales.map((scale) => 1 / scale);
  return values.map((value, i) => value * inverse[Math.floor(i / block)]);
}

/** Code of a normed scale. On a midpoint the even one of two neighbours is taken (`dQuantize`). */
export function dynamicCode(x: number): number {
  let code = 0;
  for (let i = 0; i < 255; i++) {
    const middle = fround(fround(DYNAMIC_MAP[i] + DYNAMIC_MAP[i + 1]) / 2);
    if (x > middle || (i % 2 === 1 && x === middle)) code = i + 1;
  }
  return code;
}

/** The mean as bitsandbytes takes it of the scales, whose order of summing is PyTorch's: here it is exact. */
function mean(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return fround(sum / values.length);
}

/**
 * Quantises a matrix.
 *
 * @param values Its rows, one after the other.
 * @param options `double`: with double quantisation. `offset`: what the scales are shifted by, if not their mean.
 */
export function quantizeNf4(
  values: Float32Array,
  { double, offset }: { double: boolean; offset?: number },
): Nf4 {
  const count = values.length, absmax = largest(values, NF4_BLOCK);
  const units = normed(values, absmax, NF4_BLOCK), codes = new Uint8Array(Math.ceil(count / 2));
  for (let i = 0; i < 2 * codes.length; i++) {
    const x = i < count ? units[i] : 0;
    codes[i >> 1] |= NF4_MIDPOINTS.filter((middle) => x > middle).length << (i % 2 === 0 ? 4 : 0);
  }
  if (!double) return { count, codes, absmax };
  const shift = offset ?? mean(absmax), shifted = absmax.map((scale) => scale - shift);
  const outer = largest(shifted, NESTED_BLOCK);
  const nested = {
    codes: Uint8Array.from(normed(shifted, outer, NESTED_BLOCK), dynamicCode),
    absmax: outer,
    offset: shift,
  };
  return { count, codes, absmax: storedScales(nested), nested };
}

/** The scales that double quantisation leaves. */
function storedScales({ codes, absmax, offset }: NonNullable<Nf4["nested"]>): Float32Array {
  return Float32Array.from(codes, (code, i) => {
    return fround(DYNAMIC_MAP[code] * absmax[Math.floor(i / NESTED_BLOCK)]) + offset;
  });
}

/** The values that a quantised matrix stands for. */
export function dequantizeNf4({ count, codes, absmax }: Nf4): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    const code = (codes[i >> 1] >> (i % 2 === 0 ? 4 : 0)) & 15;
    return NF4_VALUES[code] * absmax[Math.floor(i / NF4_BLOCK)];
  });
}

/**
 * The bytes of a quantised matrix as weights of kind `nf4` or `nf4_f32` have them: codes in whole words, and scales,
 * nested ones in groups of 256 codes, their scale and the offset.
 */
export function nf4Planes({ codes, absmax, nested }: Nf4): [Uint8Array, Uint8Array] {
  const words = new Uint8Array(Math.ceil(codes.length / 4) * 4);
  words.set(codes);
  if (nested === undefined) return [words, new Uint8Array(absmax.slice().buffer)];
  const size = NESTED_BLOCK + 8, groups = new Uint8Array(nested.absmax.length * size);
  nested.absmax.forEach((scale, i) => {
    groups.set(nested.codes.subarray(i * NESTED_BLOCK, (i + 1) * NESTED_BLOCK), i * size);
    const floats = Float32Array.of(scale, nested.offset);
    groups.set(new Uint8Array(floats.buffer), i * size + NESTED_BLOCK);
  });
  return [words, groups];
}
