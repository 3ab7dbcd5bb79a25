/**
 * The tiled program of attention (see attention.ts for the contract).
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
import { repeat } from "../../../wgsl/repeat.ts";
import type { Dtype } from "../../../gpu/tensor.ts";
import { corrected, DECLARE_MASKED, maskedWeight, weightOf } from "../../../wgsl/online_softmax.ts";
import { declareSoftcap } from "../../../wgsl/softcap.ts";
import { headStart, headUniforms } from "../heads.ts";
import { excludedBindings, nextTile, outsideExcluded, readExcluded } from "../excluded_keys.ts";
import { rowWords } from "../row_index.ts";
import { scoreForExp2 } from "../score.ts";
import {
  addScores,
  declareStatistics,
  declareWeights,
  eachScore,
  putWeights,
  rowPart,
  rowValues,
  rowVector,
  scorePlace,
  weightVector,
} from "./scores.ts";
import {
  commonFunctions,
  declareTile,
  type Fetch,
  fetchFunction,
  fill,
  loop,
  otherTile,
  ownTile,
} from "./staging.ts";
import { addWeighted, declareSums, eachSum, storeSums, sumPlace } from "./weighted_sums.ts";
import { attentionUniforms, keyedPlan, type PlanKey } from "./plan.ts";

/** The entries of the programs' keys besides the plan. */
export interface ForwardVariant {
  /** Dtypes of q, of k and v, and of out. */
  dtype: Dtype;
  kv: Dtype;
  out: Dtype;
  /** lse is written. */
  withLse: boolean;
  /** Queries exclude keys (excluded_keys.ts). */
  excludes: boolean;
  /** Scores are capped (score.ts). */
  softcap: boolean;
}

/** The source of a key. */
export function forwardSource(
  { dtype, kv, out, withLse, excludes, softcap, ...key }: ForwardVariant & PlanKey,
): ProgramSource {
  const plan = keyedPlan(key), word = rowWords();
  const { rows, columns, threads, lanes, scoreRows, scoreColumns, sumRows, vectors } = plan;
  const { chunk, chunks, f16Sums } = plan;
  const size = weightVector(plan), vector = rowVector(plan);
  const own = ownTile(plan, "queries"), others = otherTile(plan, "others");
  const bindings: Binding[] = [
    ...reads(dtype, "q"),
    ...reads(kv, "k", "v"),
    ...readsScalars("u32", "starts", "ends"),
    ...excludedBindings(excludes),
    ...writes(out, "out"),
  ];
  if (withLse) bindings.push(...writesScalars("f32", "lse"));
  const piece = (c: string | number) => chunks === 1 ? "" : `${c} * ${chunk}u + `;
  const queries = (c: string | number): Fetch => (row, pair) =>
    `fetch_q(first + ${row}, u.rows, u.q_from + head * ${vectors}u, ${piece(c)}${pair})`;
  const keys = (binding: string, c: string | number): Fetch => (row, pair) =>
    `fetch_${binding}(tile + ${row}, key_end, u.${binding}_from + kv_head * ${vectors}u, ${
      piece(c)
    }${pair})`;
  const rowVectors = scoreRows / size, sumVectors = sumRows / size;
  const ofRow = (name: string, i: number) => {
    const { vector, component } = rowPart(plan, i);
    return `${name}${vector}.${component}`;
  };
  const masked = `
    ${repeat(scoreColumns, (j) => `let column${j} = tile + lane + ${j * lanes}u;`)}
    ${
    eachScore(plan, (i, j) =>
      `s${i}_${j} = select(MASKED, ${scoreForExp2(`s${i}_${j}`, softcap)},
      column${j} >= low${i} && column${j} < high${i}${
        outsideExcluded(`column${j}`, i, excludes)
      });`)
  }`;
  const highest = (i: number) => {
    let text = `s${i}_0`;
    for (let j = 1; j < scoreColumns; j++) text = `max(${text}, s${i}_${j})`;
    return text;
  };
  const sumOf = (i: number) =>
    Array.from({ length: scoreColumns }, (_, j) => `s${i}_${j}`).join(" + ");
  const totals = (name: string, at: (v: number) => string, count: number) =>
    repeat(count, (v) =>
      `var ${name}${v} = statistics[0][${at(v)}];
  ${repeat(lanes - 1, (l) => `${name}${v} += statistics[${l + 1}][${at(v)}];`)}`);
  const rowAt = (v: number) => `row_group * ${rowVectors}u + ${v}u`;
  const sumAt = (v: number) => `sum_group * ${sumVectors}u + ${v}u`;
  return {
    bindings,
    uniforms: { ...attentionUniforms(plan, softcap), ...headUniforms("q", "k", "v", "out") },
    extensions: f16Sums ? ["f16"] : [],
    body: `${commonFunctions(plan)}
${fetchFunction(plan, "q", dtype)}
${fetchFunction(plan, "k", kv)}
${fetchFunction(plan, "v", kv)}
${DECLARE_MASKED}${declareSoftcap(softcap, "f32")}
${declareTile(plan, own)}
${declareTile(plan, others)}
${declareWeights(plan, "weights")}
${declareStatistics(plan, "statistics")}
var<workgroup> corrections: array<${vector}, ${rows / size}>;

@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let head = group.x;
  let kv_head = head / (u.heads / u.kv_heads);
  // Later queries have more keys: they go first, so that the longest work does not end last.
  let first = ((u.rows - 1u) / ${rows}u - group.y) * ${rows}u;
  let key_end = ends[min(first + ${rows}u, u.rows) - 1u];
  ${scorePlace(plan)}
  ${
      repeat(scoreRows, (i) =>
        `var low${i} = 0u; var high${i} = 0u;${
          excludes ? ` var excluded_low${i} = 0u; var excluded_high${i} = 0u;` : ""
        }
  if (first + row_first + ${i}u < u.rows) {
    low${i} = starts[first + row_first + ${i}u];
    high${i} = ends[first + row_first + ${i}u];
    ${readExcluded(`(first + row_first + ${i}u)`, { excludes, word, index: i })}
  }`)
    }
  // All threads of a row know its maximum, each the sum of its own columns.
  ${
      repeat(rowVectors, (v) =>
        `var maximum${v} = ${vector}(MASKED); var denominator${v} = ${vector}();`)
    }
  ${sumPlace(plan)}
  ${declareSums(plan, "sum")}
  ${chunks === 1 ? fill(plan, [[own, queries(0)]]) : ""}

  ${
      excludes
        ? `let skip_low = ${word("excluded_keys", "first", 0)};
  let skip_high = ${word("excluded_keys", "first", 1)};`
        : ""
    }
  for (var tile = starts[first]; tile < key_end; tile = ${nextTile(columns, excludes)}) {
    ${eachScore(plan, (i, j) => `var s${i}_${j} = 0.0;`)}
    ${chunks === 1 ? "{" : `${loop(plan, "piece", chunks)} {`}
      workgroupBarrier();
      ${
      fill(plan, [
        [others, keys("k", "piece")],
        ...(chunks === 1 ? [] : [[own, queries("piece")] as [typeof own, Fetch]]),
      ])
    }
      workgroupBarrier();
      ${addScores(plan, "s", own, others)}
    }
    ${masked}
    ${repeat(rowVectors, (v) => `statistics[lane][${rowAt(v)}] = ${rowValues(plan, v, highest)};`)}
    workgroupBarrier();
    ${
      repeat(rowVectors, (v) =>
        `let old_maximum${v} = maximum${v};
    ${repeat(lanes, (l) => `maximum${v} = max(maximum${v}, statistics[${l}][${rowAt(v)}]);`)}
    let correction${v} = ${weightOf(`old_maximum${v}`, `maximum${v}`)};
    if (lane == 0u) { corrections[${rowAt(v)}] = correction${v}; }`)
    }
    ${eachScore(plan, (i, j) => `s${i}_${j} = ${maskedWeight(`s${i}_${j}`, ofRow("maximum", i))};`)}
    ${
      repeat(rowVectors, (v) =>
        `denominator${v} = ${
          corrected(`denominator${v}`, `correction${v}`, rowValues(plan, v, sumOf))
        };`)
    }
    ${putWeights(plan, "weights", (i, j) => `s${i}_${j}`)}
    ${
      repeat(chunks, (c) =>
        `${c > 0 ? "workgroupBarrier();" : ""}
    ${fill(plan, [[others, keys("v", c)]])}
    workgroupBarrier();
    ${
          c > 0 ? "" : `${repeat(sumVectors, (v) => `let scale${v} = corrections[${sumAt(v)}];`)}
    ${
            eachSum(
              plan,
              (at, i) =>
                `sum${at}_lo *= ${ofRow("scale", i)}; sum${at}_hi *= ${ofRow("scale", i)};`,
            )
          }`
        }
    ${addWeighted(plan, "sum", "weights", others, c)}`)
    }
  }

  ${repeat(rowVectors, (v) => `statistics[lane][${rowAt(v)}] = denominator${v};`)}
  workgroupBarrier();
  ${totals("all", sumAt, sumVectors)}
  ${
      storeSums(plan, "sum", {
        binding: "out",
        start: (row) => headStart("out", `first + ${row}`, "head", vectors),
        exists: (row) => `first + ${row} < u.rows`,
      }, (i) => {
        const at = `first + sum_first + ${i}u`;
        return `select(1.0 / ${ofRow("all", i)}, 0.0, starts[${at}] >= ends[${at}])`;
      })
    }
  ${
      withLse
        ? `if (lane == 0u) {
    ${totals("row_all", rowAt, rowVectors)}
    ${
          repeat(scoreRows, (i) =>
            `if (first + row_first + ${i}u < u.rows) {
      lse[(first + row_first + ${i}u) * u.heads + head] = select(
        (${ofRow("maximum", i)} + log2(${ofRow("row_all", i)})) * ${Math.LN2}, MASKED,
        low${i} >= high${i});
    }`)
        }
  }`
        : ""
    }
}`,
  };
}
