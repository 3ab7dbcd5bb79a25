/**
 * Attention of single queries over many keys (flash-decoding): every query is the next token of another sequence, so
 * its keys are the work. The token's own key and value don't lie in the cache
 * yet: the same launch rotates query and key by the token's position (where it {@linkcode fuses}), appends key and value to
 * the cache, and attends to them.
 *
 * Equations are those of rope.ts and attention.ts. Shapes: qkv `[rows, (heads + 2·kvHeads) · D]`, the columns of
 * q, then k, then v, and out `[rows, heads · D]`, both f32 or f16; cachedK and cachedV `[L, kvHeads · D]`, f32 or
 * f16. The keys of row t lie in rows starts[t] to ends[t] of the cache, of which the last is the token's
 * own; ranges may lie anywhere, in any order, but no row's range holds another row's token.
 *
 * A workgroup takes one row, one key head with up to {@linkcode MOST_HEADS} of the query heads that read it, and a
 * split of the keys, which it walks in tiles with a running maximum and denominator; where there are several splits
 * a second program combines them, or the product that follows. With few heads up to four workgroups share one: each works
 * out all weights, for its part of the values' columns (10.8 µs instead of 12.4 on an H100, for 32 heads and 512
 * keys). Source: "Flash-Decoding for long-context inference", Dao et al., 2023.
 *
 * @module
 */
import { attention } from "../attention.ts";
import { packRows } from "../row_index.ts";
import { defaultScale } from "../tiled/plan.ts";
import { decodeLayout, decodeThreads } from "./layout.ts";
import { decodeProgram } from "./program.ts";
import { prefersUnstaged } from "../unstaged.ts";
import { combineSplits, type SplitAttention } from "./kv_splits.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { fuses, rope, type RowRotation } from "../../rope/rope.ts";
import { ropeAppend } from "../../rope/rope_append.ts";
import { bytesOf, type Tensor } from "../../../gpu/tensor.ts";

/** Query heads of one workgroup at most: each costs registers and workgroup memory. */
const MOST_HEADS = 4;
/** Threads of a workgroup of so many heads, as its memory allows. */
const THREADS = [512, 256, 128, 128];
/** Loads of keys that a thread has under way at once. */
const KEY_LOADS = 16;
/** Keys of a split at least, as a second one costs a second launch, and splits of a query's keys at most. */
const LEAST_KEYS = 512, MOST_SPLITS = 64;
/**
 * KV splits of a lone query with up to so many keys, where the next product combines them. Their number is fixed, since
 * the product has a program for each. Every workgroup of the product reads all splits, so they should be few.
 */
const UNCOMBINED_SPLITS = 4, MOST_UNCOMBINED_KEYS = 2048;
/** Loads of keys of such a query, and threads of a workgroup where a split has up to so many keys. */
const UNCOMBINED_KEY_LOADS = 8, SHORT_SPLIT_THREADS = 256, SHORT_SPLIT_KEYS = 128;

/** Storage buffers of the program where rows' words are not packed. */
const MOST_BINDINGS = 10;

/** Query heads that share a workgroup, of `sharing` that share a key head. */
function headsPerGroup(sharing: number): number {
  let heads = Math.min(sharing, MOST_HEADS);
  while (sharing % heads !== 0) heads--;
  return heads;
}

/** Working memory for queries whose keys are split; see kv_splits.ts. */
export interface DecodeWorkspace {
  /** `[rows · splits · heads · head_dim]` */
  partialOut: Tensor;
  /** `[rows · splits · heads · 2]` */
  softmaxStats: Tensor;
}

/** Splits of the keys at most, for queries of at most `longest` keys. */
export function mostSplits(longest: number): number {
  return Math.max(UNCOMBINED_SPLITS, Math.min(MOST_SPLITS, Math.ceil(longest / LEAST_KEYS)));
}

/** The layout of {@linkcode attentionDecode}; fields left out are chosen by size. */
export interface DecodeGeometry {
  /** Threads of a workgroup: a power of two, a head's vectors of four at least. */
  threads?: number;
  /** Keys of a split at least. */
  splitKeys?: number;
  /** Loads of keys that a thread has under way at once. */
  keyLoads?: number;
  /** Workgroups that share a head's columns of values, each of which works out the weights. */
  columnGroups?: number;
  /** Add up with subgroup functions. */
  subgroups?: boolean;
}

/**
 * Writes out for `rows` queries, and the cache. What is left in qkv is undefined.
 *
 * @param index `[rows]` u32: each token's row of the cache, ends[t] − 1.
 * @param longest Most keys of a query, its own among them.
 * @param unstaged Take the programs for software drivers.
 * @param uncombined Leave the splits for the next product to combine where that is faster.
 * @returns the uncombined splits; out is then undefined. Undefined where out was written.
 */
export function attentionDecode(
  gpu: Gpu,
  { qkv, cachedK, cachedV, rotation, index, starts, ends, out, workspace, ...options }: {
    qkv: Tensor;
    cachedK: Tensor;
    cachedV: Tensor;
    rotation: RowRotation;
    index: Tensor;
    starts: Tensor;
    ends: Tensor;
    out: Tensor;
    workspace: DecodeWorkspace;
    rows: number;
    heads: number;
    kvHeads: number;
    headDim: number;
    longest: number;
    /** What scores are multiplied with. Default 1/√headDim. */
    scale?: number;
    /** What they are then capped to; null, the default, where they are not. */
    softcap?: number | null;
    unstaged?: boolean;
    uncombined?: boolean;
    geometry?: DecodeGeometry;
  },
): SplitAttention | undefined {
  const { rows, heads, kvHeads, headDim, longest, geometry = {} } = options;
  const { scale = defaultScale(headDim), softcap = null } = options;
  const sizes = { rows, heads, kvHeads, headDim };
  if (options.unstaged ?? prefersUnstaged(gpu.software, headDim)) {
    ropeAppend(gpu, { qkv, cachedK, cachedV, rotation, index, ...sizes });
    const [q, k, v] = [qkv, cachedK, cachedV].map((tensor) => ({ tensor, from: 0 }));
    const pairs = rows * longest;
    const how = { scale, softcap, pairs, unstaged: true };
    attention(gpu, { q, k, v, starts, ends, out, ...sizes, ...how });
    return;
  }
  const { table, positions, rotary } = rotation, isFused = fuses(rotation, headDim);
  if (!isFused) rope(gpu, { x: qkv, rotation, rows, heads: heads + kvHeads, headDim });
  const uncombined = options.uncombined === true && rows === 1 && longest <= MOST_UNCOMBINED_KEYS;
  const perGroup = headsPerGroup(heads / kvHeads);
  const {
    subgroups = gpu.extensions.has("subgroups"),
    keyLoads = uncombined ? UNCOMBINED_KEY_LOADS : KEY_LOADS,
    splitKeys = uncombined ? Math.ceil(longest / UNCOMBINED_SPLITS) : LEAST_KEYS,
  } = geometry;
  const mostThreads = uncombined && splitKeys <= SHORT_SPLIT_KEYS ? SHORT_SPLIT_THREADS : Infinity;
  const kv = cachedK.dtype;
  const shape = {
    q: qkv.dtype,
    kv,
    headDim,
    heads: perGroup,
    columnGroups: 1,
    keyLoads,
    subgroups,
    softcap: softcap !== null,
    pairs: isFused ? rotary.pairs : "none",
  } as const;
  const { limits } = gpu.device;
  const threads = geometry.threads ??
    decodeThreads({ ...shape, threads: Math.min(mostThreads, THREADS[perGroup - 1]) }, limits);
  const { tile, lanes } = decodeLayout({ ...shape, threads });
  const least = tile * Math.ceil(splitKeys / tile);
  const keysPerSplit = least * Math.max(1, Math.ceil(longest / (least * MOST_SPLITS)));
  const splits = uncombined ? UNCOMBINED_SPLITS : Math.max(1, Math.ceil(longest / keysPerSplit));
  const groups = heads / perGroup;
  const columnGroups = geometry.columnGroups ??
    [4, 2].find((n) => lanes % n === 0 && n * groups * splits * rows <= gpu.profile.processors) ??
    1;
  const { partialOut, softmaxStats } = workspace;
  const packed = MOST_BINDINGS > gpu.maxBindings;
  const arrays = { ...isFused && { positions }, starts, ends };
  const words = packed ? [packRows(gpu, arrays, { rows })] : Object.values(arrays);
  gpu.run(
    decodeProgram({ ...shape, threads, columnGroups, packed }),
    [qkv, cachedK, cachedV, ...isFused ? [table] : [], ...words, out, partialOut, softmaxStats],
    {
      heads,
      kv_heads: kvHeads,
      splits,
      keys_per_split: keysPerSplit,
      scale,
      softcap: softcap ?? 0,
    },
    [groups * columnGroups, splits, rows],
    {
      flops: 4 * rows * heads * headDim * longest,
      bytes: 2 * rows * kvHeads * headDim * longest * bytesOf(kv),
    },
  );
  if (splits === 1) return;
  const results = { partialOut, softmaxStats, splits, headDim };
  if (uncombined) return results;
  combineSplits(gpu, { ...results, out, rows, heads });
}
