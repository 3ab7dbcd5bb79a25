/**
 * The program of attention on subgroup matrices (see attention.ts for the contract).
 *
 * A subgroup can't scale the rows of its sums. So weights are relative to a reference, the highest score of a row's first
 * tile, and sums go through workgroup memory to be scaled only where a score exceeds it by so much that weights near the
 * largest f16: hardly ever.
 *
 * In a step of the walk the scores of the next tile are multiplied beside the values of the present one, and the two tiles
 * after are on their way from memory.
 * Source: Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning", 2023; references
 * that are kept: Dao et al., "FlashAttention-4", 2025.
 *
 * @module
 */
import {
  type Binding,
  type ProgramSource,
  reads,
  readsScalars,
  writes,
  writesScalars,
} from "../../../gpu/program.ts";
import type { Dtype } from "../../../gpu/tensor.ts";
import { repeat } from "../../../wgsl/repeat.ts";
import { DECLARE_MASKED, weightOf } from "../../../wgsl/online_softmax.ts";
import { declareSoftcap, softcapUniform } from "../../../wgsl/softcap.ts";
import { headStart, headUniforms } from "../heads.ts";
import { excludedBindings, nextTile, readExcluded } from "../excluded_keys.ts";
import { rowWords } from "../row_index.ts";
import { scoreForExp2 } from "../score.ts";
import {
  addProducts,
  declareMatrixSums,
  declareScores,
  eachMatrix,
  eachPiece,
  loadOwn,
  makeScores,
  maskWeights,
  matrixPlaces,
  readsWords,
  scoreWord,
  stagedRow,
  stagedVector,
  stageSums,
  storeScores,
  storeWeights,
  tileWords,
  weightsOf,
  type WordOfRow,
} from "./tiles.ts";
import { forwardPlan, type MatrixKey, type MatrixPlan, scoresFrom, vectorsOf } from "./plan.ts";

/** Powers of two by which a score may exceed its row's reference: a weight of f16 holds 15. */
const MOST_ABOVE = 8;

/** How the forward programs differ besides their plans. */
export interface MatrixForwardVariant {
  /** Dtypes of q and of out; k and v are f16. */
  dtype: Dtype;
  out: Dtype;
  withLse: boolean;
  excludes: boolean;
  softcap: boolean;
}

/** The source of a key. */
export function matrixForwardSource(
  { dtype, out, withLse, excludes, softcap, ...key }: MatrixForwardVariant & MatrixKey,
): ProgramSource {
  const plan = forwardPlan(key), word = rowWords();
  const { shape: { n }, matrix, rows, columns, threads, words, rowThreads, scoreStride } = plan;
  const { headDim, subgroupColumns, tileWords: tile, memory } = plan;
  const vectors = vectorsOf(plan), sumColumns = headDim / n / subgroupColumns;
  const scores = scoresFrom(plan, 0);
  const queries = tileWords(plan, { name: "query", rows, place: 0 });
  const keys = tileWords(plan, { name: "key", rows: columns, place: 0 });
  const values = tileWords(plan, { name: "value", rows: columns, place: tile });
  const query: WordOfRow = (row) => {
    const at = `min(${row}, u.rows - 1u) * u.q_stride + u.q_from + head * ${words}u + word_column`;
    return dtype === "f16"
      ? `q[${at}]`
      : weightsOf(`load_q(2u * (${at}))`, `load_q(2u * (${at}) + 1u)`);
  };
  const other = (binding: "k" | "v"): WordOfRow => (row) =>
    `${binding}[min(${row}, key_last) * u.${binding}_stride + ${binding}_first + word_column]`;
  const vector = (line: (v: number) => string) => repeat(vectors, line);
  const all = (combine: (a: string, b: string) => string, name: string) =>
    Array.from({ length: vectors }, (_, v) => `${name}${v}`).reduce(combine);
  const acrossRow = (line: (lane: number) => string) =>
    repeat(Math.log2(rowThreads), (x) => line(1 << x));
  const q: Binding[] = dtype === "f16" ? readsWords("q") : reads(dtype, "q");
  return {
    bindings: [
      ...q,
      ...readsWords("k", "v"),
      ...readsScalars("u32", "starts", "ends"),
      ...excludedBindings(excludes),
      ...writes(out, "out"),
      ...withLse ? writesScalars("f32", "lse") : [],
    ],
    uniforms: {
      rows: "u32",
      heads: "u32",
      kv_heads: "u32",
      scale: "f32",
      ...softcapUniform(softcap),
      ...headUniforms("q", "k", "v", "out"),
    },
    extensions: matrix.extensions,
    body: `${matrix.declare}
${DECLARE_MASKED}${declareSoftcap(softcap, "vec4<f32>")}
var<workgroup> tiles: array<vec4<u32>, ${memory}>;
// What rows of sums are multiplied with.
var<workgroup> factors: array<f32, ${rows}>;
// One past the last tile that raised the reference of a row which had one.
var<workgroup> raised: atomic<u32>;
${declareScaling(plan)}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let head = group.x;
  let kv_head = head / (u.heads / u.kv_heads);
  // Later queries have more keys: they go first, so that the longest work does not end last.
  let first = ((u.rows - 1u) / ${rows}u - group.y) * ${rows}u;
  let key_first = starts[first];
  let key_end = ends[min(first + ${rows}u, u.rows) - 1u];
  // Rows from key_end on are never read: the last one is in their place, with no weight.
  let key_last = max(key_end, 1u) - 1u;
  let k_first = u.k_from + kv_head * ${words}u;
  let v_first = u.v_from + kv_head * ${words}u;
  ${matrixPlaces(plan)}
  let score_at = ${scores}u + tile_row * ${scoreStride}u + tile_part * ${vectors}u;
  ${keys.declare}
  ${values.declare}
  {
    ${queries.declare}
    ${queries.load("first", query)}
    ${keys.load("key_first", other("k"))}
    ${queries.store}
  }
  var low = 0u;
  var high = 0u;
  ${
      excludes
        ? `let skip_low = ${word("excluded_keys", "first", 0)};
  let skip_high = ${word("excluded_keys", "first", 1)};
  var excluded_low = 0u;
  var excluded_high = 0u;`
        : ""
    }
  if (first + tile_row < u.rows) {
    low = starts[first + tile_row];
    high = ends[first + tile_row];
    ${readExcluded("(first + tile_row)", { excludes, word })}
  }
  workgroupBarrier();
  ${loadOwn(plan, "0u")}
  workgroupBarrier();
  ${keys.store}
  var tile = key_first;
  var next = ${nextTile(columns, excludes)};
  ${keys.load("next", other("k"))}
  ${values.load("tile", other("v"))}
  workgroupBarrier();
  {
    ${declareScores(plan)}
    ${makeScores(plan, "0u")}
    ${storeScores(plan, `${scores}u`)}
  }
  workgroupBarrier();

  ${declareMatrixSums(plan, sumColumns)}
  var reference = MASKED;
  var denominator = 0.0;
  while (tile < key_end) {
    next = ${nextTile(columns, excludes)};
    ${keys.store}
    ${values.store}
    ${keys.load(nextTile(columns, excludes, "next"), other("k"))}
    ${values.load("next", other("v"))}
    ${vector((v) => `var score${v} = ${scoreForExp2(scoreWord("score_at", v), softcap)};`)}
    ${
      maskWeights(
        plan,
        excludes,
        (v, attends) => `score${v} = select(vec4<f32>(MASKED), score${v}, ${attends});`,
      )
    }
    let highest_four = ${all((a, b) => `max(${a}, ${b})`, "score")};
    var highest = max(max(highest_four.x, highest_four.y), max(highest_four.z, highest_four.w));
    ${acrossRow((lane) => `highest = max(highest, subgroupShuffleXor(highest, ${lane}u));`)}
    var correction = 1.0;
    if (highest > reference + ${MOST_ABOVE}.0) {
      correction = ${weightOf("reference", "highest")};
      if (reference != MASKED) { atomicMax(&raised, tile + 1u); }
      reference = highest;
      denominator *= correction;
    }
    // Of a row without keys so far all weights are 0.
    let base = select(reference, 0.0, reference == MASKED);
    ${vector((v) => `let weight${v} = ${weightOf(`score${v}`, "base")};`)}
    denominator += dot(${all((a, b) => `${a} + ${b}`, "weight")}, vec4<f32>(1.0));
    ${storeWeights(plan, "weight", "score_at")}
    if (workgroupUniformLoad(&raised) == tile + 1u) {
      if (tile_part == 0u) { factors[tile_row] = correction; }
      ${scaleSums(plan, sumColumns)}
      // The sums went through the tiles of keys and values.
      {
        ${keys.declare}
        ${values.declare}
        ${keys.load("next", other("k"))}
        ${values.load("tile", other("v"))}
        ${keys.store}
        ${values.store}
      }
      workgroupBarrier();
    }
    ${declareScores(plan)}
    if (next < key_end) {
      ${makeScores(plan, "0u")}
    }
    ${
      addProducts(plan, {
        count: sumColumns,
        weights: `${scores}u`,
        rows: `${tile}u + subgroup_column * ${sumColumns * n / 8}u`,
      })
    }
    workgroupBarrier();
    ${storeScores(plan, `${scores}u`)}
    workgroupBarrier();
    tile = next;
  }

  ${acrossRow((lane) => `denominator += subgroupShuffleXor(denominator, ${lane}u);`)}
  if (tile_part == 0u) {
    factors[tile_row] = select(1.0 / denominator, 0.0, low >= high);
    ${
      withLse
        ? `if (first + tile_row < u.rows) {
      lse[(first + tile_row) * u.heads + head] =
        select((reference + log2(denominator)) * ${Math.LN2}, MASKED, low >= high);
    }`
        : ""
    }
  }
  ${storeOut(plan, sumColumns)}
}`,
  };
}

/** Declares `scale_matrices(thread, i)`: multiplies a matrix of each subgroup, of its rows i, with its rows' factors. */
function declareScaling(plan: MatrixPlan): string {
  const { shape: { m, n }, down, subgroupRows, subgroupColumns, threads } = plan;
  const words = m * n / 4;
  return `fn scale_matrices(thread: u32, i: u32) {
  for (var w = thread; w < ${subgroupRows * subgroupColumns * words}u; w += ${threads}u) {
    let row = w / ${subgroupColumns * words}u * ${down * m}u + i * ${m}u + w % ${words}u / ${
    n / 4
  }u;
    tiles[w] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(tiles[w]) * factors[row]);
  }
}`;
}

/** Multiplies the rows of the sums with their factors, by way of the tiles of keys and values. */
function scaleSums(plan: MatrixPlan, sumColumns: number): string {
  const { shape: { m, n }, matrix, down } = plan;
  const place = { array: "tiles", at: `(subgroup * ${m * n / 4}u)`, stride: n / 4 };
  return eachMatrix(down, sumColumns, (i, j) =>
    `workgroupBarrier();
${matrix.store(place, `sum${i}_${j}`)}
workgroupBarrier();
scale_matrices(thread, ${i}u);
workgroupBarrier();
sum${i}_${j} = ${matrix.loadSum(place)};`) + "\nworkgroupBarrier();";
}

/** Stores the sums times their rows' factors, by way of workgroup memory: only there can a thread find its vectors. */
function storeOut(plan: MatrixPlan, sumColumns: number): string {
  const { shape: { m }, subgroupRows, threads, words, pieces, sumStride } = plan;
  const width = 2 * words / pieces, at = `subgroup_row * ${m * sumStride}u`;
  return eachPiece(plan, sumColumns, (part) =>
    `workgroupBarrier();
${stageSums(plan, part, { at, share: "subgroup_column" })}
workgroupBarrier();
for (var v = thread; v < ${subgroupRows * m * width}u; v += ${threads}u) {
  let y = v / ${width}u;
  let x = v % ${width}u;
  let local = ${stagedRow(plan, part, "y")};
  let row = first + local;
  if (row < u.rows) {
    let vector = ${stagedVector(plan, part, "x")};
    let sum = bitcast<vec4<f32>>(tiles[y * ${sumStride}u + x]);
    store_out(${headStart("out", "row", "head", 2 * words)} + vector, sum * factors[local]);
  }
}`);
}
