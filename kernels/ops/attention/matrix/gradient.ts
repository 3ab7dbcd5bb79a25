/**
 * The program of attention's gradients on subgroup matrices (see backward.ts for the contract).
 *
 * Half of a workgroup's subgroups, `side` 0, make a tile of scores, the others one of the gradients of weights, each with
 * own rows of their own in registers. All threads turn the two into weights and the gradients of scores. Of keys, side 0
 * then adds up the gradient of values and side 1 that of keys; of queries, each adds up half of the columns.
 *
 * @module
 */
import type { ProgramSource } from "../../../gpu/program.ts";
import { repeat } from "../../../wgsl/repeat.ts";
import { rotateBack } from "../../../wgsl/rotate.ts";
import { declareSoftcap, softcapUniform } from "../../../wgsl/softcap.ts";
import { headUniforms } from "../heads.ts";
import { nextTile, readExcluded } from "../excluded_keys.ts";
import {
  gradientBindings,
  gradientFields,
  type GradientVariant,
  rowWords,
  type SumRotation,
  sumRotation,
} from "../row_index.ts";
import { scoreAndSlope } from "../score.ts";
import { statisticsBinding } from "./delta.ts";
import {
  addProducts,
  declareMatrixSums,
  declareScores,
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
} from "./tiles.ts";
import { gradientPlan, type MatrixKey, type MatrixPlan, scoresFrom, vectorsOf } from "./plan.ts";
import { ofQueries, partitionGradient } from "../work_partition.ts";

/** Bindings of {@linkcode gradientBindings} that others are in place of: qkv, out, dout and lse. */
const REPLACED = 4;

/** ds is stored less by this: the loss scale brings gradients near the largest f16. */
const WEIGHT_SCALE = 1 / 32;

/** The source of a key. */
export function matrixGradientSource(
  { rotated, excludes, packed, softcap, ...key }: Omit<GradientVariant, "dtype"> & MatrixKey,
): ProgramSource {
  const plan = gradientPlan(key), variant = { dtype: "f16", rotated, excludes, packed } as const;
  const word = rowWords(packed ? gradientFields(variant) : undefined);
  const { shape: { n }, matrix, rows, columns, threads, words, stride, scoreStride } = plan;
  const { headDim, subgroupColumns, scoreWords, memory, tileWords: tile } = plan;
  const vectors = 2 * words, sumColumns = headDim / n / subgroupColumns, half = sumColumns / 2;
  const scores = scoresFrom(plan, 0);
  const pair = (name: string, rows: number) =>
    [0, 1].map((side) =>
      tileWords(plan, { name: `${name}${side}_`, rows, place: side * rows * stride })
    );
  const own = pair("own_word", rows), other = pair("word", columns);
  /** Loads rows of qkv, and beside them rows of values or of dout. */
  const load = (tiles: typeof own, { at, last, start, valueStart, areValues }: {
    at: string;
    last: string;
    start: string;
    valueStart: string;
    areValues: string;
  }) => {
    const from = (binding: string, stride: string, start: string) => (row: string) =>
      `${binding}[min(${row}, ${last}) * u.${stride}_stride + ${start} + word_column]`;
    return `${tiles[0].load(at, from("qkv", "q", start))}
    if (${areValues}) {
      ${tiles[1].load(at, from("qkv", "q", valueStart))}
    } else {
      ${tiles[1].load(at, from("dout", "dout", valueStart))}
    }`;
  };
  const loadOther = (at: string) =>
    `${
      load(other, {
        at,
        last: "other_last",
        start: "start",
        valueStart: "value_start",
        areValues: "!key_side",
      })
    }
    if (key_side && thread < ${columns / 4}u) {
      ${
      repeat(
        4,
        (e) =>
          `let query${e} = statistics[head * u.rows + min(${at} + 4u * thread + ${e}u, other_last)];`,
      )
    }
      query_deltas = vec4<u32>(query0.x, query1.x, query2.x, query3.x);
      query_exponents = vec4<u32>(query0.y, query1.y, query2.y, query3.y);
    }`;
  const each = (line: (v: number) => string) => repeat(vectorsOf(plan), line);
  const score = (v: number) => scoreAndSlope(`s${v}`, softcap, `capped${v}`);
  const scaled = `(u.scale * ${1 / WEIGHT_SCALE}.0)`;
  const rotation = sumRotation(variant, word, vectors);
  const dq = { to: `u.dq_from + group.x * ${vectors}u`, factor: scaled, rotation };
  const dk = { to: `u.dk_from + kv_head * ${vectors}u`, factor: scaled, rotation };
  const dv = { to: `u.dv_from + kv_head * ${vectors}u`, factor: "1.0" };
  return {
    bindings: [
      ...readsWords("qkv", "dout"),
      statisticsBinding("read"),
      ...gradientBindings(variant).slice(REPLACED),
    ],
    uniforms: {
      rows: "u32",
      heads: "u32",
      kv_heads: "u32",
      scale: "f32",
      ...softcapUniform(softcap),
      ...headUniforms("q", "dout", "dq"),
      k_from: "u32",
      v_from: "u32",
      dk_from: "u32",
      dv_from: "u32",
    },
    extensions: matrix.extensions,
    body: `${matrix.declare}${declareSoftcap(softcap, "vec4<f32>")}
var<workgroup> tiles: array<vec4<u32>, ${memory}>;
// Of a tile's queries, where the workgroup owns keys.
var<workgroup> deltas: array<vec4<f32>, ${columns / 4}>;
var<workgroup> exponents: array<vec4<f32>, ${columns / 4}>;

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  ${partitionGradient({ rows, unit: words, excludes, word })}
  // Rows from other_end on are never read: the last one is in their place, with no weight.
  let other_last = max(other_end, 1u) - 1u;
  let side = subgroup / ${threads / 2 / plan.shape.lanes}u;
  ${matrixPlaces(plan)}
  let score_at = ${scores}u + tile_row * ${scoreStride}u + column_part / 4u;
  var low = 0u;
  var high = 0u;
  ${excludes ? "var excluded_low = 0u;\n  var excluded_high = 0u;" : ""}
  // A score's lse and delta are its query's: its row's in a query's gradient, its column's in a key's.
  var row_delta = 0.0;
  var row_exponent = 0.0;
  // The subgroup's own rows stay in registers.
  {
    ${own.map(({ declare }) => declare).join("\n")}
    ${
      load(own, {
        at: "first",
        last: "u.rows - 1u",
        start: "own_start",
        valueStart: "own_value_start",
        areValues: "key_side",
      })
    }
    ${own.map(({ store }) => store).join("\n")}
  }
  if (first + tile_row < u.rows) {
    let row = first + tile_row;
    low = select(${word("starts", "row")}, row, key_side);
    high = select(${word("ends", "row")}, ${word("query_ends", "row")}, key_side);
    ${readExcluded("row", { excludes, word, value: ofQueries })}
    let query = bitcast<vec2<f32>>(statistics[head * u.rows + row]);
    row_delta = query.x;
    row_exponent = query.y;
  }
  workgroupBarrier();
  ${loadOwn(plan, `side * ${rows * stride}u`)}
  ${declareMatrixSums(plan, sumColumns)}

  ${other.map(({ declare }) => declare).join("\n")}
  var query_deltas = vec4<u32>();
  var query_exponents = vec4<u32>();
  for (; head < head_end; head++) {
    let start = select(u.k_from + kv_head * ${words}u, u.q_from + head * ${words}u, key_side);
    let value_start =
      select(u.v_from + kv_head * ${words}u, u.dout_from + head * ${words}u, key_side);
    ${loadOther("other_first")}
    for (var tile = other_first; tile < other_end; tile = ${nextTile(columns, excludes)}) {
      workgroupBarrier();
      ${other.map(({ store }) => store).join("\n")}
      if (key_side && thread < ${columns / 4}u) {
        deltas[thread] = bitcast<vec4<f32>>(query_deltas);
        exponents[thread] = bitcast<vec4<f32>>(query_exponents);
      }
      workgroupBarrier();
      // The next tile is under way while this one is multiplied.
      let next = ${nextTile(columns, excludes)};
      ${loadOther("next")}
      {
        ${declareScores(plan)}
        ${makeScores(plan, `side * ${tile}u`)}
        ${storeScores(plan, `${scores}u + side * ${scoreWords}u`)}
      }
      workgroupBarrier();
      ${
      each((v) =>
        `let s${v} = ${scoreWord("score_at", v)};
      let dp${v} = ${scoreWord("score_at", scoreWords + v)};
      var delta${v} = vec4<f32>(row_delta);
      var exponent${v} = vec4<f32>(row_exponent);
      if (key_side) {
        delta${v} = deltas[column_part / 4u + ${v}u];
        exponent${v} = exponents[column_part / 4u + ${v}u];
      }
      ${score(v).declare}var p${v} = exp2(${score(v).forExp2} - exponent${v});
      var ds${v} = p${v} * (dp${v} - delta${v})${score(v).slope} * ${WEIGHT_SCALE};`
      )
    }
      ${
      maskWeights(
        plan,
        excludes,
        (v, attends) =>
          `p${v} = select(vec4<f32>(), p${v}, ${attends});
ds${v} = select(vec4<f32>(), ds${v}, ${attends});`,
      )
    }
      if (key_side) {
        ${storeWeights(plan, "p", "score_at")}
      }
      ${storeWeights(plan, "ds", `score_at + ${scoreWords}u`)}
      workgroupBarrier();
      if (key_side) {
        let weights = ${scores}u + side * ${scoreWords}u;
        let rows = (1u - side) * ${tile}u + subgroup_column * ${sumColumns * n / 8}u;
        ${addProducts(plan, { count: sumColumns, weights: "weights", rows: "rows" })}
      } else {
        let rows = (2u * subgroup_column + side) * ${half * n / 8}u;
        ${addProducts(plan, { count: half, weights: `${scores + scoreWords}u`, rows: "rows" })}
      }
    }
  }
  if (key_side) {
    ${storeSums(plan, { across: sumColumns, share: "subgroup_column" }, [dv, dk])}
  } else {
    ${storeSums(plan, { across: half, share: "(2u * subgroup_column + side)" }, [dq])}
  }
}`,
  };
}

/** A gradient's rows in the result. */
interface SumTarget {
  /** WGSL for a row's first vector from the row on, and for what the sum is multiplied with. */
  to: string;
  factor: string;
  rotation?: SumRotation;
}

/** Stores a weighted sum, or that of each side, by way of workgroup memory; rows from `u.rows` on are left out. */
function storeSums(
  plan: MatrixPlan,
  { across, share }: { across: number; share: string },
  targets: readonly SumTarget[],
): string {
  const { shape: { m }, subgroupRows, threads, words, pieces, sumStride } = plan;
  const width = words / pieces, sideWords = subgroupRows * m * sumStride;
  const row = `subgroup_row * ${m * sumStride}u`;
  const at = targets.length === 1 ? row : `side * ${sideWords}u + ${row}`;
  return eachPiece(plan, across, (part) => {
    const stored = ({ to, factor, rotation }: SumTarget, side: number) =>
      `for (var v = thread; v < ${subgroupRows * m * width}u; v += ${threads}u) {
  let y = v / ${width}u;
  let x = v % ${width}u;
  let row = first + ${stagedRow(plan, part, "y")};
  if (row < u.rows) {
    let at = ${side * sideWords}u + y * ${sumStride}u + x;
    let lo = bitcast<vec4<f32>>(tiles[at]) * ${factor};
    let hi = bitcast<vec4<f32>>(tiles[at + ${width}u]) * ${factor};
    let pair = ${stagedVector(plan, part, "x")};
    let to = row * u.dq_stride + ${to} + pair;
    ${storedPair(words, rotation)}
  }
}`;
    return `workgroupBarrier();
${stageSums(plan, part, { at, share })}
workgroupBarrier();
${targets.map(stored).join("\n")}`;
  });
}

/** Stores vectors `lo` and `hi`, half a head apart, rotated back where they are. */
function storedPair(words: number, rotation?: SumRotation): string {
  if (rotation === undefined) {
    return `store_gradient(to, lo);
    store_gradient(to + ${words}u, hi);`;
  }
  const { angles, pairs } = rotation;
  const pair = rotateBack({ first: "lo", second: "hi", cos: "cos", sin: "sin" }, pairs);
  return `let angle = ${angles("row")} + pair;
    let cos = load_table(angle);
    let sin = load_table(angle + ${words}u);
    store_gradient(to, ${pair.first});
    store_gradient(to + ${words}u, ${pair.second});`;
}
