/**
 * Attention of single queries over long ranges of keys, as decoding asks for: every query is the next
 * token of another sequence, so its keys are the work, and they are split over workgroups.
 *
 * Equations and shapes are those of attention.ts; k and v may have another dtype than q (a cache's),
 * and rows' key ranges may lie anywhere in them, in any order. A workgroup takes one row, one key
 * head with up to {@linkcode MOST_HEADS} of the query heads that read it, and a range of keys, which it walks in
 * tiles with a running maximum and sum; a second program adds up the ranges.
 * Source: "Flash-Decoding for long-context inference", Dao et al., 2023.
 *
 * @module
 */
import { attention } from "./attention.ts";
import { prefersDirect } from "./attention_direct.ts";
import type { Gpu } from "./gpu.ts";
import { programFamily, reads, readsScalars, repeat, writes } from "./program.ts";
import { bytesOf, type Dtype, type Tensor } from "./tensor.ts";

const THREADS = 128;
/** Query heads of one workgroup at most: each costs registers. */
const MOST_HEADS = 8;
/** Keys of a tile: one a thread in the softmax. */
const TILE = THREADS;
/** Ranges that the keys of one query are split into at most. */
const MOST_SPLITS = 64;

/** How the work of one head dimension is laid out over threads. */
function layout(headDim: number, heads: number) {
  const lanes = headDim / 4;
  return {
    /** Threads along a head row, and rows of keys or values that are read side by side. */
    lanes,
    parallel: Math.floor(THREADS / lanes),
    /** Keys whose products are summed over the lanes at a time. */
    batch: Math.floor((lanes <= 32 ? THREADS : THREADS / 2) / heads),
  };
}

/** Query heads that share a workgroup, out of those that share a key head. */
function headsPerGroup(sharing: number): number {
  let heads = Math.min(sharing, MOST_HEADS);
  while (sharing % heads !== 0) heads--;
  return heads;
}

const ranged = programFamily(
  "attention_decode",
  (q: Dtype, kv: Dtype, headDim: number, heads: number) => {
    const { lanes, parallel, batch } = layout(headDim, heads);
    const batches = Math.ceil(TILE / batch);
    /** Rows of keys or values whose loads a thread has under way at once. */
    const ahead = heads <= 2 ? 8 : 4;
    /** Loads rows `from` + place, place + parallel ... of a tile; those past the end become its last. */
    const loadRows = (x: string, from: string) =>
      repeat(
        ahead,
        (i) =>
          `let x${i} = load_${x}((min(tile + ${from} + ${
            i * parallel
          }u, end - 1u) * u.kv_heads + kv_head) * ${lanes}u + lane);`,
      );
    return {
      bindings: [
        ...reads(q, "q"),
        ...reads(kv, "k", "v"),
        ...readsScalars("u32", "starts", "ends"),
        ...writes(q, "out"),
        ...writes("f32", "sums"),
        { name: "tops", dtype: "f32", access: "write", scalar: true },
      ],
      uniforms: {
        heads: "u32",
        kv_heads: "u32",
        splits: "u32",
        keys_per_split: "u32",
        scale: "f32",
      },
      body: `
// A score that is no score. A true one may be NaN or infinite and must stay so.
const MASKED = -3.4028234e38;
var<workgroup> products: array<array<f32, ${lanes | 1}>, ${batch * heads}>;
var<workgroup> weights: array<array<f32, ${TILE}>, ${heads}>;
var<workgroup> highest: array<array<f32, ${THREADS}>, ${heads}>;
var<workgroup> partial: array<array<vec4<f32>, ${lanes}>, ${parallel}>;
var<workgroup> totals: array<f32, ${parallel}>;

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let head = group.x * ${heads}u;
  let kv_head = head / (u.heads / u.kv_heads);
  let row = group.z;
  let first = starts[row] + group.y * u.keys_per_split;
  let end = min(ends[row], first + u.keys_per_split);
  let lane = thread % ${lanes}u;
  let place = thread / ${lanes}u;
  let idle = place >= ${parallel}u;
  ${
        repeat(heads, (h) =>
          `let q${h} = load_q((row * u.heads + head + ${h}u) * ${lanes}u + lane);
  var sum${h} = vec4<f32>();
  var total${h} = 0.0;
  var top${h} = MASKED;`)
      }

  for (var tile = first; tile < end; tile += ${TILE}u) {
    for (var b = 0u; b < ${batches}u; b++) {
      let here = min(${batch}u, end - min(end, tile + b * ${batch}u));
      if (!idle) {
        for (var slot = place; slot < here; slot += ${ahead * parallel}u) {
          ${loadRows("k", `b * ${batch}u + slot`)}
          ${
        repeat(ahead, (i) =>
          `if (slot + ${i * parallel}u < here) {
            ${
            repeat(heads, (h) =>
              `products[(slot + ${i * parallel}u) * ${heads}u + ${h}u][lane] = dot(q${h}, x${i});`)
          }
          }`)
      }
        }
      }
      workgroupBarrier();
      if (thread < ${batch * heads}u) {
        let slot = b * ${batch}u + thread / ${heads}u;
        var score = 0.0;
        ${repeat(lanes, (l) => `score += products[thread][${l}];`)}
        if (slot < ${TILE}u) {
          weights[thread % ${heads}u][slot] =
            select(MASKED, score * (u.scale * ${Math.LOG2E}), tile + slot < end);
        }
      }
      workgroupBarrier();
    }
    ${repeat(heads, (h) => `highest[${h}][thread] = weights[${h}][thread];`)}
    for (var stride = ${THREADS / 2}u; stride > 0u; stride /= 2u) {
      workgroupBarrier();
      if (thread < stride) {
        ${
        repeat(heads, (h) =>
          `highest[${h}][thread] = max(highest[${h}][thread], highest[${h}][thread + stride]);`)
      }
      }
    }
    workgroupBarrier();
    ${
        repeat(heads, (h) =>
          `let new_top${h} = max(top${h}, highest[${h}][0]);
    let correction${h} = exp2(top${h} - new_top${h});
    top${h} = new_top${h};
    sum${h} *= correction${h};
    total${h} *= correction${h};
    let weight${h} = weights[${h}][thread];
    weights[${h}][thread] = select(exp2(weight${h} - top${h}), 0.0, weight${h} == MASKED);`)
      }
    workgroupBarrier();
    if (!idle) {
      for (var key = place; key < min(${TILE}u, end - tile); key += ${ahead * parallel}u) {
        ${loadRows("v", "key")}
        ${
        repeat(ahead, (i) =>
          repeat(heads, (h) =>
            `let w${i}_${h} = select(0.0, weights[${h}][min(key + ${i * parallel}u, ${
              TILE - 1
            }u)], key + ${i * parallel}u < ${TILE}u);
        sum${h} += w${i}_${h} * x${i};
        total${h} += w${i}_${h};`))
      }
      }
    }
    workgroupBarrier();
  }

  ${
        repeat(heads, (h) =>
          `if (!idle) {
    partial[place][lane] = sum${h};
    totals[place] = total${h};
  }
  workgroupBarrier();
  if (place == 0u) {
    var sum = partial[0][lane];
    var total = totals[0];
    for (var p = 1u; p < ${parallel}u; p++) { sum += partial[p][lane]; total += totals[p]; }
    let query = row * u.heads + head + ${h}u;
    if (u.splits == 1u) {
      store_out(query * ${lanes}u + lane, select(sum / total, vec4<f32>(), starts[row] >= ends[row]));
    } else {
      let at = (row * u.splits + group.y) * u.heads + head + ${h}u;
      store_sums(at * ${lanes}u + lane, sum);
      if (lane == 0u) { tops[2u * at] = top${h}; tops[2u * at + 1u] = total; }
    }
  }
  workgroupBarrier();`)
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
  store_out(id.x, select(sum / total, vec4<f32>(), total == 0.0));
}`,
}));

/** Working memory for queries whose keys are split: f32 sums and two statistics a range. */
export interface DecodeWorkspace {
  /** `[rows · splits · heads · head_dim]` */
  sums: Tensor;
  /** `[rows · splits · heads · 2]` */
  tops: Tensor;
}

/** Ranges that keys are split into, for queries of at most `longest` keys. */
export function mostSplits(longest: number): number {
  return Math.min(MOST_SPLITS, Math.ceil(longest / TILE));
}

/** Ranges that `longest` keys are split into, and the keys of each. */
function decodeSplits(longest: number): { splits: number; keysPerSplit: number } {
  const keysPerSplit = TILE * Math.max(1, Math.ceil(longest / (TILE * MOST_SPLITS)));
  return { splits: Math.max(1, Math.ceil(longest / keysPerSplit)), keysPerSplit };
}

/**
 * Writes out for `rows` queries.
 *
 * @param longest Most keys of a query.
 * @param direct Take the program for software drivers.
 */
export function attentionDecode(
  gpu: Gpu,
  { q, k, v, starts, ends, out, workspace, rows, heads, kvHeads, headDim, longest, ...options }: {
    q: Tensor;
    k: Tensor;
    v: Tensor;
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
  },
): void {
  const direct = options.direct ?? prefersDirect(gpu.software, headDim);
  if (direct) {
    const sizes = { rows, heads, kvHeads, headDim, pairs: rows * longest };
    return attention(gpu, { q, k, v, starts, ends, out, ...sizes, direct });
  }
  const { splits, keysPerSplit } = decodeSplits(longest);
  const perGroup = headsPerGroup(heads / kvHeads);
  const { sums, tops } = workspace;
  gpu.run(
    ranged(q.dtype, k.dtype, headDim, perGroup),
    [q, k, v, starts, ends, out, sums, tops],
    {
      ...{ heads, kv_heads: kvHeads, splits, keys_per_split: keysPerSplit },
      scale: 1 / Math.sqrt(headDim),
    },
    [heads / perGroup, splits, rows],
    {
      flops: 4 * rows * heads * headDim * longest,
      bytes: 2 * rows * kvHeads * headDim * longest * bytesOf(k.dtype),
    },
  );
  if (splits === 1) return;
  const lanes = headDim / 4, vectors = rows * heads * lanes;
  gpu.run(
    combine(q.dtype),
    [sums, tops, out],
    { vectors, heads, lanes, splits },
    [Math.ceil(vectors / COMBINE_THREADS)],
    { flops: 2 * vectors * 4 * splits, bytes: 4 * vectors * 4 * splits },
  );
}
