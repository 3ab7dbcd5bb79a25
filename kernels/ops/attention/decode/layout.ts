/**
 * How attention of single queries (attention_decode.ts) is laid out over a workgroup's threads: a function of
 * its sizes alone.
 *
 * @module
 */
import type { Dtype } from "../../../gpu/tensor.ts";
import type { RotaryPairs } from "../../../wgsl/rotate.ts";

/** What a layout follows from. */
export interface DecodeShape {
  /** Dtypes of q, k and v, and of the cache. */
  q: Dtype;
  kv: Dtype;
  /** A multiple of 8. */
  headDim: number;
  /** Query heads of a workgroup. */
  heads: number;
  threads: number;
  /** Loads of keys that a thread has under way at once, and as many of values. */
  keyLoads: number;
  /** Threads of a subgroup at least, where its functions add up; 0: without them. */
  subgroup: number;
  /** Scores are capped (score.ts). */
  softcap: boolean;
  /** The pairs that are rotated, or `none` where queries and keys were rotated before. */
  pairs: RotaryPairs | "none";
}

/** Threads that share a key at most, with subgroup functions and without. */
const MOST_SHARING = 16, MOST_SHARING_STAGED = 4;

/** How the work of one range of keys is laid out over a workgroup's threads. */
export interface DecodeLayout extends DecodeShape {
  /** Elements of one load, which is 16 bytes, and loads of a row of keys or values. */
  wide: number;
  lanes: number;
  /** Threads that share a key and its value; each makes `perKey` loads of either. */
  sharing: number;
  perKey: number;
  /** Keys that are read side by side, of a thread at once, and of all threads together. */
  slots: number;
  rounds: number;
  tile: number;
  /** Vectors of four of a head and of a load. */
  vectors: number;
  perLoad: number;
}

/** Bytes of workgroup memory that a layout's program takes. */
export function decodeBytes(layout: DecodeLayout): number {
  const { kv, heads, vectors, slots, threads, rounds, subgroup } = layout;
  const token = heads * vectors * 16 + 2 * vectors * (kv === "f16" ? 8 : 16);
  const parts = subgroup > 0 ? 0 : 4 * heads * rounds * threads;
  return token + parts + heads * slots * (16 * vectors + 8);
}

/** The layout of a shape. */
export function decodeLayout(shape: DecodeShape): DecodeLayout {
  const { kv, headDim, threads, keyLoads, subgroup } = shape;
  const wide = kv === "f16" ? 8 : 4, lanes = headDim / wide;
  const most = subgroup > 0 ? Math.min(subgroup, MOST_SHARING) : MOST_SHARING_STAGED;
  let sharing = 1;
  while (2 * sharing <= most && lanes % (2 * sharing) === 0) sharing *= 2;
  const perKey = lanes / sharing, slots = threads / sharing;
  const rounds = Math.max(1, Math.floor(keyLoads / perKey));
  return {
    ...shape,
    wide,
    lanes,
    sharing,
    perKey,
    slots,
    rounds,
    tile: rounds * slots,
    vectors: headDim / 4,
    perLoad: wide / 4,
  };
}

/** The shape, with as many of its threads, and then of its heads, as a device's workgroup may have and its memory allows. */
export function fittingShape<Shape extends DecodeShape>(
  shape: Shape,
  limits: Pick<
    GPUSupportedLimits,
    "maxComputeInvocationsPerWorkgroup" | "maxComputeWorkgroupStorageSize"
  >,
): Shape {
  let { threads, heads } = shape;
  threads = Math.min(threads, limits.maxComputeInvocationsPerWorkgroup);
  const fits = () =>
    decodeBytes(decodeLayout({ ...shape, threads, heads })) <=
      limits.maxComputeWorkgroupStorageSize;
  // A thread rotates two of the key's vectors of four.
  while (!fits() && threads > shape.headDim / 8) threads /= 2;
  while (!fits() && heads > 1) {
    do heads--; while (shape.heads % heads !== 0);
  }
  return { ...shape, threads, heads };
}
