/** One launch of sampling over rows of logits sampled here, for the tests of sample.ts. */
import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import {
  NOT_FINITE,
  sample,
  type Sampling,
  samplingSettings,
  samplingSteps,
  SETTINGS_WORDS,
} from "../../../../kernels/ops/sampling/sample.ts";
import { roundUp, type Tensor } from "../../../../kernels/gpu/tensor.ts";
import { download, poisoned, randomArray, upload } from "../../harness.ts";
import { PLAIN } from "./sample_reference.ts";

/** The deviate that draws from the right distribution exceed once in 10,000 times. */
export const REJECTED = 3.72;
/** The seed of draws, unless a test has its own. */
export const SEED = 0x9e3779b9;

/** Rows of logits as stored, padding poisoned, row r being `rows[r % rows.length]`. */
export function stored(rows: readonly ArrayLike<number>[], count: number): Float32Array {
  const vocab = rows[0].length, width = roundUp(vocab, 4);
  const values = new Float32Array(count * width);
  for (let i = vocab; i < width; i++) values[i] = i % 2 === 0 ? NaN : 2 ** 100;
  for (let row = 1; row < count; row++) values.copyWithin(row * width, 0, width);
  for (let row = 0; row < count; row++) values.set(rows[row % rows.length], row * width);
  return values;
}

/** The settings of sequences, by their sampling and subsequence. */
export const settingsOf = (gpu: Gpu, rows: readonly (readonly [Sampling, number])[]): Tensor =>
  upload(
    gpu,
    rows.flatMap(([sampling, subsequence]) => [...samplingSettings(sampling, subsequence)]),
    "u32",
    [rows.length, SETTINGS_WORDS],
  );

/** Tokens chosen for `count` sequences, and which tokens could be, where `mask` is asked for. */
export async function choose(
  gpu: Gpu,
  rows: readonly ArrayLike<number>[],
  options: Partial<Sampling>,
  { count = rows.length, subsequence = (r: number) => r, position = (_: number) => 0, seen, mask }:
    {
      count?: number;
      subsequence?: (row: number) => number;
      position?: (row: number) => number;
      /** Tokens seen by every sequence. */
      seen?: readonly number[];
      mask?: boolean;
    } = {},
): Promise<{ tokens: Float64Array; kept: number[][] }> {
  const vocab = rows[0].length, width = roundUp(vocab, 4);
  const used = { ...PLAIN, seed: SEED, ...options };
  const perRow = (f: (row: number) => number) =>
    upload(gpu, Array.from({ length: count }, (_, r) => f(r)), "u32", [count]);
  const flags = new Uint32Array(count * width);
  for (const id of seen ?? []) for (let row = 0; row < count; row++) flags[row * width + id] = 1;
  const kept = mask ? poisoned(gpu, "u32", [count, width]) : undefined;
  const ids = poisoned(gpu, "u32", [count]), sampled = poisoned(gpu, "u32", [count]);
  sample(gpu, {
    logits: upload(gpu, stored(rows, count), "f32", [count, width]),
    vocab,
    rows: count,
    first: 0,
    ids,
    sampled,
    step: 0,
    stride: count,
    positions: perRow(position),
    settings: settingsOf(gpu, Array.from({ length: count }, (_, r) => [used, subsequence(r)])),
    seen: seen && upload(gpu, flags, "u32", [count, width]),
    steps: samplingSteps([used], vocab),
    mask: kept,
  });
  // What the host reads: the tokens, but for those of rows that hold what is no finite number.
  const faulty = rows.map((row) => !Array.from(row, Math.fround).every(Number.isFinite));
  const tokens = await download(gpu, ids);
  const read = tokens.map((token, r) => faulty[r % rows.length] ? NOT_FINITE : token);
  assert.deepEqual(await download(gpu, sampled), read);
  const masks = kept === undefined ? new Float64Array() : await download(gpu, kept);
  return {
    tokens,
    kept: Array.from({ length: mask ? count : 0 }, (_, r) => {
      const row = masks.subarray(r * width, (r + 1) * width);
      assert.ok(row.every((flag) => flag === 0 || flag === 1), "mask");
      return [...row.keys()].filter((id) => row[id] === 1);
    }),
  };
}

/** Logits of a vocabulary; `step` > 0 rounds them, which makes ties. */
export function logitsOf(vocab: number, seed: number, step = 0): Float64Array {
  const values = randomArray(vocab, seed, 6).map(Math.fround);
  return step === 0 ? values : values.map((v) => Math.round(v / step) * step);
}
