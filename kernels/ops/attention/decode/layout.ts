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
  /** Workgroups that share a head's columns of values. */
  columnGroups: number;
  /** Loads of keys that a thread has under way at once. */
  keyLoads: number;
  /** Add up with subgroup functions. */
  subgroups: boolean;
  /** Scores are capped (score.ts). */
  softcap: boolean;
  /** The pairs that are rotated, or `none` where queries and keys were rotated before. */
  pairs: RotaryPairs | "none";
}

/** Loads of values that a thread has under way at once. */
const VALUE_LOADS = 8;

/** How the work of one range of keys is laid out over a workgroup's threads. */
export interface DecodeLayout extends DecodeShape {
  /** Elements of one load, which is 16 bytes, and loads of a row of keys or values. */
  wide: number;
  lanes: number;
  /** Threads that share a key; each makes `perKey` loads of it. */
  sharing: number;
  perKey: number;
  /** Keys of a thread, and of all threads together. */
  rounds: number;
  tile: number;
  /** Loads of a workgroup's columns of a row of values, and rows that are read side by side. */
  valueLanes: number;
  places: number;
  /** Loads of values that a thread has under way at once, and rounds of them for a tile. */
  valueLoads: number;
  batches: number;
  /** Vectors of four of a head, of a load and of a workgroup's columns. */
  vectors: number;
  perLoad: number;
  columns: number;
}

/** Threads that share a column when the places are added up. */
export function columnThreads({ threads, columns, places }: DecodeLayout): number {
  return Math.min(Math.floor(threads / columns), Math.ceil(Math.sqrt(places)));
}

/** Slots for the highest scores of a head: one a subgroup, which has four threads at least, or one a thread. */
export function maximumSlots({ subgroups, threads }: DecodeLayout): number {
  return subgroups ? Math.ceil(threads / 4) : threads;
}

/** Bytes of workgroup memory that a layout's program takes. */
export function decodeBytes(layout: DecodeLayout): number {
  const { kv, heads, vectors, sharing, tile, columns, places } = layout;
  const token = heads * vectors * (16 + 4) + 2 * vectors * (kv === "f16" ? 8 : 16);
  const tiles = 4 * heads * (sharing * tile + tile + maximumSlots(layout));
  return token + tiles + places * (16 * columns + 4) + 4 * columnThreads(layout);
}

/** The layout of a shape. */
export function decodeLayout(shape: DecodeShape): DecodeLayout {
  const { kv, headDim, threads, columnGroups, keyLoads } = shape;
  const wide = kv === "f16" ? 8 : 4, lanes = headDim / wide;
  const sharing = [4, 2].find((count) => lanes % count === 0) ?? 1;
  const perKey = lanes / sharing;
  const rounds = Math.max(1, Math.min(sharing, Math.floor(keyLoads / perKey)));
  const tile = rounds * threads / sharing;
  const valueLanes = lanes / columnGroups, places = Math.floor(threads / valueLanes);
  const valueLoads = Math.min(VALUE_LOADS, Math.ceil(tile / places));
  return {
    ...shape,
    wide,
    lanes,
    sharing,
    perKey,
    rounds,
    tile,
    valueLanes,
    places,
    valueLoads,
    batches: Math.ceil(tile / (places * valueLoads)),
    vectors: headDim / 4,
    perLoad: wide / 4,
    columns: headDim / 4 / columnGroups,
  };
}

/** The shape's threads, or as many of them as a device's workgroup may have and its memory allows. */
export function decodeThreads(
  shape: DecodeShape,
  limits: Pick<
    GPUSupportedLimits,
    "maxComputeInvocationsPerWorkgroup" | "maxComputeWorkgroupStorageSize"
  >,
): number {
  let threads = Math.min(shape.threads, limits.maxComputeInvocationsPerWorkgroup);
  const fits = () =>
    decodeBytes(decodeLayout({ ...shape, threads })) <= limits.maxComputeWorkgroupStorageSize;
  while (!fits() && threads > shape.headDim / 4) threads /= 2;
  return threads;
}
