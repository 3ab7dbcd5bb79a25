/**
 * Gradients of attention within documents laid end to end (see attention.ts for the forward).
 *
 * With p_ij = exp(s_ij − lse_i), dp_ij = dout_i · v_j, delta_i = dout_i · out_i and
 * ds_ij = p_ij (dp_ij − delta_i):
 *   dq_i = Σ_j ds_ij k_j / √d, dk_j = Σ_i ds_ij q_i / √d, dv_j = Σ_i p_ij dout_i,
 * the last two summed over the query heads that share the key head.
 *
 * Shapes: q, out, dout, dq `[rows, heads · d]` and k, v, dk, dv `[rows, kvHeads · d]`, all f32 or all
 * f16; lse, delta `[rows, heads]` f32; starts, ends, queryEnds `[rows]` u32, none decreasing. The
 * queries that attend to key j are those from j to queryEnds[j]. Scores are computed again tile by
 * tile; every gradient element is summed by one thread in a fixed order, so results repeat exactly.
 * Source: Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning",
 * 2023, algorithm 2, with the query gradient in a pass of its own instead of atomic additions.
 *
 * @module
 */
import {
  DIRECT_THREADS,
  directKeyGradient,
  directQueryGradient,
  prefersDirect,
} from "./attention_direct.ts";
import {
  addScores,
  addWeighted,
  type AttentionPlan,
  attentionTiles,
  attentionUniforms,
  COLUMNS,
  declareSums,
  functions,
  headBytes,
  loadChunk,
  loadSlice,
  loop,
  scorePlace,
  scoreRows,
  type Source,
  storeSums,
  sumPlace,
  THREADS,
  tileArray,
  uniformValues,
  weightArray,
  weightPlace,
  within,
} from "./attention_tiles.ts";
import type { Gpu } from "./gpu.ts";
import { programFamily, reads, readsScalars, repeat, writes } from "./program.ts";
import type { Dtype, Tensor } from "./tensor.ts";

/** Threads that share one row of delta. */
const DELTA_LANES = 8;
const DELTA_ROWS = THREADS / DELTA_LANES;

const deltaProgram = programFamily("attention_backward_delta", (dtype: Dtype, headDim: number) => ({
  bindings: [
    { name: "out", dtype, access: "read" },
    { name: "dout", dtype, access: "read" },
    { name: "delta", dtype: "f32", access: "write", scalar: true },
  ],
  uniforms: { rows: "u32", heads: "u32" },
  body: `
var<workgroup> sums: array<array<f32, ${DELTA_LANES}>, ${DELTA_ROWS}>;
@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let local = thread / ${DELTA_LANES}u;
  let lane = thread % ${DELTA_LANES}u;
  let row = group.y * ${DELTA_ROWS}u + local;
  let at = row * u.heads + group.x;
  var sum = 0.0;
  if (row < u.rows) {
    for (var i = lane; i < ${headDim / 4}u; i += ${DELTA_LANES}u) {
      sum += dot(load_out(at * ${headDim / 4}u + i), load_dout(at * ${headDim / 4}u + i));
    }
  }
  sums[local][lane] = sum;
  workgroupBarrier();
  if (lane == 0u && row < u.rows) {
    var all = 0.0;
    ${repeat(DELTA_LANES, (i) => `all += sums[local][${i}];`)}
    delta[at] = all;
  }
}`,
}));

const queryOf = (from: string, end: string) => ({ from, end, head: "head", heads: "u.heads" });
const keyOf = (from: string, end: string) => ({ from, end, head: "kv_head", heads: "u.kv_heads" });

/** What both gradients read of every pair. */
const pairBindings = (dtype: Dtype) => [
  ...reads(dtype, "q", "k", "v", "dout"),
  ...readsScalars("f32", "lse", "delta"),
];

/** WGSL that adds the products of own rows of `a` and the other side's rows of `b` to a tile `sum`. */
function products(
  tiles: AttentionPlan,
  own: Omit<Source, "binding">,
  other: Omit<Source, "binding">,
): (sum: string, a: string, b: string) => string {
  return (sum, a, b) => `
    ${loop(tiles, "chunk", tiles.chunks)} {
      workgroupBarrier();
      ${loadChunk(tiles, "own", tiles.rows, "chunk", { binding: a, ...own })}
      ${loadChunk(tiles, "others", COLUMNS, "chunk", { binding: b, ...other }, true)}
      workgroupBarrier();
      ${addScores(tiles, sum, "own", "others")}
    }`;
}

/** Own rows are queries, the other side is keys. */
const queryProgram = programFamily(
  "attention_backward_query",
  (dtype: Dtype, headDim: number, unroll: boolean) => {
    const tiles = { ...attentionTiles(headDim), unroll };
    const { rows, slices } = tiles;
    const query = queryOf("first", "u.rows"), key = keyOf("tile", "key_end");
    const product = products(tiles, query, key);
    return {
      bindings: [
        ...pairBindings(dtype),
        ...readsScalars("u32", "starts", "ends"),
        ...writes(dtype, "dq"),
      ],
      uniforms: attentionUniforms(tiles),
      body: `${functions(tiles, ["q", "k", "v", "dout"])}
${tileArray("own", tiles, rows)}
${tileArray("others", tiles, COLUMNS)}
${weightArray("weights", tiles)}

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let head = group.x;
  let kv_head = head / (u.heads / u.kv_heads);
  // Later queries have more keys: they go first, so that the longest work does not end last.
  let first = ((u.rows - 1u) / ${rows}u - group.y) * ${rows}u;
  let key_end = ends[min(first + ${rows}u, u.rows) - 1u];
  ${scorePlace(tiles)}
  ${
        repeat(scoreRows(tiles), (i) =>
          `var low${i} = 0u; var high${i} = 0u; var lse${i} = 0.0; var delta${i} = 0.0;
  if (first + score_row${i} < u.rows) {
    low${i} = starts[first + score_row${i}];
    high${i} = ends[first + score_row${i}];
    lse${i} = lse[(first + score_row${i}) * u.heads + head] * ${Math.LOG2E};
    delta${i} = delta[(first + score_row${i}) * u.heads + head];
  }`)
      }
  ${sumPlace(tiles)}
  ${declareSums(tiles, "dq")}

  for (var tile = starts[first]; tile < key_end; tile += ${COLUMNS}u) {
    ${repeat(scoreRows(tiles), (i) => `var s${i} = vec4<f32>(); var dp${i} = vec4<f32>();`)}
    ${product("s", "q", "k")}
    ${product("dp", "dout", "v")}
    ${
        repeat(scoreRows(tiles), (i) =>
          `let p${i} = exp2(s${i} * (u.scale * ${Math.LOG2E}) - lse${i});
    ${weightPlace(tiles, "weights", `score_row${i}`, "score_lane")} =
      select(vec4<f32>(), p${i} * (dp${i} - delta${i}), ${within("tile", `low${i}`, `high${i}`)});`)
      }
    ${loop(tiles, "slice", slices)} {
      workgroupBarrier();
      ${loadSlice(tiles, "others", { binding: "k", ...key })}
      workgroupBarrier();
      ${addWeighted(tiles, "dq", "weights", "others")}
    }
  }
  ${storeSums(tiles, "dq", { binding: "dq", ...query }, () => "u.scale")}
}`,
    };
  },
);

/** Own rows are keys, the other side is the queries of every head that shares the key head. */
const keyProgram = programFamily(
  "attention_backward_key",
  (dtype: Dtype, headDim: number, unroll: boolean) => {
    const tiles = { ...attentionTiles(headDim), unroll };
    const { rows, slices } = tiles;
    const key = keyOf("first", "u.rows"), query = queryOf("tile", "query_end");
    const product = products(tiles, key, query);
    const four = (array: string) =>
      `vec4<f32>(${[0, 1, 2, 3].map((j) => `${array}[score_column + ${j}u]`).join(", ")})`;
    return {
      bindings: [
        ...pairBindings(dtype),
        ...readsScalars("u32", "query_ends"),
        ...writes(dtype, "dk", "dv"),
      ],
      uniforms: attentionUniforms(tiles),
      body: `${functions(tiles, ["q", "k", "v", "dout"])}
// Own chunks have fewer rows where tiles are smaller; slices of queries need them all.
${tileArray("own", tiles, COLUMNS)}
${tileArray("others", tiles, COLUMNS)}
${weightArray("p", tiles)}
${weightArray("ds", tiles)}
var<workgroup> lses: array<f32, ${COLUMNS}>;
var<workgroup> deltas: array<f32, ${COLUMNS}>;

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let kv_head = group.x;
  let shared_by = u.heads / u.kv_heads;
  let first = group.y * ${rows}u;
  let query_end = query_ends[min(first + ${rows}u, u.rows) - 1u];
  ${scorePlace(tiles)}
  ${
        repeat(scoreRows(tiles), (i) =>
          `var high${i} = 0u;
  if (first + score_row${i} < u.rows) { high${i} = query_ends[first + score_row${i}]; }`)
      }
  ${sumPlace(tiles)}
  ${declareSums(tiles, "dk")}
  ${declareSums(tiles, "dv")}

  for (var head = kv_head * shared_by; head < (kv_head + 1u) * shared_by; head++) {
    for (var tile = first; tile < query_end; tile += ${COLUMNS}u) {
      ${repeat(scoreRows(tiles), (i) => `var s${i} = vec4<f32>(); var dp${i} = vec4<f32>();`)}
      ${product("dp", "v", "dout")}
      if (thread < ${COLUMNS}u) {
        let at = min(tile + thread, u.rows - 1u) * u.heads + head;
        lses[thread] = lse[at] * ${Math.LOG2E};
        deltas[thread] = delta[at];
      }
      ${product("s", "k", "q")}
      let column_lse = ${four("lses")};
      let column_delta = ${four("deltas")};
      ${
        repeat(scoreRows(tiles), (i) =>
          `let attends${i} = ${within("tile", `first + score_row${i}`, `high${i}`)};
      let p${i} = select(vec4<f32>(),
        exp2(s${i} * (u.scale * ${Math.LOG2E}) - column_lse), attends${i});
      ${weightPlace(tiles, "p", `score_row${i}`, "score_lane")} = p${i};
      ${weightPlace(tiles, "ds", `score_row${i}`, "score_lane")} =
        select(vec4<f32>(), p${i} * (dp${i} - column_delta), attends${i});`)
      }
      ${loop(tiles, "slice", slices)} {
        workgroupBarrier();
        ${loadSlice(tiles, "others", { binding: "dout", ...query })}
        ${loadSlice(tiles, "own", { binding: "q", ...query })}
        workgroupBarrier();
        ${addWeighted(tiles, "dv", "p", "others")}
        ${addWeighted(tiles, "dk", "ds", "own")}
      }
    }
  }
  ${storeSums(tiles, "dk", { binding: "dk", ...key }, () => "u.scale")}
  ${storeSums(tiles, "dv", { binding: "dv", ...key }, () => "1.0")}
}`,
    };
  },
);

/**
 * Writes delta, dq, dk and dv for `rows` queries and as many keys.
 *
 * @param pairs Query–key pairs attended, for the profile's cost; one causal document by default.
 * @param unroll Write inner loops out, which a GPU runs faster and a software driver compiles slowly.
 * @param direct Take the programs for software drivers.
 */
export function attentionBackward(
  gpu: Gpu,
  tensors: {
    q: Tensor;
    k: Tensor;
    v: Tensor;
    out: Tensor;
    dout: Tensor;
    lse: Tensor;
    starts: Tensor;
    ends: Tensor;
    queryEnds: Tensor;
    delta: Tensor;
    dq: Tensor;
    dk: Tensor;
    dv: Tensor;
    rows: number;
    heads: number;
    kvHeads: number;
    headDim: number;
    pairs?: number;
    unroll?: boolean;
    direct?: boolean;
  },
): void {
  const { q, k, v, out, dout, lse, starts, ends, queryEnds, delta, dq, dk, dv } = tensors;
  const { rows, heads, kvHeads, headDim } = tensors;
  const { pairs = rows * (rows + 1) / 2, unroll = !gpu.software } = tensors;
  const direct = tensors.direct ?? prefersDirect(gpu.software, headDim);
  const { dtype } = q;
  const bytes = (queries: number, keyed: number) =>
    headBytes(dtype, rows, queries * heads + keyed * kvHeads, headDim) + 8 * rows * heads;
  const uniforms = uniformValues(rows, heads, kvHeads, headDim);
  const product = 2 * heads * headDim * pairs;
  const tiles = Math.ceil(rows / attentionTiles(headDim).rows);

  const deltaGroups = [heads, Math.ceil(rows / DELTA_ROWS)] as const;
  gpu.run(deltaProgram(dtype, headDim), [out, dout, delta], { rows, heads }, deltaGroups, {
    flops: 2 * rows * heads * headDim,
    bytes: bytes(2, 0),
  });
  const shared = [q, k, v, dout, lse, delta];
  const cost = {
    query: { flops: 3 * product, bytes: bytes(3, 2) },
    key: { flops: 4 * product, bytes: bytes(2, 4) },
  };
  if (direct) {
    const groups = Math.ceil(rows / DIRECT_THREADS);
    const query = directQueryGradient(dtype, headDim), key = directKeyGradient(dtype, headDim);
    gpu.run(query, [...shared, starts, ends, dq], uniforms, [groups, heads], cost.query);
    gpu.run(key, [...shared, starts, queryEnds, dk, dv], uniforms, [groups, kvHeads], cost.key);
    return;
  }
  const query = queryProgram(dtype, headDim, unroll), key = keyProgram(dtype, headDim, unroll);
  gpu.run(query, [...shared, starts, ends, dq], uniforms, [heads, tiles], cost.query);
  gpu.run(key, [...shared, queryEnds, dk, dv], uniforms, [kvHeads, tiles], cost.key);
}
