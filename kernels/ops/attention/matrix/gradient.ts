/**
 * The program of attention's gradients on subgroup matrices (see backward.ts for the contract, gradient.ts
 * for the scheme, which is the same here).
 *
 * @module
 */
import type { ProgramSource } from "../../../gpu/program.ts";
import { repeat } from "../../../wgsl/repeat.ts";
import { declareSoftcap, softcapUniform } from "../../../wgsl/softcap.ts";
import { headUniforms } from "../heads.ts";
import { nextTile, readExcluded } from "../excluded_keys.ts";
import {
  gradientBindings,
  gradientFields,
  type GradientVariant,
  rowWords,
  sumRotation,
} from "../row_index.ts";
import { scoreAndSlope } from "../score.ts";
import {
  addProducts,
  attends,
  declareMatrixSums,
  declareTiles,
  type FetchWord,
  fetchWord,
  loadOwn,
  makeScores,
  matrixPlaces,
  readScores,
  readsWords,
  storeMatrixSums,
  storeWeights,
  tileWords,
} from "./tiles.ts";
import { type MatrixKey, matrixPlan } from "./plan.ts";
import { ofQueries, partitionGradient } from "../work_partition.ts";

/** The gradient's first bindings. */
const HEAD_ROWS = ["qkv", "out", "dout"];

/** ds is stored less by this: the loss scale brings gradients near the largest f16. */
const WEIGHT_SCALE = 1 / 32;

/** The source of a key. */
export function matrixGradientSource(
  { rotated, excludes, packed, softcap, ...key }: Omit<GradientVariant, "dtype"> & MatrixKey,
): ProgramSource {
  const plan = matrixPlan(key), variant = { dtype: "f16", rotated, excludes, packed } as const;
  const word = rowWords(packed ? gradientFields(variant) : undefined);
  const { rows, columns, threads, words, stride, weightPlaces } = plan, vectors = 2 * words;
  const { overScores, afterScores } = weightPlaces;
  /** Threads that share a row of delta. */
  const parts = threads / columns;
  const fetch =
    (name: string, from: string, end: string, start: string): FetchWord => (row, word) =>
      `${name}${from} + ${row}, ${end}, ${start}, ${word})`;
  const own = tileWords(plan, "own_word", [
    fetch("fetch_qkv(", "first", "u.rows", "own_start"),
    fetch("fetch_values(key_side, ", "first", "u.rows", "own_value_start"),
  ]);
  const others = (tile: string) =>
    tileWords(plan, "word", [
      fetch("fetch_qkv(", tile, "other_end", "start"),
      fetch("fetch_values(!key_side, ", tile, "other_end", "value_start"),
    ]);
  /** delta and lse of queries from `from` on, in the words that rows of the first tile have over. */
  const statistics = (from: string) =>
    `{
    let local = thread / ${parts}u;
    let row = ${from} + local;
    var sum = 0.0;
    var exponent = 0.0;
    if (row < u.rows) {
      let at_out = row * u.out_stride + u.out_from + head * ${words}u;
      let at_dout = row * u.dout_stride + u.dout_from + head * ${words}u;
      for (var i = thread % ${parts}u; i < ${words}u; i += ${parts}u) {
        sum += word_dot(out[at_out + i], dout[at_dout + i]);
      }
      exponent = lse[row * u.heads + head] * ${Math.LOG2E};
    }
    ${repeat(Math.log2(parts), (n) => `sum += subgroupShuffleXor(sum, ${1 << n}u);`)}
    if (thread % ${parts}u == 0u) {
      tiles[local * ${stride}u + ${words}u] =
        vec4<u32>(bitcast<u32>(sum), bitcast<u32>(exponent), 0u, 0u);
    }
  }`;
  const statistic = (name: "delta" | "exponent", row: string) =>
    `bitcast<f32>(tiles[(${row}) * ${stride}u + ${words}u].${name === "delta" ? "x" : "y"})`;
  const ofColumns = (name: "delta" | "exponent", half: number) => {
    const at = (e: number) => statistic(name, `tile_word * 8u + ${4 * half + e}u`);
    return `vec4<f32>(${[0, 1, 2, 3].map(at).join(", ")})`;
  };
  const score = (half: "lo" | "hi") => scoreAndSlope(`s_${half}`, softcap, `capped_${half}`);
  const weight = (half: "lo" | "hi") =>
    `${score(half).declare}let p_${half} = select(vec4<f32>(), exp2(${
      score(half).forExp2
    } - exponent_${half}),
        attends_${half});`;
  const gradient = (half: "lo" | "hi") =>
    `let ds_${half} = select(vec4<f32>(), p_${half} * (dp_${half} - delta_${half})${
      score(half).slope
    } * ${WEIGHT_SCALE},
        attends_${half});`;
  return {
    bindings: [...readsWords(...HEAD_ROWS), ...gradientBindings(variant).slice(HEAD_ROWS.length)],
    uniforms: {
      rows: "u32",
      heads: "u32",
      kv_heads: "u32",
      scale: "f32",
      ...softcapUniform(softcap),
      ...headUniforms("q", "out", "dout", "dq"),
      k_from: "u32",
      v_from: "u32",
      dk_from: "u32",
      dv_from: "u32",
    },
    extensions: plan.matrix.extensions,
    body: `${plan.matrix.declare}${fetchWord("qkv", "q")}
${fetchWord("dout")}${declareSoftcap(softcap, "vec4<f32>")}
fn fetch_values(are_values: bool, row: u32, end: u32, first: u32, word: u32) -> vec4<u32> {
  if (are_values) { return fetch_qkv(row, end, first, word); }
  return fetch_dout(row, end, first, word);
}
fn word_dot(a: vec4<u32>, b: vec4<u32>) -> f32 {
  return dot(unpack2x16float(a.x), unpack2x16float(b.x)) + dot(unpack2x16float(a.y), unpack2x16float(b.y)) +
    dot(unpack2x16float(a.z), unpack2x16float(b.z)) + dot(unpack2x16float(a.w), unpack2x16float(b.w));
}
${declareTiles(plan)}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  ${partitionGradient({ rows, unit: words, excludes, word })}
  ${matrixPlaces(plan)}
  var low = 0u;
  var high = 0u;
  ${excludes ? "var excluded_low = 0u;\n  var excluded_high = 0u;" : ""}
  if (first + tile_row < u.rows) {
    low = select(${word("starts", "first + tile_row")}, first + tile_row, key_side);
    high = select(
      ${word("ends", "first + tile_row")}, ${word("query_ends", "first + tile_row")}, key_side);
    ${readExcluded("(first + tile_row)", { excludes, word, value: ofQueries })}
  }
  // The subgroup's own rows stay in registers.
  {
    ${own.declare}
    ${own.load}
    ${own.store}
  }
  // A score's lse and delta are its query's: its row's in a query's gradient, its column's in a key's.
  if (!key_side) ${statistics("first")}
  workgroupBarrier();
  ${loadOwn(plan, "own", 0)}
  ${loadOwn(plan, "own_value", 1)}
  var exponent_lo = vec4<f32>(${statistic("exponent", "tile_row")});
  var exponent_hi = exponent_lo;
  var delta_lo = vec4<f32>(${statistic("delta", "tile_row")});
  var delta_hi = delta_lo;
  ${declareMatrixSums(plan, "sum")}
  ${declareMatrixSums(plan, "value_sum")}

    ${others("tile").declare}
  for (; head < head_end; head++) {
    let start = select(u.k_from + kv_head * ${words}u, u.q_from + head * ${words}u, key_side);
    let value_start =
      select(u.v_from + kv_head * ${words}u, u.dout_from + head * ${words}u, key_side);
        ${others("other_first").load}
    for (var tile = other_first; tile < other_end; tile = ${nextTile(columns, excludes)}) {
      workgroupBarrier();
      ${others("tile").store}
      workgroupBarrier();
      // The next tile is under way while this one is multiplied.
      let next = ${nextTile(columns, excludes)};
      ${others("next").load}
      if (key_side) ${statistics("tile")}
      ${makeScores(plan, "own", 0)}
      workgroupBarrier();
      if (key_side) {
        exponent_lo = ${ofColumns("exponent", 0)};
        exponent_hi = ${ofColumns("exponent", 1)};
        delta_lo = ${ofColumns("delta", 0)};
        delta_hi = ${ofColumns("delta", 1)};
      }
      ${readScores(plan, "s")}
      ${attends(excludes)}
      ${weight("lo")}
      ${weight("hi")}
      if (key_side) { ${storeWeights(plan, "p", afterScores)} }
      workgroupBarrier();
      ${makeScores(plan, "own_value", 1)}
      workgroupBarrier();
      ${readScores(plan, "dp")}
      ${gradient("lo")}
      ${gradient("hi")}
      workgroupBarrier();
      ${storeWeights(plan, "ds", overScores)}
      workgroupBarrier();
      ${addProducts(plan, "sum", { weights: overScores, tile: 0 })}
      if (key_side) {
        ${addProducts(plan, "value_sum", { weights: afterScores, tile: 1 })}
      }
    }
  }
  let to_first = select(u.dq_from + group.x * ${vectors}u, u.dk_from + kv_head * ${vectors}u, key_side);
  ${
      storeMatrixSums(plan, "sum", {
        binding: "gradient",
        start: (row) => `${row} * u.dq_stride + to_first`,
        rotation: sumRotation(variant, word, vectors),
      }, `u.scale * ${1 / WEIGHT_SCALE}.0`)
    }
  if (key_side) {
    ${
      storeMatrixSums(plan, "value_sum", {
        binding: "gradient",
        start: (row) => `${row} * u.dq_stride + u.dv_from + kv_head * ${vectors}u`,
      }, "1.0")
    }
  }
}`,
  };
}
