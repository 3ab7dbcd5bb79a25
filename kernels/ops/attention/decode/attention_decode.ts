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
 * A workgroup takes one row, up to {@linkcode MOST_HEADS} of the query heads that read one key head, and a split of the
 * keys. Its threads share keys in slots, each with a softmax of its own, which meet at the end; where there are several
 * splits a second program combines them, or the product that follows. Source: "Flash-Decoding for long-context
 * inference", Dao et al., 2023.
 *
 * @module
 */
import { attention } from "../attention.ts";
import { packRows } from "../row_index.ts";
import { defaultScale } from "../tiled/plan.ts";
import { decodeLayout, fittingShape } from "./layout.ts";
import { decodeProgram } from "./program.ts";
import { prefersUnstaged } from "../unstaged.ts";
import { combineSplits, type SplitAttention } from "./kv_splits.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { fuses, rope, type RowRotation } from "../../rope/rope.ts";
import { ropeAppend } from "../../rope/rope_append.ts";
import { bytesOf, type Tensor } from "../../../gpu/tensor.ts";

/** Query heads of one workgroup at most: each costs registers and workgroup memory. */
const MOST_HEADS = 4;
/** Threads of a workgroup, as its memory allows, and loads of keys that a thread has under way at once. */
const THREADS = 256, KEY_LOADS = 8;
/** Workgroups for each processor that splits are to make. */
const WORKGROUPS = 2;
/** Keys of a split at least, and splits of a query's keys at most. */
const LEAST_KEYS = 256, MOST_SPLITS = 64;
/**
 * KV splits of a lone query with up to so many keys, where the next product combines them. Their number is fixed, since
 * the product has a program for each. Every workgroup of the product reads all splits, so they should be few.
 */
const UNCOMBINED_SPLITS = 4, MOST_UNCOMBINED_KEYS = 2048;

/** Storage buffers of the program where rows' words are not packed. */
const MOST_BINDINGS = 10;

/**
 * Query heads that share a workgroup, of `sharing` that share a key head: as few as fill the processors, each with as
 * many splits. What they share is read once for all of them.
 */
function headsPerGroup(sharing: number, workgroups: number, processors: number): number {
  let heads = 1;
  for (let more = 2; more <= Math.min(sharing, MOST_HEADS); more++) {
    if (sharing % more === 0 && workgroups / heads > processors) heads = more;
  }
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
  /** Threads of a workgroup: a power of two, half of a head's vectors of four at least. */
  threads?: number;
  /** Query heads of a workgroup: a divisor of those that share a key head. */
  heads?: number;
  /** Splits of the keys. */
  splits?: number;
  /** Loads of keys that a thread has under way at once. */
  keyLoads?: number;
  /** Threads of a subgroup at least, where its functions add up; 0: without them. */
  subgroup?: number;
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
  const { processors } = gpu.profile, most = mostSplits(longest);
  const {
    // Where the keys are many, each is read once for as many heads as can be.
    heads: wanted = headsPerGroup(
      heads / kvHeads,
      rows * heads * (uncombined ? UNCOMBINED_SPLITS : most),
      processors,
    ),
    subgroup = gpu.profile.subgroup,
    keyLoads = KEY_LOADS,
  } = geometry;
  const shape = fittingShape({
    q: qkv.dtype,
    kv: cachedK.dtype,
    headDim,
    heads: wanted,
    threads: geometry.threads ?? THREADS,
    keyLoads,
    subgroup,
    softcap: softcap !== null,
    pairs: isFused ? rotary.pairs : "none",
  }, gpu.device.limits);
  const groups = heads / shape.heads, { tile } = decodeLayout(shape);
  const filling = Math.min(most, Math.ceil(WORKGROUPS * processors / (groups * rows)));
  const even = (splits: number) => Math.ceil(longest / splits);
  // Splits of whole tiles, but for those whose number is given.
  const given = geometry.splits ?? (uncombined ? UNCOMBINED_SPLITS : undefined);
  const keysPerSplit = given ? even(given) : tile * Math.ceil(even(filling) / tile);
  const splits = given ?? even(keysPerSplit);
  const { partialOut, softmaxStats } = workspace;
  const packed = MOST_BINDINGS > gpu.maxBindings;
  const arrays = { ...isFused && { positions }, starts, ends };
  const words = packed ? [packRows(gpu, arrays, { rows })] : Object.values(arrays);
  gpu.run(
    decodeProgram({ ...shape, packed, out: out.dtype }),
    [qkv, cachedK, cachedV, ...isFused ? [table] : [], ...words, out, partialOut, softmaxStats],
    {
      heads,
      kv_heads: kvHeads,
      splits,
      keys_per_split: keysPerSplit,
      scale,
      softcap: softcap ?? 0,
    },
    [groups, splits, rows],
    {
      flops: 4 * rows * heads * headDim * longest,
      bytes: 2 * rows * kvHeads * headDim * longest * bytesOf(cachedK.dtype),
    },
  );
  if (splits === 1) return;
  const results = { partialOut, softmaxStats, splits, headDim };
  if (uncombined) return results;
  combineSplits(gpu, { ...results, out, rows, heads });
}
