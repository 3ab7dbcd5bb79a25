/**
 * Sums of rows weighted by a tile of scores in attention's tiled programs, and where they go.
 *
 * @module
 */
import { repeat } from "../../../wgsl/repeat.ts";
import { COMPONENTS, weightVector } from "./scores.ts";
import { get, loop, type Tile } from "./staging.ts";
import { rotateBack } from "../../../wgsl/rotate.ts";
import type { SumRotation } from "../row_index.ts";
import type { AttentionPlan } from "./plan.ts";

/** The thread's place in a weighted sum: rows from `sum_first` on, pairs `sum_pair<k>` of each piece. */
export function sumPlace(plan: AttentionPlan): string {
  const { rows, chunk, sumRows, sumPairs, sumLanes, threads } = plan;
  const groups = rows / sumRows, hasIdle = threads > groups * sumLanes;
  const group = `thread / ${sumLanes}u`;
  return `let sum_lane = thread % ${sumLanes}u;
let sum_group = ${hasIdle ? `min(${group}, ${groups - 1}u)` : group};
let sum_first = sum_group * ${sumRows}u;
let sum_idle = ${hasIdle ? `${group} >= ${groups}u` : "false"};
${
    repeat(sumPairs, (k) => {
      const pair = `sum_lane + ${k * sumLanes}u`;
      const last = (k + 1) * sumLanes > chunk;
      return `let sum_pair${k} = ${last ? `min(${pair}, ${chunk - 1}u)` : pair};`;
    })
  }`;
}

/** A line for every pair of the thread's part of a weighted sum: piece c, row i, pair k. */
export function eachSum(
  { chunks, sumRows, sumPairs }: AttentionPlan,
  line: (name: string, i: number, c: number, k: number) => string,
): string {
  return repeat(
    chunks,
    (c) => repeat(sumRows, (i) => repeat(sumPairs, (k) => line(`${c}_${i}_${k}`, i, c, k))),
  );
}

/** Declares the thread's part of a weighted sum. */
export function declareSums(plan: AttentionPlan, sum: string): string {
  return eachSum(
    plan,
    (at) => `var ${sum}${at}_lo = vec4<f32>(); var ${sum}${at}_hi = vec4<f32>();`,
  );
}

/** Adds the weights times the rows of piece c in a tile to a weighted sum. */
export function addWeighted(
  plan: AttentionPlan,
  sum: string,
  weights: string,
  tile: Tile,
  c: number,
): string {
  const { sumRows, sumPairs, lanes, scoreColumns, f16Sums, unroll } = plan;
  const size = weightVector(plan);
  const parts = (line: (i: number, k: number) => string) =>
    repeat(sumRows, (i) => repeat(sumPairs, (k) => line(i, k)));
  /** One key: its place in the tile is j, l. */
  const key = (j: string, l: string) =>
    `{
${
      repeat(
        sumRows / size,
        (v) => `let w${v} = ${weights}[${j}][${l}][sum_group * ${sumRows / size}u + ${v}u];`,
      )
    }
${
      repeat(sumPairs, (k) => {
        const at = `[${j}][sum_pair${k}][${l}]`;
        return f16Sums ? `let x${k} = ${tile.name}${at};` : get(plan, `x${k}`, tile, at);
      })
    }
${
      parts((i, k) => {
        const weight = `w${Math.floor(i / size)}.${COMPONENTS[i % size]}`;
        if (f16Sums) {
          return repeat(4, (e) => {
            const to = `h${i}_${k}_${e}`;
            return `${to} = fma(vec2<f16>(${weight}), halves(x${k}.${COMPONENTS[e]}), ${to});`;
          });
        }
        const to = `${sum}${c}_${i}_${k}`;
        return `${to}_lo = fma(vec4<f32>(${weight}), x${k}_lo, ${to}_lo);
${to}_hi = fma(vec4<f32>(${weight}), x${k}_hi, ${to}_hi);`;
      })
    }
}`;
  if (!f16Sums) {
    const keys = unroll
      ? repeat(lanes, (l) => key("j", `${l}`))
      : `${loop(plan, "l", lanes)} ${key("j", "l")}`;
    return `${loop(plan, "j", scoreColumns)} {\n${keys}\n}`;
  }
  // The sum over a tile's keys is one of f16.
  return `{
${parts((i, k) => repeat(4, (e) => `var h${i}_${k}_${e} = vec2<f16>();`))}
${repeat(scoreColumns, (j) => repeat(lanes, (l) => key(`${j}`, `${l}`)))}
${
    parts((i, k) => {
      const h = `h${i}_${k}`, to = `${sum}${c}_${i}_${k}`;
      return `${to}_lo += vec4<f32>(vec2<f32>(${h}_0), vec2<f32>(${h}_1));
${to}_hi += vec4<f32>(vec2<f32>(${h}_2), vec2<f32>(${h}_3));`;
    })
  }
}`;
}

/** Where a weighted sum goes. */
export interface Target {
  binding: string;
  /** WGSL for a row's first vector in the binding, given the row within the workgroup's own. */
  start: (row: string) => string;
  /** WGSL for whether there is such a row. */
  exists: (row: string) => string;
  /** How rows are rotated back, where they are. */
  rotation?: SumRotation;
}

/** Stores a weighted sum, each row times `factor`. */
export function storeSums(
  plan: AttentionPlan,
  sum: string,
  { binding, start, exists, rotation }: Target,
  factor: (i: number) => string,
): string {
  const { chunk, chunks, pairs, vectors, sumRows, sumPairs, sumLanes } = plan;
  const store = (i: number, c: number, k: number) => {
    const at = `${sum}${c}_${i}_${k}`, pair = `sum_lane + ${k * sumLanes}u`;
    const conditions = [
      (k + 1) * sumLanes > chunk ? `${pair} < ${chunk}u` : "",
      chunk * chunks > pairs && c === chunks - 1 ? `${c * chunk}u + ${pair} < ${pairs}u` : "",
    ].filter(Boolean);
    const offset = c * chunk + k * sumLanes, to = `to + ${offset}u`;
    if (rotation !== undefined) {
      const pair = rotateBack(
        { first: `${at}_lo`, second: `${at}_hi`, cos: "cos", sin: "sin" },
        rotation.pairs,
      );
      const back = `let cos = load_table(angle + ${offset}u) * factor;
let sin = load_table(angle + ${offset + pairs}u) * factor;
store_${binding}(${to}, ${pair.first});
store_${binding}(${to} + ${pairs}u, ${pair.second});`;
      return `${conditions.length === 0 ? "" : `if (${conditions.join(" && ")})`} {\n${back}\n}`;
    }
    const second = `store_${binding}(${to} + ${pairs}u, ${at}_hi * factor);`;
    const both = `store_${binding}(${to}, ${at}_lo * factor);
${
      vectors === 2 * pairs
        ? second
        : `if (${c * chunk}u + ${pair} + ${pairs}u < ${vectors}u) { ${second} }`
    }`;
    return conditions.length === 0 ? both : `if (${conditions.join(" && ")}) {\n${both}\n}`;
  };
  return repeat(sumRows, (i) =>
    `if (!sum_idle && ${exists(`sum_first + ${i}u`)}) {
let to = ${start(`sum_first + ${i}u`)} + sum_lane;
let factor = ${factor(i)};
${rotation === undefined ? "" : `let angle = ${rotation.angles(`sum_first + ${i}u`)} + sum_lane;`}
${repeat(chunks, (c) => repeat(sumPairs, (k) => store(i, c, k)))}
}`);
}
