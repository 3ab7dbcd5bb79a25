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
 * program adds them up. Source: "Flash-Decoding for long-context inference", Dao et al., 2023.
 *
 * @module
 */
import { attention } from "./attention.ts";
import { prefersDirect } from "./attention_direct.ts";
import type { Gpu } from "./gpu.ts";
import { type Binding, programFamily, reads, readsScalars, repeat, writes } from "./program.ts";
import { ropeAppend } from "./rope_append.ts";
import { bytesOf, type Dtype, type Tensor } from "./tensor.ts";

/** Query heads of one workgroup at most: each costs registers and workgroup memory. */
const MOST_HEADS = 4;
/** Fewest keys of a tile, and ranges that the keys of one query are split into at most. */
const LEAST_TILE = 32, MOST_SPLITS = 64;
/** Keys of a range at least: a second one costs a second launch. */
const LEAST_RANGE = 512;
/** Loads that a thread has under way at once: of keys, and of values. */
const KEY_LOADS = 16, VALUE_LOADS = 8;

/** How the work of one head dimension is laid out over a workgroup's threads. */
interface DecodeLayout {
  threads: number;
  /** Elements of one load, which is 16 bytes, and loads of a row of keys or values. */
  wide: number;
  lanes: number;
  /** Threads that share a key; each makes `perKey` loads of it. */
  sharing: number;
  perKey: number;
  /** Keys of a thread, and of all threads together. */
  rounds: number;
  tile: number;
  /** Rows of values that are read side by side. */
  places: number;
}

/** The layout for a head dimension, a multiple of 8. */
export function decodeLayout(kv: Dtype, headDim: number, threads: number): DecodeLayout {
  const wide = kv === "f16" ? 8 : 4, lanes = headDim / wide;
  const sharing = [4, 2, 1].find((count) => lanes % count === 0)!;
  const perKey = lanes / sharing;
  const rounds = Math.max(1, Math.min(sharing, Math.floor(KEY_LOADS / perKey)));
  const tile = rounds * threads / sharing, places = Math.floor(threads / lanes);
  return { threads, wide, lanes, sharing, perKey, rounds, tile, places };
}

/** Query heads that share a workgroup, out of those that share a key head. */
function headsPerGroup(sharing: number): number {
  let heads = Math.min(sharing, MOST_HEADS);
  while (sharing % heads !== 0) heads--;
  return heads;
}

/** A list of WGSL expressions, joined. */
const list = (count: number, item: (i: number) => string, joint: string) =>
  Array.from({ length: count }, (_, i) => item(i)).join(joint);

/** WGSL of 16 bytes of a cache as vectors of four, and back. */
function conversions(kv: Dtype): string {
  if (kv === "f32") {
    return `
fn rounded(x: vec4<f32>) -> vec4<f32> { return x; }
fn values(x: vec4<u32>) -> array<vec4<f32>, 1> { return array<vec4<f32>, 1>(bitcast<vec4<f32>>(x)); }
fn words(x: array<vec4<f32>, 1>) -> vec4<u32> { return bitcast<vec4<u32>>(x[0]); }`;
  }
  return `
fn halves(x: vec4<f32>) -> vec2<u32> { return vec2<u32>(pack2x16float(x.xy), pack2x16float(x.zw)); }
fn whole(x: vec2<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(x.x), unpack2x16float(x.y)); }
fn rounded(x: vec4<f32>) -> vec4<f32> { return whole(halves(x)); }
fn values(x: vec4<u32>) -> array<vec4<f32>, 2> {
  return array<vec4<f32>, 2>(whole(vec2<u32>(x.x, x.y)), whole(vec2<u32>(x.z, x.w)));
}
fn words(x: array<vec4<f32>, 2>) -> vec4<u32> { return vec4<u32>(halves(x[0]), halves(x[1])); }`;
}

const ranged = programFamily(
  "attention_decode",
  (
    q: Dtype,
    kv: Dtype,
    headDim: number,
    heads: number,
    threads: number,
    subgroups: boolean,
  ) => {
    const { wide, lanes, sharing, perKey, rounds, tile, places } = decodeLayout(
      kv,
      headDim,
      threads,
    );
    const vectors = headDim / 4, perLoad = wide / 4;
    /** Rounds of values' loads for a tile. */
    const batches = Math.ceil(tile / (places * VALUE_LOADS));
    /** Threads that share a column when the places are added up. */
    const parts = Math.min(Math.floor(threads / vectors), Math.ceil(Math.sqrt(places)));
    const slots = subgroups ? Math.ceil(threads / 4) : threads;
    const cached = (name: string): Binding => ({ name, dtype: kv, access: "write", raw: true });
    const eachHead = (line: (h: number) => string) => repeat(heads, line);
    const eachPart = (line: (p: number) => string) => repeat(perLoad, line);
    const cacheRow = (key: string) => `((${key}) * u.kv_heads + kv_head) * ${lanes}u`;
    /** Loads that lie past the end become those of the last row: they are not counted. */
    const loadKeys = (first: string) =>
      repeat(rounds, (r) =>
        `{
      let at = ${cacheRow(`min(${first} + ${r * threads / sharing}u + key, last_row)`)} + share;
      ${repeat(perKey, (i) => `k${r}_${i} = cached_k[at + ${i * sharing}u];`)}
    }`);
    const loadValues = (first: string) =>
      repeat(
        VALUE_LOADS,
        (i) =>
          `v${i} = cached_v[${
            cacheRow(`min(${first} + ${i * places}u + place, last_row)`)
          } + lane];`,
      );
    const highest = subgroups
      ? `${
        eachHead((h) =>
          `let top_here${h} = subgroupMax(score${h});
    if (subgroup_thread == 0u) { highest[${h}][thread / size] = top_here${h}; }`
        )
      }
    workgroupBarrier();
    ${eachHead((h) => `var new_top${h} = top${h};`)}
    for (var s = 0u; s < ${threads}u / size; s++) {
      ${eachHead((h) => `new_top${h} = max(new_top${h}, highest[${h}][s]);`)}
    }`
      : `${eachHead((h) => `highest[${h}][thread] = score${h};`)}
    for (var stride = ${threads / 2}u; stride > 0u; stride /= 2u) {
      workgroupBarrier();
      if (thread < stride) {
        ${
        eachHead((h) =>
          `highest[${h}][thread] = max(highest[${h}][thread], highest[${h}][thread + stride]);`
        )
      }
      }
    }
    workgroupBarrier();
    ${eachHead((h) => `let new_top${h} = max(top${h}, highest[${h}][0]);`)}`;
    return {
      bindings: [
        ...reads(q, "qkv"),
        ...[cached("cached_k"), cached("cached_v")],
        ...reads("f32", "table"),
        ...readsScalars("u32", "positions", "starts", "ends"),
        ...writes(q, "out"),
        ...writes("f32", "sums"),
        { name: "tops", dtype: "f32", access: "write", scalar: true },
      ],
      uniforms: {
        ...{ heads: "u32", kv_heads: "u32", splits: "u32", keys_per_split: "u32", scale: "f32" },
      },
      extensions: subgroups ? ["subgroups"] : [],
      body: `
// A score that is no score. A true one may be NaN or infinite and must stay so.
const MASKED = -3.4028234e38;
var<workgroup> queries: array<array<vec4<f32>, ${vectors}>, ${heads}>;
var<workgroup> own_key: array<vec4<f32>, ${vectors}>;
var<workgroup> own_value: array<vec4<f32>, ${vectors}>;
var<workgroup> own_products: array<array<f32, ${vectors}>, ${heads}>;
var<workgroup> products: array<array<array<f32, ${sharing}>, ${tile}>, ${heads}>;
var<workgroup> weights: array<array<f32, ${tile}>, ${heads}>;
var<workgroup> highest: array<array<f32, ${slots}>, ${heads}>;
var<workgroup> partial: array<array<vec4<f32>, ${vectors}>, ${places}>;
var<workgroup> totals: array<f32, ${places}>;
var<workgroup> part_totals: array<f32, ${parts}>;
${conversions(kv)}

/** Vectors \`at\` and half a head further, turned by the angles of a position. */
fn turned(at: u32, angle: u32) -> array<vec4<f32>, 2> {
  let a = load_qkv(at);
  let b = load_qkv(at + ${vectors / 2}u);
  let c = load_table(angle);
  let s = load_table(angle + ${vectors / 2}u);
  return array<vec4<f32>, 2>(a * c - b * s, b * c + a * s);
}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  ${
        subgroups
          ? "@builtin(subgroup_size) size: u32,\n  @builtin(subgroup_invocation_id) subgroup_thread: u32,"
          : ""
      }
) {
  let head = group.x * ${heads}u;
  let kv_head = head / (u.heads / u.kv_heads);
  let row = group.z;
  let first = starts[row] + group.y * u.keys_per_split;
  let end = min(ends[row], first + u.keys_per_split);
  // The range with the token itself, which is not in the cache yet.
  let has_own = first < end && end == ends[row];
  let cached_end = select(end, end - 1u, has_own);
  let last_row = max(cached_end, 1u) - 1u;
  let share = thread % ${sharing}u;
  let key = thread / ${sharing}u;
  let lane = thread % ${lanes}u;
  let place = thread / ${lanes}u;

  // Keys and values of the first tile are on their way while the query is turned.
  ${repeat(rounds, (r) => repeat(perKey, (i) => `var k${r}_${i}: vec4<u32>;`))}
  ${repeat(VALUE_LOADS, (i) => `var v${i}: vec4<u32>;`)}
  ${loadKeys("first")}
  ${loadValues("first")}

  let angles = positions[row] * ${vectors}u;
  let row_start = row * (u.heads + 2u * u.kv_heads) * ${vectors}u;
  for (var i = thread; i < ${heads * vectors / 2}u; i += ${threads}u) {
    let h = i / ${vectors / 2}u;
    let l = i % ${vectors / 2}u;
    let pair = turned(row_start + (head + h) * ${vectors}u + l, angles + l);
    queries[h][l] = pair[0];
    queries[h][l + ${vectors / 2}u] = pair[1];
  }
  if (has_own && thread < ${vectors / 2}u) {
    let other = thread + ${vectors / 2}u;
    let pair = turned(row_start + (u.heads + kv_head) * ${vectors}u + thread, angles + thread);
    own_key[thread] = rounded(pair[0]);
    own_key[other] = rounded(pair[1]);
    let at = row_start + (u.heads + u.kv_heads + kv_head) * ${vectors}u;
    own_value[thread] = rounded(load_qkv(at + thread));
    own_value[other] = rounded(load_qkv(at + other));
  }
  workgroupBarrier();
  // One of the workgroups that share a key head stores it.
  if (has_own && thread < ${lanes}u && head % (u.heads / u.kv_heads) == 0u) {
    let at = ${cacheRow("end - 1u")} + thread;
    cached_k[at] = words(array<vec4<f32>, ${perLoad}>(${
        list(perLoad, (p) => `own_key[${perLoad}u * thread + ${p}u]`, ", ")
      }));
    cached_v[at] = words(array<vec4<f32>, ${perLoad}>(${
        list(perLoad, (p) => `own_value[${perLoad}u * thread + ${p}u]`, ", ")
      }));
  }
  if (has_own && thread < ${vectors}u) {
    ${eachHead((h) => `own_products[${h}][thread] = dot(queries[${h}][thread], own_key[thread]);`)}
  }
  ${
        eachHead((h) =>
          `${eachPart((p) => `var sum${h}_${p} = vec4<f32>();`)}
  var total${h} = 0.0;
  var top${h} = MASKED;`
        )
      }

  for (var tile = first; tile < cached_end; tile += ${tile}u) {
    ${
        repeat(rounds, (r) =>
          `{
      ${eachHead((h) => `var part${h} = 0.0;`)}
      ${
            repeat(perKey, (i) =>
              `{
        let x = values(k${r}_${i});
        ${
                eachHead((h) =>
                  eachPart((p) =>
                    `part${h} += dot(queries[${h}][(share + ${
                      i * sharing
                    }u) * ${perLoad}u + ${p}u], x[${p}]);`
                  )
                )
              }
      }`)
          }
      ${eachHead((h) => `products[${h}][${r * threads / sharing}u + key][share] = part${h};`)}
    }`)
      }
    let next_tile = tile + ${tile}u;
    if (next_tile < cached_end) {
      ${loadKeys("next_tile")}
    }
    workgroupBarrier();
    // A key for each thread.
    ${
        eachHead((h) =>
          `var score${h} = MASKED;
    if (thread < min(${tile}u, cached_end - tile)) {
      score${h} = (${
            list(sharing, (i) => `products[${h}][thread][${i}]`, " + ")
          }) * (u.scale * ${Math.LOG2E});
    }`
        )
      }
    ${highest}
    ${
        eachHead((h) =>
          `let correction${h} = exp2(top${h} - new_top${h});
    top${h} = new_top${h};
    ${eachPart((p) => `sum${h}_${p} *= correction${h};`)}
    total${h} *= correction${h};
    ${tile < threads ? `if (thread < ${tile}u) {` : "{"}
      weights[${h}][thread] = select(exp2(score${h} - top${h}), 0.0, score${h} == MASKED);
    }`
        )
      }
    workgroupBarrier();
    for (var b = 0u; b < ${batches}u; b++) {
      let origin = b * ${VALUE_LOADS * places}u;
      ${
        repeat(VALUE_LOADS, (i) =>
          `{
        let at = origin + ${i * places}u + place;
        let x = values(v${i});
        ${
            eachHead((h) =>
              `let w${h} = select(0.0, weights[${h}][min(at, ${tile - 1}u)], at < ${tile}u);
        ${eachPart((p) => `sum${h}_${p} += w${h} * x[${p}];`)}
        total${h} += w${h};`
            )
          }
      }`)
      }
      let next = origin + ${VALUE_LOADS * places}u;
      if (next >= ${tile}u || tile + next >= cached_end) { break; }
      ${loadValues(`tile + next`)}
    }
    if (next_tile < cached_end) {
      ${loadValues("next_tile")}
    }
  }

  let column = thread % ${vectors}u;
  let part = thread / ${vectors}u;
  ${
        eachHead((h) =>
          `if (place < ${places}u) {
    ${eachPart((p) => `partial[place][${perLoad}u * lane + ${p}u] = sum${h}_${p};`)}
    if (lane == 0u) { totals[place] = total${h}; }
  }
  workgroupBarrier();
  if (part < ${parts}u) {
    var sum = vec4<f32>();
    var total = 0.0;
    for (var p = part; p < ${places}u; p += ${parts}u) {
      sum += partial[p][column];
      total += totals[p];
    }
    // Only this thread reads what it overwrites.
    partial[part][column] = sum;
    if (column == 0u) { part_totals[part] = total; }
  }
  workgroupBarrier();
  if (part == 0u) {
    var sum = vec4<f32>();
    var total = 0.0;
    ${
            repeat(parts, (p) =>
              `sum += partial[${p}][column];
    total += part_totals[${p}];`)
          }
    var top = top${h};
    if (has_own) {
      var score = 0.0;
      ${repeat(vectors, (l) => `score += own_products[${h}][${l}];`)}
      score *= u.scale * ${Math.LOG2E};
      top = max(top${h}, score);
      let correction = exp2(top${h} - top);
      let weight = exp2(score - top);
      sum = sum * correction + weight * own_value[column];
      total = total * correction + weight;
    }
    if (u.splits == 1u) {
      store_out((row * u.heads + head + ${h}u) * ${vectors}u + column, sum / total);
    } else {
      let at = (row * u.splits + group.y) * u.heads + head + ${h}u;
      store_sums(at * ${vectors}u + column, sum);
      if (column == 0u) { tops[2u * at] = top; tops[2u * at + 1u] = total; }
    }
  }
  ${
            h < heads - 1
              ? "workgroupBarrier();"
              : ""
          }`
        )
      }
}`,
    };
  },
);

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
  const threads = geometry.threads ?? Math.min(most, [512, 256, 128, 128][perGroup - 1]);
  const { tile } = decodeLayout(cachedK.dtype, headDim, threads);
  const least = tile * Math.ceil(range / tile);
  const keysPerSplit = least * Math.max(1, Math.ceil(longest / (least * MOST_SPLITS)));
  const splits = Math.max(1, Math.ceil(longest / keysPerSplit));
  const { sums, tops } = workspace;
  gpu.run(
    ranged(qkv.dtype, cachedK.dtype, headDim, perGroup, threads, subgroups),
    [qkv, cachedK, cachedV, table, positions, starts, ends, out, sums, tops],
    {
      ...{ heads, kv_heads: kvHeads, splits, keys_per_split: keysPerSplit },
      scale: 1 / Math.sqrt(headDim),
    },
    [heads / perGroup, splits, rows],
    {
      flops: 4 * rows * heads * headDim * longest,
      bytes: 2 * rows * kvHeads * headDim * longest * bytesOf(cachedK.dtype),
    },
  );
  if (splits === 1) return;
  const lanes = headDim / 4, vectors = rows * heads * lanes;
  gpu.run(
    combine(qkv.dtype),
    [sums, tops, out],
    { vectors, heads, lanes, splits },
    [Math.ceil(vectors / COMBINE_THREADS)],
    { flops: 2 * vectors * 4 * splits, bytes: 4 * vectors * 4 * splits },
  );
}
