/**
 * The tiled program of attention's gradients (see backward.ts for the contract).
 *
 * Both gradients are one program. With own rows a, b and the other side's rows c, d a workgroup forms
 *   s = a·cᵀ, dp = b·dᵀ, ds = p(dp − delta), Σ ds·c, Σ p·d:
 * for queries a, b = q, dout and c, d = k, v, and the first sum is dq; for keys the sides are exchanged,
 * and the sums are dk and dv.
 *
 * @module
 */
import type { ProgramSource } from "../../../gpu/program.ts";
import { repeat } from "../../../wgsl/repeat.ts";
import { declareSoftcap } from "../../../wgsl/softcap.ts";
import {
  gradientBindings,
  gradientFields,
  type GradientVariant,
  rowWords,
  sumRotation,
} from "../row_index.ts";
import { headUniforms } from "../heads.ts";
import { scoreAndSlope } from "../score.ts";
import { nextTile, outsideExcluded, readExcluded } from "../excluded_keys.ts";
import { addScores, declareWeights, eachScore, putWeights, scorePlace } from "./scores.ts";
import { ofQueries, partitionGradient } from "../work_partition.ts";
import {
  commonFunctions,
  declareTile,
  type Fetch,
  fetchFunction,
  fill,
  loop,
  otherTile,
  ownTile,
  type Tile,
} from "./staging.ts";
import { addWeighted, declareSums, storeSums, sumPlace } from "./weighted_sums.ts";
import { type AttentionPlan, attentionUniforms, keyedPlan, type PlanKey } from "./plan.ts";

/**
 * Sums in f16 take dout by so much less: the loss scale brings gradients near the largest f16, and sums of 32 of
 * them beyond.
 */
const F16_SCALE = 1 / 32;

/** Threads that share a row of delta. */
const deltaLanes = ({ threads, rows, columns }: AttentionPlan): number =>
  threads / Math.max(rows, columns);

/** The source of a key. */
export function gradientSource(
  { dtype, rotated, excludes, packed, softcap, ...key }: GradientVariant & PlanKey,
): ProgramSource {
  const plan = keyedPlan(key), variant = { dtype, rotated, excludes, packed };
  const word = rowWords(packed ? gradientFields(variant) : undefined);
  const { rows, columns, threads, lanes, scoreRows, scoreColumns, vectors, chunk, chunks } = plan;
  const a = ownTile(plan, "own_scores"), b = ownTile(plan, "own_values");
  const c = otherTile(plan, "scores"), d = otherTile(plan, "values");
  const most = Math.max(rows, columns), parts = deltaLanes(plan);
  const scale = plan.f16Sums ? F16_SCALE : 1, factor = `${1 / scale}.0`;
  const piece = (n: string | number) => chunks === 1 ? "" : `${n} * ${chunk}u + `;
  const fetch = (
    name: string,
    from: string,
    end: string,
    start: string,
    n: string | number,
  ): Fetch =>
  (row, pair) => `${name}${from} + ${row}, ${end}, ${start}, ${piece(n)}${pair})`;
  const ownRows = (n: string | number): [Tile, Fetch][] => [
    [a, fetch("fetch_qkv(", "first", "u.rows", "own_start", n)],
    [b, fetch("fetch_values(key_side, ", "first", "u.rows", "own_value_start", n)],
  ];
  const otherRows = (n: string | number): [Tile, Fetch][] => [
    [c, fetch("fetch_qkv(", "tile", "other_end", "start", n)],
    [d, fetch("fetch_values(!key_side, ", "tile", "other_end", "value_start", n)],
  ];
  /** delta, in parts, and lse of queries from `from` on. */
  const statistics = (from: string) =>
    `{
    let local = thread / ${parts}u;
    let part = thread % ${parts}u;
    let row = ${from} + local;
    var sum = 0.0;
    var exponent = 0.0;
    if (row < u.rows) {
      let at_out = row * u.out_stride + u.out_from + head * ${vectors}u;
      let at_dout = row * u.dout_stride + u.dout_from + head * ${vectors}u;
      for (var i = part; i < ${vectors}u; i += ${parts}u) {
        sum += dot(load_out(at_out + i), load_dout(at_dout + i));
      }
      exponent = lse[row * u.heads + head] * ${Math.LOG2E};
    }
    if (local < ${most}u) {
      deltas[local][part] = sum * ${scale === 1 ? "1.0" : scale};
      if (part == 0u) { exponents[local] = exponent; }
    }
  }`;
  const delta = (at: string) =>
    Array.from({ length: parts }, (_, n) => `deltas[${at}][${n}]`).join(" + ");
  return {
    bindings: gradientBindings(variant),
    uniforms: {
      ...attentionUniforms(plan, softcap),
      ...headUniforms("q", "out", "dout", "dq"),
      k_from: "u32",
      v_from: "u32",
      dk_from: "u32",
      dv_from: "u32",
    },
    extensions: plan.f16Sums ? ["f16"] : [],
    body: `${commonFunctions(plan)}${declareSoftcap(softcap, "f32")}
${fetchFunction(plan, "qkv", dtype, { stride: "q" })}
${fetchFunction(plan, "dout", dtype, { scale })}
fn fetch_values(are_values: bool, row: u32, end: u32, start: u32, pair: u32) -> ${
      plan.stage === "f16" ? "vec4<u32>" : "Pair"
    } {
  if (are_values) { return fetch_qkv(row, end, start, pair); }
  return fetch_dout(row, end, start, pair);
}
${[a, b, c, d].map((tile) => declareTile(plan, tile)).join("\n")}
${declareWeights(plan, "p")}
${declareWeights(plan, "ds")}
var<workgroup> deltas: array<array<f32, ${parts}>, ${most}>;
var<workgroup> exponents: array<f32, ${most}>;

@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  ${partitionGradient({ rows, unit: vectors, excludes, word })}
  ${scorePlace(plan)}
  ${
      repeat(scoreRows, (i) =>
        `var low${i} = 0u; var high${i} = 0u;${
          excludes ? ` var excluded_low${i} = 0u; var excluded_high${i} = 0u;` : ""
        }
  {
    let row = first + row_first + ${i}u;
    if (row < u.rows) {
      low${i} = select(${word("starts", "row")}, row, key_side);
      high${i} = select(${word("ends", "row")}, ${word("query_ends", "row")}, key_side);
      ${readExcluded("row", { excludes, word, index: i, value: ofQueries })}
    }
  }`)
    }
  ${sumPlace(plan)}
  ${declareSums(plan, "sum")}
  ${declareSums(plan, "value_sum")}
  ${chunks === 1 ? fill(plan, ownRows(0)) : ""}
  // A score's lse and delta are its query's: its row's in a query's gradient, its column's in a key's.
  ${repeat(scoreRows, (i) => `var row_exponent${i} = 0.0; var row_delta${i} = 0.0;`)}
  if (!key_side) {
    ${statistics("first")}
    workgroupBarrier();
    ${
      repeat(scoreRows, (i) =>
        `row_exponent${i} = exponents[row_first + ${i}u];
    row_delta${i} = ${delta(`row_first + ${i}u`)};`)
    }
  }

  for (; head < head_end; head++) {
    let start = select(u.k_from + kv_head * ${vectors}u, u.q_from + head * ${vectors}u, key_side);
    let value_start =
      select(u.v_from + kv_head * ${vectors}u, u.dout_from + head * ${vectors}u, key_side);
    for (var tile = other_first; tile < other_end; tile = ${nextTile(columns, excludes)}) {
      ${eachScore(plan, (i, j) => `var s${i}_${j} = 0.0; var dp${i}_${j} = 0.0;`)}
      ${chunks === 1 ? "{" : `${loop(plan, "piece", chunks)} {`}
        workgroupBarrier();
        ${fill(plan, chunks === 1 ? otherRows(0) : [...ownRows("piece"), ...otherRows("piece")])}
        ${
      chunks === 1
        ? `if (key_side) ${statistics("tile")}`
        : `if (key_side && piece == 0u) ${statistics("tile")}`
    }
        workgroupBarrier();
        ${addScores(plan, "s", a, c)}
        ${addScores(plan, "dp", b, d)}
      }
      ${
      repeat(scoreColumns, (j) =>
        `let column${j} = tile + lane + ${j * lanes}u;
      var exponent${j} = 0.0; var delta${j} = 0.0;
      if (key_side) {
        exponent${j} = exponents[lane + ${j * lanes}u];
        delta${j} = ${delta(`lane + ${j * lanes}u`)};
      }`)
    }
      ${
      eachScore(plan, (i, j) => {
        const { declare, forExp2, slope } = scoreAndSlope(`s${i}_${j}`, softcap);
        return `{
        let attends = column${j} >= low${i} && column${j} < high${i}${
          outsideExcluded(`column${j}`, i, excludes)
        };
        ${declare}let p = exp2(${forExp2} - (row_exponent${i} + exponent${j}));
        s${i}_${j} = select(0.0, p, attends);
        dp${i}_${j} = select(0.0, p * (dp${i}_${j} - (row_delta${i} + delta${j}))${slope}, attends);
      }`;
      })
    }
      ${putWeights(plan, "ds", (i, j) => `dp${i}_${j}`)}
      if (key_side) {
        ${putWeights(plan, "p", (i, j) => `s${i}_${j}`)}
      }
      workgroupBarrier();
      ${
      repeat(chunks, (n) =>
        `${
          chunks === 1 ? "" : `${n === 0 ? "" : "workgroupBarrier();"}
      ${fill(plan, otherRows(n))}
      workgroupBarrier();`
        }
      ${addWeighted(plan, "sum", "ds", c, n)}
      if (key_side) {
        ${addWeighted(plan, "value_sum", "p", d, n)}
      }`)
    }
    }
  }
  let to_first = select(u.dq_from + group.x * ${vectors}u, u.dk_from + kv_head * ${vectors}u, key_side);
  ${
      storeSums(plan, "sum", {
        binding: "gradient",
        start: (row) => `(first + ${row}) * u.dq_stride + to_first`,
        exists: (row) => `first + ${row} < u.rows`,
        rotation: sumRotation(
          variant,
          (field, row, part) => word(field, `first + ${row}`, part),
          vectors,
        ),
      }, () => `u.scale * ${factor}`)
    }
  if (key_side) {
    ${
      storeSums(plan, "value_sum", {
        binding: "gradient",
        start: (row) => `(first + ${row}) * u.dq_stride + u.dv_from + kv_head * ${vectors}u`,
        exists: (row) => `first + ${row} < u.rows`,
      }, () => factor)
    }
  }
}`,
  };
}
