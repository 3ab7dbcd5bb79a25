/**
 * Numbers as blocks of 256 in groups that have a scale of a few bits each: Q4_K, Q5_K and Q6_K. Each step is rounded to
 * f32, so that the blocks are those of ggml's reference (`quantize_row_q4_K_ref` and its like in ggml-quants.c), to the bit.
 *
 * Codes of a group are those whose best line through them, in weighted least squares, errs least, of some that rounding
 * with slightly different scales gives. The scales are then rounded to what the block holds, and the codes follow them.
 *
 * @module
 */

import type { BlockTarget } from "./tensor_types.ts";

/** Numbers in a block. */
const SUPER_BLOCK = 256;

const { fround } = Math;

/** 1.5·2²³: numbers of f32 that are near it have no fraction. */
const WHOLE = 1.5 * 2 ** 23;

/** To nearest, ties to even; below 2²² by magnitude. */
function nearest(value: number): number {
  return fround(value + WHOLE) - WHOLE;
}

function nearestWithin(value: number, least: number, most: number): number {
  const whole = nearest(value);
  return whole < least ? least : whole > most ? most : whole;
}

/** A quotient, 0 where the divisor is. */
function quotient(dividend: number, divisor: number): number {
  return divisor === 0 ? 0 : fround(dividend / divisor);
}

/** The codes of a block, one of each number. */
const codes = new Uint8Array(SUPER_BLOCK);
/** Those of a group that are tried. */
const tried = new Uint8Array(32);
/** A group's numbers, and how much each counts. Their sums: of the weights, and of the weighted numbers. */
const values = new Float32Array(32), weights = new Float32Array(32), sums = new Float32Array(2);
/** What each group's codes are multiplied by; what is then subtracted. */
const scales = new Float32Array(16), minimums = new Float32Array(8);

/** What the codes of a group are chosen from: those for scales with `least`, `least` + `step`, ... more codes in the range. */
interface Search {
  most: number;
  least: number;
  step: number;
  steps: number;
}

const TENTH = fround(0.1);
const FOUR_BITS: Search = { most: 15, least: -1, step: TENTH, steps: 20 };
const FIVE_BITS: Search = { most: 31, least: -0.5, step: TENTH, steps: 15 };

/** Large numbers count more: a number's weight is its magnitude and the group's root mean square. */
function weigh(): void {
  let squares = 0, sumW = 0, sumX = 0;
  for (let i = 0; i < 32; i++) squares = fround(squares + fround(values[i] * values[i]));
  const mean = fround(Math.sqrt(fround(squares / 32)));
  for (let i = 0; i < 32; i++) {
    weights[i] = mean + Math.abs(values[i]);
    sumW = fround(sumW + weights[i]);
    sumX = fround(sumX + fround(weights[i] * values[i]));
  }
  sums[0] = sumW;
  sums[1] = sumX;
}

/** The weighted error of a line through the tried codes. */
function lineError(scale: number, minimum: number): number {
  let error = 0;
  for (let i = 0; i < 32; i++) {
    const difference = fround(fround(fround(scale * tried[i]) + minimum) - values[i]);
    error = fround(error + fround(weights[i] * fround(difference * difference)));
  }
  return error;
}

/** Tries the codes that numbers round to. */
function tryCodes(low: number, times: number, most: number): void {
  for (let i = 0; i < 32; i++) {
    tried[i] = nearestWithin(fround(times * fround(values[i] - low)), 0, most);
  }
}

/** The line that errs least with the tried codes: slope and constant, which is not above zero. */
const line = new Float32Array(2);

/** Finds `line`; false where there is none. */
function findLine(): boolean {
  const sumW = sums[0], sumX = sums[1];
  let sumL = 0, sumL2 = 0, sumXL = 0;
  for (let i = 0; i < 32; i++) {
    const code = tried[i], weighted = fround(weights[i] * code);
    sumL = fround(sumL + weighted);
    sumL2 = fround(sumL2 + fround(weighted * code));
    sumXL = fround(sumXL + fround(weighted * values[i]));
  }
  const divisor = fround(fround(sumW * sumL2) - fround(sumL * sumL));
  if (!(divisor > 0)) return false;
  line[0] = fround(fround(sumW * sumXL) - fround(sumX * sumL)) / divisor;
  line[1] = fround(fround(sumL2 * sumX) - fround(sumL * sumXL)) / divisor;
  if (line[1] > 0) {
    line[0] = sumXL / sumL2;
    line[1] = 0;
  }
  return true;
}

/** Finds scale, minimum and codes of group `group`, whose numbers are `values`. */
function fitLine(group: number, search: Search): void {
  let low = Math.min(values[0], 0), high = values[0];
  for (let i = 1; i < 32; i++) {
    low = Math.min(low, values[i]);
    high = Math.max(high, values[i]);
  }
  const first = group * 32, { most } = search;
  scales[group] = 0;
  minimums[group] = -low;
  if (low === high) {
    codes.fill(0, first, first + 32);
    return;
  }
  weigh();
  const times = fround(most / fround(high - low));
  tryCodes(low, times, most);
  scales[group] = 1 / times;
  codes.set(tried, first);
  let error = lineError(scales[group], low);
  for (let n = 0; n <= search.steps; n++) {
    // The numbers are rounded from the best constant so far on.
    const wanted = fround(fround(search.least + fround(search.step * n)) + most);
    tryCodes(low, fround(wanted / fround(high - low)), most);
    if (!findLine()) continue;
    const slope = line[0], constant = line[1], newError = lineError(slope, constant);
    if (!(newError < error)) continue;
    error = newError;
    low = constant;
    scales[group] = slope;
    codes.set(tried, first);
  }
  minimums[group] = -low;
}

/** Six bits of each group's scale and minimum, in twelve bytes. */
function packSixBits(bytes: Uint8Array, at: number, scale: Uint8Array, minimum: Uint8Array): void {
  for (let j = 0; j < 4; j++) {
    bytes[at + j] = scale[j] | scale[j + 4] >> 4 << 6;
    bytes[at + j + 4] = minimum[j] | minimum[j + 4] >> 4 << 6;
    bytes[at + j + 8] = scale[j + 4] & 15 | (minimum[j + 4] & 15) << 4;
  }
}

const sixBitScales = new Uint8Array(8), sixBitMinimums = new Uint8Array(8);

function largest(values: Float32Array, count: number): number {
  let most = 0;
  for (let i = 0; i < count; i++) most = Math.max(most, values[i]);
  return most;
}

/** Codes for 256 numbers with the scales that are stored; writes the first sixteen bytes. Returns the larger of the scales. */
function lines(
  x: Float32Array,
  from: number,
  { bytes, halves }: BlockTarget,
  at: number,
  search: Search,
): number {
  for (let group = 0; group < 8; group++) {
    values.set(x.subarray(from + group * 32, from + group * 32 + 32));
    fitLine(group, search);
  }
  const mostScale = largest(scales, 8), mostMinimum = largest(minimums, 8);
  const perScale = quotient(63, mostScale), perMinimum = quotient(63, mostMinimum);
  halves[at >> 1] = fround(mostScale / 63);
  halves[(at >> 1) + 1] = fround(mostMinimum / 63);
  const d = halves[at >> 1], dmin = halves[(at >> 1) + 1];
  for (let group = 0; group < 8; group++) {
    sixBitScales[group] = nearestWithin(fround(perScale * scales[group]), 0, 63);
    sixBitMinimums[group] = nearestWithin(fround(perMinimum * minimums[group]), 0, 63);
    const scale = fround(d * sixBitScales[group]), minimum = fround(dmin * sixBitMinimums[group]);
    if (scale === 0) continue;
    for (let i = group * 32; i < group * 32 + 32; i++) {
      codes[i] = nearestWithin(fround(fround(x[from + i] + minimum) / scale), 0, search.most);
    }
  }
  packSixBits(bytes, at + 4, sixBitScales, sixBitMinimums);
  return Math.max(d, dmin);
}

/** Writes the low four bits of each code: two groups of 32 share 32 bytes. */
function packLow(bytes: Uint8Array, at: number): void {
  for (let i = 0; i < SUPER_BLOCK / 2; i++) {
    const code = 64 * (i >> 5) + (i & 31);
    bytes[at + i] = codes[code] & 15 | (codes[code + 32] & 15) << 4;
  }
}

/** Scales and minimums of six bits, codes of four. */
export function q4_k(x: Float32Array, from: number, target: BlockTarget, at: number): number {
  const scale = lines(x, from, target, at, FOUR_BITS);
  packLow(target.bytes, at + 16);
  return scale;
}

/** The same with codes of five; one byte holds the fifth bit of eight groups. */
export function q5_k(x: Float32Array, from: number, target: BlockTarget, at: number): number {
  const scale = lines(x, from, target, at, FIVE_BITS);
  for (let i = 0; i < 32; i++) {
    let bits = 0;
    for (let group = 0; group < 8; group++) bits |= codes[group * 32 + i] >> 4 << group;
    target.bytes[at + 16 + i] = bits;
  }
  packLow(target.bytes, at + 48);
  return scale;
}

/** Numbers of a group or of scales that are all below it are none. */
const NONE = fround(1e-15);

/** Tenths of a code by which the scales that are tried differ from that which uses the whole range; this is the first. */
const TENTHS = [0, -9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/** Finds scale and codes, plus 32, of sixteen numbers: each number's weight is its square. */
function fitScale(x: Float32Array, from: number, group: number): void {
  const first = group * 16;
  let peak = 0, scale = 0, best = 0;
  for (let i = from; i < from + 16; i++) if (Math.abs(x[i]) > Math.abs(peak)) peak = x[i];
  scales[group] = 0;
  if (Math.abs(peak) < NONE) {
    codes.fill(0, first, first + 16);
    return;
  }
  for (const tenths of TENTHS) {
    const times = fround(-fround(32 + fround(TENTH * tenths)) / peak);
    let sumXL = 0, sumL2 = 0;
    for (let i = 0; i < 16; i++) {
      const value = x[from + i], code = nearestWithin(fround(times * value), -32, 31);
      const weight = fround(value * value);
      tried[i] = code + 32;
      sumXL = fround(sumXL + fround(fround(weight * value) * code));
      sumL2 = fround(sumL2 + fround(fround(weight * code) * code));
    }
    const isBetter = sumL2 > 0 && fround(sumXL * sumXL) > fround(best * sumL2);
    if (tenths !== 0 && !isBetter) continue;
    scale = quotient(sumXL, sumL2);
    best = fround(scale * sumXL);
    for (let i = 0; i < 16; i++) codes[first + i] = tried[i];
  }
  scales[group] = scale;
}

/** A scale of eight bits for sixteen numbers, codes of six; see dequantize.ts for where they are. */
export function q6_k(
  x: Float32Array,
  from: number,
  { bytes, halves }: BlockTarget,
  at: number,
): number {
  let peak = 0;
  for (let group = 0; group < 16; group++) {
    fitScale(x, from + group * 16, group);
    if (!Number.isFinite(scales[group])) return Infinity;
    if (Math.abs(scales[group]) > Math.abs(peak)) peak = scales[group];
  }
  if (Math.abs(peak) < NONE) {
    bytes.fill(0, at, at + 210);
    return 0;
  }
  const times = fround(-128 / peak);
  halves[(at + 208) >> 1] = fround(1 / times);
  const d = halves[(at + 208) >> 1];
  for (let group = 0; group < 16; group++) {
    const eightBits = nearestWithin(fround(times * scales[group]), -128, 127);
    bytes[at + 192 + group] = eightBits;
    const scale = fround(d * eightBits);
    if (scale === 0) continue;
    for (let i = group * 16; i < group * 16 + 16; i++) {
      codes[i] = nearestWithin(fround(x[from + i] / scale), -32, 31) + 32;
    }
  }
  for (let i = 0; i < 64; i++) {
    const half = i >> 5, low = at + half * 64 + (i & 31), code = half * 128 + (i & 31);
    const [a, b, c, e] = [codes[code], codes[code + 32], codes[code + 64], codes[code + 96]];
    bytes[low] = a & 15 | (c & 15) << 4;
    bytes[low + 32] = b & 15 | (e & 15) << 4;
    bytes[at + 128 + i] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | e >> 4 << 6;
  }
  return d;
}
