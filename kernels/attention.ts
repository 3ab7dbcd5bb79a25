/**
 * Grouped-query attention over ranges of keys, for several documents laid end to end.
 *
 * Query i attends to the keys j with starts[i] ≤ j < ends[i]:
 *   s_ij = q_i · k_j / √d, lse_i = log Σ_j exp s_ij, out_i = Σ_j exp(s_ij − lse_i) v_j.
 *
 * Shapes: q, out `[rows, heads · d]`, k, v `[≥ max(ends), kvHeads · d]`, head by head, f32 or f16 (k and
 * v, which may be a cache's, apart from q and out); starts, ends `[rows]` u32, neither decreasing; lse `[rows, heads]` f32. Query head h reads
 * key head ⌊h / (heads / kvHeads)⌋. d is a multiple of 4 from 4 to 256. Key rows from the last of
 * `ends` on are never read. A query without keys gets zeros (and the lowest f32 as its lse).
 *
 * No matrix of scores is stored: a workgroup takes a tile of queries of one head and walks over
 * tiles of keys with a running maximum and sum. All arithmetic is f32, in powers of two.
 * Source: Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning",
 * 2023; grouped queries: Ainslie et al., "GQA", 2023.
 *
 * @module
 */
import { DIRECT_THREADS, directForward, prefersDirect } from "./attention_direct.ts";
import {
  addScores,
  addWeighted,
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
  sumRows,
  THREADS,
  tileArray,
  uniformValues,
  weightArray,
  weightPlace,
  within,
} from "./attention_tiles.ts";
import type { Gpu } from "./gpu.ts";
import { type Binding, programFamily, reads, readsScalars, repeat, writes } from "./program.ts";
import type { Dtype, Tensor } from "./tensor.ts";

export { type AttentionTiles, attentionTiles } from "./attention_tiles.ts";
export { attentionBackward } from "./attention_backward.ts";

const forward = programFamily(
  "attention",
  (dtype: Dtype, kv: Dtype, headDim: number, withLse: boolean, unroll: boolean) => {
    const tiles = { ...attentionTiles(headDim), unroll };
    const { rows, chunks, slices } = tiles;
    const parts = THREADS / rows, partVectors = COLUMNS / 4 / parts;
    const query = { from: "first", end: "u.rows", head: "head", heads: "u.heads" };
    const key = { from: "tile", end: "key_end", head: "kv_head", heads: "u.kv_heads" };
    const q: Source = { binding: "q", ...query }, out: Source = { binding: "out", ...query };
    const bindings: Binding[] = [
      ...reads(dtype, "q"),
      ...reads(kv, "k", "v"),
      ...readsScalars("u32", "starts", "ends"),
      ...writes(dtype, "out"),
    ];
    if (withLse) bindings.push({ name: "lse", dtype: "f32", access: "write", scalar: true });
    const own = (e: number) =>
      weightPlace(tiles, "weights", "row", `(part * ${partVectors}u + ${e}u)`);
    return {
      bindings,
      uniforms: attentionUniforms(tiles),
      body: `${functions(tiles, ["q", "k", "v"])}
// A score that is no score. A true one may be NaN or infinite and must stay so.
const MASKED = -3.4028234e38;
var<workgroup> queries: array<array<array<vec4<f32>, ${tiles.stride}>, ${rows}>, ${chunks}>;
${tileArray("others", tiles, COLUMNS)}
${weightArray("weights", tiles)}
var<workgroup> partial: array<array<f32, ${parts}>, ${rows}>;
var<workgroup> corrections: array<f32, ${rows}>;

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let head = group.x;
  let kv_head = head / (u.heads / u.kv_heads);
  // Later queries have more keys: they go first, so that the longest work does not end last.
  let first = ((u.rows - 1u) / ${rows}u - group.y) * ${rows}u;
  let key_end = ends[min(first + ${rows}u, u.rows) - 1u];
  ${loop(tiles, "chunk", chunks)} {
    ${loadChunk(tiles, "queries[chunk]", rows, "chunk", q)}
  }
  ${scorePlace(tiles)}
  ${
        repeat(scoreRows(tiles), (i) =>
          `var low${i} = 0u; var high${i} = 0u;
  if (first + score_row${i} < u.rows) {
    low${i} = starts[first + score_row${i}];
    high${i} = ends[first + score_row${i}];
  }`)
      }
  // In the softmax ${parts} threads share a row; all know its maximum, each its part of the sum.
  let row = thread / ${parts}u;
  let part = thread % ${parts}u;
  var top = MASKED;
  var total = 0.0;
  ${sumPlace(tiles)}
  ${declareSums(tiles, "sum")}

  for (var tile = starts[first]; tile < key_end; tile += ${COLUMNS}u) {
    ${repeat(scoreRows(tiles), (i) => `var s${i} = vec4<f32>();`)}
    ${loop(tiles, "chunk", chunks)} {
      workgroupBarrier();
      ${loadChunk(tiles, "others", COLUMNS, "chunk", { binding: "k", ...key }, true)}
      workgroupBarrier();
      ${addScores(tiles, "s", "queries[chunk]", "others")}
    }
    ${
        repeat(scoreRows(tiles), (i) =>
          `${weightPlace(tiles, "weights", `score_row${i}`, "score_lane")} =
      select(vec4<f32>(MASKED), s${i} * (u.scale * ${Math.LOG2E}),
        ${within("tile", `low${i}`, `high${i}`)});`)
      }
    workgroupBarrier();

    ${repeat(partVectors, (e) => `let x${e} = ${own(e)};`)}
    var highest = x0;
    ${repeat(partVectors - 1, (e) => `highest = max(highest, x${e + 1});`)}
    partial[row][part] = max(max(highest.x, highest.y), max(highest.z, highest.w));
    workgroupBarrier();
    var new_top = top;
    ${repeat(parts, (p) => `new_top = max(new_top, partial[row][${p}]);`)}
    let correction = exp2(top - new_top);
    top = new_top;
    if (part == 0u) { corrections[row] = correction; }
    var added = vec4<f32>();
    ${
        repeat(partVectors, (e) =>
          `let y${e} = select(exp2(x${e} - top), vec4<f32>(), x${e} == vec4<f32>(MASKED));
    added += y${e};
    ${own(e)} = y${e};`)
      }
    total = total * correction + (added.x + added.y + added.z + added.w);

    ${loop(tiles, "slice", slices)} {
      if (slice > 0u) { workgroupBarrier(); }
      ${loadSlice(tiles, "others", { binding: "v", ...key })}
      workgroupBarrier();
      if (slice == 0u) {
        ${
        repeat(sumRows(tiles), (i) =>
          `let correction${i} = corrections[sum_row${i}];
        ${repeat(chunks, (c) => `sum${i}_${c} *= correction${i};`)}`)
      }
      }
      ${addWeighted(tiles, "sum", "weights", "others")}
    }
  }

  partial[row][part] = total;
  workgroupBarrier();
  ${
        storeSums(tiles, "sum", out, (i) => {
          const at = `first + sum_row${i}`;
          const sum = Array.from({ length: parts }, (_, p) => `partial[sum_row${i}][${p}]`);
          return `select(1.0 / (${sum.join(" + ")}), 0.0, starts[${at}] >= ends[${at}])`;
        })
      }
  ${
        withLse
          ? `if (part == 0u && first + row < u.rows) {
    var all = 0.0;
    ${repeat(parts, (p) => `all += partial[row][${p}];`)}
    lse[(first + row) * u.heads + head] =
      select((top + log2(all)) * ${Math.LN2}, MASKED, starts[first + row] >= ends[first + row]);
  }`
          : ""
      }
}`,
    };
  },
);

/**
 * Writes out (and lse where given) for `rows` queries.
 *
 * @param pairs Query–key pairs attended, for the profile's cost; one causal document by default.
 * @param unroll Write inner loops out, which a GPU runs faster and a software driver compiles slowly.
 * @param direct Take the program for software drivers.
 */
export function attention(
  gpu: Gpu,
  { q, k, v, starts, ends, out, lse, rows, heads, kvHeads, headDim, ...options }: {
    q: Tensor;
    k: Tensor;
    v: Tensor;
    starts: Tensor;
    ends: Tensor;
    out: Tensor;
    lse?: Tensor;
    rows: number;
    heads: number;
    kvHeads: number;
    headDim: number;
    pairs?: number;
    unroll?: boolean;
    direct?: boolean;
  },
): void {
  const { pairs = rows * (rows + 1) / 2, unroll = !gpu.software } = options;
  const direct = options.direct ?? prefersDirect(gpu.software, headDim);
  const tensors = [q, k, v, starts, ends, out];
  if (lse !== undefined) tensors.push(lse);
  const uniforms = uniformValues(rows, heads, kvHeads, headDim);
  const cost = {
    flops: 4 * heads * headDim * pairs,
    bytes: 2 * headBytes(q.dtype, rows, heads + kvHeads, headDim) + 4 * rows * heads,
  };
  if (direct) {
    const program = directForward(q.dtype, k.dtype, headDim, lse !== undefined);
    gpu.run(program, tensors, uniforms, [Math.ceil(rows / DIRECT_THREADS), heads], cost);
    return;
  }
  const program = forward(q.dtype, k.dtype, headDim, lse !== undefined, unroll);
  const tiles = Math.ceil(rows / attentionTiles(headDim).rows);
  gpu.run(program, tensors, uniforms, [heads, tiles], cost);
}
