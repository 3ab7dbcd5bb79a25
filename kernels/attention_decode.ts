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

/** Query heads of one workgroup at most: each costs registers. */
const MOST_HEADS = 8;
/** Fewest keys of a tile, and ranges that the keys of one query are split into at most. */
const LEAST_TILE = 128, MOST_SPLITS = 64;
/** Rows of values whose loads a thread has under way at once. */
const AHEAD = 8;
/** Loads of a thread that fetches weights into the GPU's cache, and the bytes that each of them brings there. */
const WARM_LOADS = 8, WARM_BYTES = 32;

/** Query heads that share a workgroup, out of those that share a key head. */
function headsPerGroup(sharing: number): number {
  let heads = Math.min(sharing, MOST_HEADS);
  while (sharing % heads !== 0) heads--;
  return heads;
}

const ranged = programFamily(
  "attention_decode",
  (
    ...[q, kv, headDim, heads, threads, subgroups, warm]: [
      ...[q: Dtype, kv: Dtype, headDim: number, heads: number, threads: number],
      ...[subgroups: boolean, warm: Dtype | "none"],
    ]
  ) => {
    /** Elements of 16 bytes, threads along a row of keys or values, and rows that are read side by side. */
    const width = kv === "f16" ? 8 : 4, lanes = headDim / width;
    const places = Math.floor(threads / lanes);
    const vectors = headDim / 4, perLoad = width / 4;
    /** Threads that share a column when the places are added up. */
    const parts = Math.min(Math.floor(threads / vectors), Math.ceil(Math.sqrt(places)));
    const batches = Math.ceil(threads / (places * AHEAD));
    const slots = subgroups ? threads / 4 : threads;
    const cached = (name: string): Binding => ({ name, dtype: kv, access: "write", raw: true });
    const eachHead = (line: (h: number) => string) => repeat(heads, line);
    /** Vectors of four in 16 bytes of a cache, and the other way round. */
    const unpack = (x: string, p: number) =>
      kv === "f32"
        ? `bitcast<vec4<f32>>(${x})`
        : `vec4<f32>(unpack2x16float(${x}.${"xz"[p]}), unpack2x16float(${x}.${"yw"[p]}))`;
    const packed = (x: string) =>
      kv === "f32"
        ? `bitcast<vec4<u32>>(${x}[thread])`
        : `vec4<u32>(${
          [0, 1].map((p) =>
            ["xy", "zw"].map((pair) => `pack2x16float(${x}[2u * thread + ${p}u].${pair})`)
          ).flat().join(", ")
        })`;
    const keyRow = (key: string) => `((${key}) * u.kv_heads + kv_head) * ${lanes}u`;
    const loadValues = (from: string) =>
      repeat(
        AHEAD,
        (i) =>
          `x${i} = cached_v[${
            keyRow(`min(tile + ${from} + ${i * places}u, memory_end - 1u)`)
          } + lane];`,
      );
    const bindings: Binding[] = [
      ...reads(q, "qkv"),
      ...[cached("cached_k"), cached("cached_v")],
      ...reads("f32", "table"),
      ...readsScalars("u32", "positions", "starts", "ends"),
      ...writes(q, "out"),
      ...writes("f32", "sums"),
      { name: "tops", dtype: "f32", access: "write", scalar: true },
    ];
    if (warm !== "none") bindings.push({ name: "warm", dtype: warm, access: "read", raw: true });
    const warming = `if (group.x * ${heads}u >= u.heads) {
    // Not a head: the next launch's weights pass by on their way into the cache.
    if (group.z > 0u) { return; }
    let origin = (group.x - u.heads / ${heads}u) * ${threads * WARM_LOADS}u + thread;
    ${
      repeat(WARM_LOADS, (i) =>
        `let x${i} = warm[min(origin + ${i * threads}u, u.warm - 1u) * ${WARM_BYTES / 16}u].x;`)
    }
    let all = ${Array.from({ length: WARM_LOADS }, (_, i) => `x${i}`).join(" ^ ")};
    // Loads whose values go nowhere are not made. With one range \`tops\` is not read.
    if (all == 0x5f3759dfu) { tops[0] = 0.0; }
    return;
  }`;
    return {
      bindings,
      uniforms: {
        ...{ heads: "u32", kv_heads: "u32", splits: "u32", keys_per_split: "u32", scale: "f32" },
        warm: "u32",
      },
      extensions: subgroups ? ["subgroups"] : [],
      body: `
// A score that is no score. A true one may be NaN or infinite and must stay so.
const MASKED = -3.4028234e38;
var<workgroup> queries: array<array<vec4<f32>, ${vectors}>, ${heads}>;
var<workgroup> own_key: array<vec4<f32>, ${vectors}>;
var<workgroup> own_value: array<vec4<f32>, ${vectors}>;
var<workgroup> own_scores: array<f32, ${heads}>;
var<workgroup> weights: array<array<f32, ${threads}>, ${heads}>;
var<workgroup> highest: array<array<f32, ${slots}>, ${heads}>;
var<workgroup> partial: array<array<vec4<f32>, ${vectors}>, ${places}>;
var<workgroup> totals: array<f32, ${places}>;

/** Half a head, vectors \`lane\` and lane + half of it, turned by the angles of \`row\`. */
fn turned(at: u32, lane: u32, row: u32) -> array<vec4<f32>, 2> {
  let a = load_qkv(at);
  let b = load_qkv(at + ${vectors / 2}u);
  let angle = positions[row] * ${vectors}u + lane;
  let c = load_table(angle);
  let s = load_table(angle + ${vectors / 2}u);
  return array<vec4<f32>, 2>(a * c - b * s, b * c + a * s);
}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  ${subgroups ? "@builtin(subgroup_size) size: u32," : ""}
  ${subgroups ? "@builtin(subgroup_invocation_id) subgroup_thread: u32," : ""}
) {
  ${warm === "none" ? "" : warming}
  let head = group.x * ${heads}u;
  let kv_head = head / (u.heads / u.kv_heads);
  let row = group.z;
  let first = starts[row] + group.y * u.keys_per_split;
  let end = min(ends[row], first + u.keys_per_split);
  // The range with the token itself, which is not in the cache yet.
  let has_own = first < end && end == ends[row];
  let memory_end = select(end, end - 1u, has_own);
  let lane = thread % ${lanes}u;
  let place = thread / ${lanes}u;
  let idle = place >= ${places}u;
  let row_start = row * (u.heads + 2u * u.kv_heads) * ${vectors}u;

  for (var i = thread; i < ${heads * vectors / 2}u; i += ${threads}u) {
    let h = i / ${vectors / 2}u;
    let l = i % ${vectors / 2}u;
    let pair = turned(row_start + (head + h) * ${vectors}u + l, l, row);
    queries[h][l] = pair[0];
    queries[h][l + ${vectors / 2}u] = pair[1];
  }
  if (has_own && thread < ${vectors / 2}u) {
    let pair = turned(row_start + (u.heads + kv_head) * ${vectors}u + thread, thread, row);
    own_key[thread] = pair[0];
    own_key[thread + ${vectors / 2}u] = pair[1];
    let at = row_start + (u.heads + u.kv_heads + kv_head) * ${vectors}u + thread;
    own_value[thread] = load_qkv(at);
    own_value[thread + ${vectors / 2}u] = load_qkv(at + ${vectors / 2}u);
  }
  workgroupBarrier();
  if (has_own && thread < ${lanes}u) {
    let k = ${packed("own_key")};
    let v = ${packed("own_value")};
    // One of the workgroups that share a key head stores it. All see what the cache holds.
    if (head % (u.heads / u.kv_heads) == 0u) {
      cached_k[${keyRow("end - 1u")} + thread] = k;
      cached_v[${keyRow("end - 1u")} + thread] = v;
    }
    ${
        repeat(perLoad, (p) =>
          `own_key[${perLoad}u * thread + ${p}u] = ${unpack("k", p)};
    own_value[${perLoad}u * thread + ${p}u] = ${unpack("v", p)};`)
      }
  }
  ${
        eachHead((h) =>
          `${repeat(perLoad, (p) => `var sum${h}_${p} = vec4<f32>();`)}
  var total${h} = 0.0;
  var top${h} = MASKED;`
        )
      }

  for (var tile = first; tile < memory_end; tile += ${threads}u) {
    ${repeat(AHEAD, (i) => `var x${i}: vec4<u32>;`)}
    if (!idle) { ${loadValues("place")} }
    // A key for each thread.
    let key = ${keyRow(`min(tile + thread, memory_end - 1u)`)};
    ${eachHead((h) => `var score${h} = 0.0;`)}
    ${repeat(lanes, (l) => `let k${l} = cached_k[key + ${l}u];`)}
    ${
        repeat(lanes, (l) =>
          `{
      ${repeat(perLoad, (p) => `let y${p} = ${unpack(`k${l}`, p)};`)}
      ${
            eachHead((h) =>
              `score${h} += ${
                Array.from(
                  { length: perLoad },
                  (_, p) => `dot(queries[${h}][${l * perLoad + p}], y${p})`,
                ).join(" + ")
              };`
            )
          }
    }`)
      }
    ${
        eachHead((h) =>
          `score${h} = select(MASKED, score${h} * (u.scale * ${Math.LOG2E}), tile + thread < memory_end);`
        )
      }
    ${
        subgroups
          ? eachHead((h) =>
            `let highest${h} = subgroupMax(score${h});
    if (subgroup_thread == 0u) { highest[${h}][thread / size] = highest${h}; }`
          ) + `
    workgroupBarrier();
    ${eachHead((h) => `var new_top${h} = top${h};`)}
    for (var s = 0u; s < (${threads - 1}u + size) / size; s++) {
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
    ${eachHead((h) => `let new_top${h} = max(top${h}, highest[${h}][0]);`)}`
      }
    ${
        eachHead((h) =>
          `let correction${h} = exp2(top${h} - new_top${h});
    top${h} = new_top${h};
    ${repeat(perLoad, (p) => `sum${h}_${p} *= correction${h};`)}
    total${h} *= correction${h};
    weights[${h}][thread] = select(exp2(score${h} - top${h}), 0.0, score${h} == MASKED);`
        )
      }
    workgroupBarrier();
    if (!idle) {
      for (var b = 0u; b < ${batches}u; b++) {
        let origin = place + b * ${AHEAD * places}u;
        ${
        repeat(AHEAD, (i) =>
          `{
          let at = origin + ${i * places}u;
          ${repeat(perLoad, (p) => `let y${p} = ${unpack(`x${i}`, p)};`)}
          ${
            eachHead((h) =>
              `let w${h} = select(0.0, weights[${h}][min(at, ${threads - 1}u)], at < ${threads}u);
          ${repeat(perLoad, (p) => `sum${h}_${p} += w${h} * y${p};`)}
          total${h} += w${h};`
            )
          }
        }`)
      }
        let next = (b + 1u) * ${AHEAD * places}u;
        if (next >= ${threads}u || tile + next >= memory_end) { break; }
        ${loadValues("place + next")}
      }
    }
    workgroupBarrier();
  }

  workgroupBarrier();
  if (has_own && thread < ${heads}u) {
    var score = 0.0;
    ${repeat(vectors, (l) => `score += dot(queries[thread][${l}], own_key[${l}]);`)}
    own_scores[thread] = score * (u.scale * ${Math.LOG2E});
  }
  workgroupBarrier();
  if (has_own) {
    ${
        eachHead((h) =>
          `{
      let new_top = max(top${h}, own_scores[${h}]);
      let correction = exp2(top${h} - new_top);
      let weight = select(0.0, exp2(own_scores[${h}] - new_top), place == 0u);
      top${h} = new_top;
      ${
            repeat(perLoad, (p) =>
              `sum${h}_${p} = sum${h}_${p} * correction + weight * own_value[${perLoad}u * lane + ${p}u];`)
          }
      total${h} = total${h} * correction + weight;
    }`
        )
      }
  }
  let column = thread % ${vectors}u;
  let part = thread / ${vectors}u;
  ${
        eachHead((h) =>
          `if (!idle) {
    ${repeat(perLoad, (p) => `partial[place][${perLoad}u * lane + ${p}u] = sum${h}_${p};`)}
    if (lane == 0u) { totals[place] = total${h}; }
  }
  workgroupBarrier();
  if (part < ${parts}u) {
    var sum = vec4<f32>();
    for (var p = part; p < ${places}u; p += ${parts}u) { sum += partial[p][column]; }
    partial[part][column] = sum;
  }
  workgroupBarrier();
  if (part == 0u) {
    var sum = vec4<f32>();
    ${repeat(parts, (p) => `sum += partial[${p}][column];`)}
    var total = 0.0;
    for (var p = 0u; p < ${places}u; p++) { total += totals[p]; }
    if (u.splits == 1u) {
      store_out((row * u.heads + head + ${h}u) * ${vectors}u + column, sum / total);
    } else {
      let at = (row * u.splits + group.y) * u.heads + head + ${h}u;
      store_sums(at * ${vectors}u + column, sum);
      if (column == 0u) { tops[2u * at] = top${h}; tops[2u * at + 1u] = total; }
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
  return Math.min(MOST_SPLITS, Math.ceil(longest / LEAST_TILE));
}

/** How {@linkcode attentionDecode} goes about it; what is left out is chosen by size. */
export interface DecodeGeometry {
  /** Threads of a workgroup, and keys of a tile: a multiple of 128. */
  threads?: number;
  /** Add up with subgroup functions. */
  subgroups?: boolean;
  /** Bytes of `warm` to fetch at most. */
  warmBytes?: number;
}

/** Bytes of weights fetched: more than attention has time for, or the cache has room for, is lost. */
const MOST_WARM_BYTES = 24 << 20;

/**
 * Writes out for `rows` queries, and the cache. What is left in qkv is undefined.
 *
 * @param index `[rows]` u32: each token's row of the cache, ends[t] − 1.
 * @param longest Most keys of a query, its own among them.
 * @param warm Weights that the next launch reads: processors without a head to work on fetch them into
 *   the GPU's cache meanwhile.
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
    warm?: Tensor;
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
  const { subgroups = gpu.extensions.has("subgroups") } = geometry;
  const { maxComputeInvocationsPerWorkgroup: most } = gpu.device.limits;
  const threads = geometry.threads ?? Math.min(most, perGroup > 2 || !subgroups ? 256 : 512);
  const keysPerSplit = threads * Math.max(1, Math.ceil(longest / (threads * MOST_SPLITS)));
  const splits = Math.max(1, Math.ceil(longest / keysPerSplit));
  const fetched = splits === 1 && (options.warm?.bytes ?? Infinity) <= gpu.maxBinding;
  const warm = fetched ? options.warm : undefined;
  const warmLoads = warm === undefined ? 0 : Math.floor(
    Math.min(warm.bytes, geometry.warmBytes ?? MOST_WARM_BYTES) / WARM_BYTES,
  );
  const headGroups = heads / perGroup, { sums, tops } = workspace;
  const tensors = [qkv, cachedK, cachedV, table, positions, starts, ends, out, sums, tops];
  if (warm !== undefined) tensors.push(warm);
  gpu.run(
    ranged(
      ...[qkv.dtype, cachedK.dtype, headDim, perGroup, threads] as const,
      ...[subgroups, warm?.dtype ?? "none"] as const,
    ),
    tensors,
    {
      ...{ heads, kv_heads: kvHeads, splits, keys_per_split: keysPerSplit },
      ...{ scale: 1 / Math.sqrt(headDim), warm: warmLoads },
    },
    [headGroups + Math.ceil(warmLoads / (threads * WARM_LOADS)), splits, rows],
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
