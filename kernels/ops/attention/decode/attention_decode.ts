/**
 * Attention of single queries over long ranges of keys, as decoding asks for: every query is the next
 * token of another sequence, so its keys are the work. The token's own key and value don't lie in the cache
 * yet: the same launch turns query and key by the token's position, appends key and value to the cache, and
 * attends to them.
 *
 * Equations are those of rope.ts and attention.ts. Shapes: qkv `[rows, (heads + 2·kvHeads) · D]`, the columns of
 * q, then k, then v, and out `[rows, heads · D]`, both f32 or f16; cachedK and cachedV `[L, kvHeads · D]`, f32 or
 * f16. The keys of row t lie in rows starts[t] to ends[t] of the cache, of which the last is the token's
 * own; ranges may lie anywhere, in any order, but no row's range holds another row's token.
 *
 * A workgroup takes one row, one key head with up to {@linkcode MOST_HEADS} of the query heads that read it, and a
 * range of keys, which it walks in tiles with a running maximum and sum; where there are several ranges a second
 * program adds them up, or the product that follows. With few heads up to four workgroups share one: each works
 * out all weights, for its part of the values' columns (10.8 µs instead of 12.4 on an H100, for 32 heads and 512
 * keys). Source: "Flash-Decoding for long-context inference", Dao et al., 2023.
 *
 * @module
 */
import { attention } from "../attention.ts";
import { decodeLayout } from "./layout.ts";
import { decodeProgram } from "./program.ts";
import { prefersDirect } from "../unstaged.ts";
import { type AttentionRanges, combineRanges } from "./kv_splits.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { ropeAppend } from "../../rope/rope_append.ts";
import { bytesOf, type Tensor } from "../../../gpu/tensor.ts";

/** Query heads of one workgroup at most: each costs registers and workgroup memory. */
const MOST_HEADS = 4;
/** Threads of a workgroup of so many heads, as its memory allows. */
const THREADS = [512, 256, 128, 128];
/** Loads of keys that a thread has under way at once. */
const KEY_LOADS = 16;
/** Keys of a range at least, as a second one costs a second launch, and ranges of a query's keys at most. */
const LEAST_RANGE = 512, MOST_RANGES = 64;
/**
 * Ranges that the keys of a lone query, up to so many, go to where the next product adds them up: always as
 * many, as it has a program for each number. Its workgroups all read them all, so they should be few.
 */
const RANGES_APART = 4, MOST_KEYS_APART = 2048;
/** For these, loads of keys, and threads of a workgroup where a range has up to so many keys. */
const KEY_LOADS_APART = 8, FEW_THREADS = 256, FEW_KEYS = 128;
/** Workgroups, one a processor: while there are fewer, a head goes to several. */
const FULL_GPU = 132;

/** Query heads that share a workgroup, out of those that share a key head. */
function headsPerGroup(sharing: number): number {
  let heads = Math.min(sharing, MOST_HEADS);
  while (sharing % heads !== 0) heads--;
  return heads;
}

/** Working memory for queries whose keys are split into ranges; see attention/ranges.ts. */
export interface DecodeWorkspace {
  /** `[rows · ranges · heads · head_dim]` */
  sums: Tensor;
  /** `[rows · ranges · heads · 2]` */
  tops: Tensor;
}

/** Ranges that keys are split into at most, for queries of at most `longest` keys. */
export function mostRanges(longest: number): number {
  return Math.max(RANGES_APART, Math.min(MOST_RANGES, Math.ceil(longest / LEAST_RANGE)));
}

/** How {@linkcode attentionDecode} goes about it; what is left out is chosen by size. */
export interface DecodeGeometry {
  /** Threads of a workgroup: a power of two, a head's vectors of four at least. */
  threads?: number;
  /** Keys of a range at least. */
  range?: number;
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
 * @param direct Take the programs for software drivers.
 * @param apart Where that is faster, the results of ranges of keys may be left for the next product to add up.
 * @returns these results, where they are; then out is undefined.
 */
export function attentionDecode(
  gpu: Gpu,
  { qkv, cachedK, cachedV, table, positions, index, starts, ends, out, workspace, ...options }: {
    qkv: Tensor;
    cachedK: Tensor;
    cachedV: Tensor;
    table: Tensor;
    positions: Tensor;
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
    direct?: boolean;
    apart?: boolean;
    geometry?: DecodeGeometry;
  },
): AttentionRanges | undefined {
  const { rows, heads, kvHeads, headDim, longest, geometry = {} } = options;
  const sizes = { rows, heads, kvHeads, headDim };
  if (options.direct ?? prefersDirect(gpu.software, headDim)) {
    ropeAppend(gpu, { qkv, cachedK, cachedV, table, positions, index, ...sizes });
    const [q, k, v] = [qkv, cachedK, cachedV].map((tensor) => ({ tensor, from: 0 }));
    attention(gpu, { q, k, v, starts, ends, out, ...sizes, pairs: rows * longest, direct: true });
    return;
  }
  const apart = options.apart === true && rows === 1 && longest <= MOST_KEYS_APART;
  const perGroup = headsPerGroup(heads / kvHeads);
  const {
    subgroups = gpu.extensions.has("subgroups"),
    keyLoads = apart ? KEY_LOADS_APART : KEY_LOADS,
    range = apart ? Math.ceil(longest / RANGES_APART) : LEAST_RANGE,
  } = geometry;
  const { maxComputeInvocationsPerWorkgroup: most } = gpu.device.limits;
  const few = apart && range <= FEW_KEYS ? FEW_THREADS : Infinity;
  const threads = geometry.threads ?? Math.min(most, few, THREADS[perGroup - 1]);
  const [q, kv] = [qkv.dtype, cachedK.dtype];
  const shape = { q, kv, headDim, heads: perGroup, threads, columnGroups: 1, keyLoads, subgroups };
  const { tile, lanes } = decodeLayout(shape);
  const least = tile * Math.ceil(range / tile);
  const keysPerRange = least * Math.max(1, Math.ceil(longest / (least * MOST_RANGES)));
  const ranges = apart ? RANGES_APART : Math.max(1, Math.ceil(longest / keysPerRange));
  const groups = heads / perGroup;
  const columnGroups = geometry.columnGroups ??
    [4, 2].find((n) => lanes % n === 0 && n * groups * ranges * rows <= FULL_GPU) ?? 1;
  const { sums, tops } = workspace;
  gpu.run(
    decodeProgram(q, kv, headDim, perGroup, threads, columnGroups, keyLoads, subgroups),
    [qkv, cachedK, cachedV, table, positions, starts, ends, out, sums, tops],
    {
      heads,
      kv_heads: kvHeads,
      ranges,
      keys_per_range: keysPerRange,
      scale: 1 / Math.sqrt(headDim),
    },
    [groups * columnGroups, ranges, rows],
    {
      flops: 4 * rows * heads * headDim * longest,
      bytes: 2 * rows * kvHeads * headDim * longest * bytesOf(kv),
    },
  );
  if (ranges === 1) return;
  const results = { sums, tops, ranges, headDim };
  if (apart) return results;
  combineRanges(gpu, { ...results, out, rows, heads });
}
