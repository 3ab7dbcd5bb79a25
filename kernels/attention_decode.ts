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
 * program adds them up. With few heads up to four workgroups share one: each works out all weights, for its
 * part of the values' columns (10.8 µs instead of 12.4 on an H100, for 32 heads and 512 keys). Source: "Flash-Decoding for long-context inference", Dao et al., 2023.
 *
 * @module
 */
import { attention } from "./attention.ts";
import { prefersDirect } from "./attention/direct.ts";
import type { Gpu } from "./gpu.ts";
import { decodeLayout, decodeProgram } from "./attention/decode_program.ts";
import { programFamily, reads, readsScalars, writes } from "./program.ts";
import { ropeAppend } from "./rope_append.ts";
import { bytesOf, type Dtype, type Tensor } from "./tensor.ts";

/** Query heads of one workgroup at most: each costs registers and workgroup memory. */
const MOST_HEADS = 4;
/** Threads of a workgroup of so many heads, as its memory allows. */
const THREADS = [512, 256, 128, 128];
/** Keys of a range at least, as a second one costs a second launch, and ranges of a query's keys at most. */
const LEAST_RANGE = 512, MOST_SPLITS = 64;
/** Workgroups, one a processor: while there are fewer, a head goes to several. */
const FULL_GPU = 132;

/** Query heads that share a workgroup, out of those that share a key head. */
function headsPerGroup(sharing: number): number {
  let heads = Math.min(sharing, MOST_HEADS);
  while (sharing % heads !== 0) heads--;
  return heads;
}

const COMBINE_THREADS = 64;

const combine = programFamily("attention_decode_sum", (out: Dtype) => ({
  bindings: [
    ...reads("f32", "sums"),
    ...readsScalars("f32", "tops"),
    ...writes(out, "out"),
  ],
  uniforms: { vectors: "u32", heads: "u32", lanes: "u32", splits: "u32" },
  body: `
@compute @workgroup_size(${COMBINE_THREADS})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= u.vectors) { return; }
  let query = id.x / u.lanes;
  let lane = id.x % u.lanes;
  let first = query / u.heads * u.splits * u.heads + query % u.heads;
  var top = tops[2u * first];
  for (var s = 1u; s < u.splits; s++) { top = max(top, tops[2u * (first + s * u.heads)]); }
  var sum = vec4<f32>();
  var total = 0.0;
  for (var s = 0u; s < u.splits; s++) {
    let at = first + s * u.heads;
    let factor = exp2(tops[2u * at] - top);
    sum += factor * load_sums(at * u.lanes + lane);
    total += factor * tops[2u * at + 1u];
  }
  store_out(id.x, sum / total);
}`,
}));

/** Working memory for queries whose keys are split: f32 sums and two statistics a range. */
export interface DecodeWorkspace {
  /** `[rows · splits · heads · head_dim]` */
  sums: Tensor;
  /** `[rows · splits · heads · 2]` */
  tops: Tensor;
}

/** Ranges that keys are split into at most, for queries of at most `longest` keys. */
export function mostSplits(longest: number): number {
  return Math.min(MOST_SPLITS, Math.ceil(longest / LEAST_RANGE));
}

/** How {@linkcode attentionDecode} goes about it; what is left out is chosen by size. */
export interface DecodeGeometry {
  /** Threads of a workgroup: a power of two, a head's vectors of four at least. */
  threads?: number;
  /** Keys of a range at least. */
  range?: number;
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
    geometry?: DecodeGeometry;
  },
): void {
  const { rows, heads, kvHeads, headDim, longest, geometry = {} } = options;
  const sizes = { rows, heads, kvHeads, headDim };
  if (options.direct ?? prefersDirect(gpu.software, headDim)) {
    ropeAppend(gpu, { qkv, cachedK, cachedV, table, positions, index, ...sizes });
    const [q, k, v] = [qkv, cachedK, cachedV].map((tensor) => ({ tensor, from: 0 }));
    attention(gpu, { q, k, v, starts, ends, out, ...sizes, pairs: rows * longest, direct: true });
    return;
  }
  const perGroup = headsPerGroup(heads / kvHeads);
  const { subgroups = gpu.extensions.has("subgroups"), range = LEAST_RANGE } = geometry;
  const { maxComputeInvocationsPerWorkgroup: most } = gpu.device.limits;
  const threads = geometry.threads ?? Math.min(most, THREADS[perGroup - 1]);
  const { tile } = decodeLayout(cachedK.dtype, headDim, { threads, columnGroups: 1 });
  const least = tile * Math.ceil(range / tile);
  const keysPerSplit = least * Math.max(1, Math.ceil(longest / (least * MOST_SPLITS)));
  const splits = Math.max(1, Math.ceil(longest / keysPerSplit));
  const groups = heads / perGroup, lanes = headDim * bytesOf(cachedK.dtype) / 16;
  const columnGroups = geometry.columnGroups ??
    [4, 2].find((n) => lanes % n === 0 && n * groups * splits * rows <= FULL_GPU) ?? 1;
  const { sums, tops } = workspace;
  gpu.run(
    decodeProgram(qkv.dtype, cachedK.dtype, headDim, perGroup, threads, columnGroups, subgroups),
    [qkv, cachedK, cachedV, table, positions, starts, ends, out, sums, tops],
    {
      ...{ heads, kv_heads: kvHeads, splits, keys_per_split: keysPerSplit },
      scale: 1 / Math.sqrt(headDim),
    },
    [groups * columnGroups, splits, rows],
    {
      flops: 4 * rows * heads * headDim * longest,
      bytes: 2 * rows * kvHeads * headDim * longest * bytesOf(cachedK.dtype),
    },
  );
  if (splits === 1) return;
  const vectors = rows * heads * headDim / 4;
  gpu.run(
    combine(qkv.dtype),
    [sums, tops, out],
    { vectors, heads, lanes: headDim / 4, splits },
    [Math.ceil(vectors / COMBINE_THREADS)],
    { flops: 2 * vectors * 4 * splits, bytes: 4 * vectors * 4 * splits },
  );
}
