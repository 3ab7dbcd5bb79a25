/**
 * A tile of scores in attention's tiled programs: products of two tiles of rows, and what each thread
 * makes of its scores, weights and statistics of rows, in workgroup memory.
 *
 * @module
 */
import { repeat } from "../../../wgsl/repeat.ts";
import { get, loop, type Tile } from "./staging.ts";
import type { AttentionPlan } from "./plan.ts";

/** Pairs whose products are written out in one turn of a loop: more code than that runs slower. */
const PAIR_STEP = 2;
/** Pairs whose products are added up in f16 before the sum goes to one of f32. */
const F16_PAIRS = 4;

/** `line` for pairs 0 to count − 1, a few at a time written out in a loop. */
function eachPair(plan: AttentionPlan, count: number, line: (p: string) => string): string {
  if (!plan.unroll) return `${loop(plan, "p", count)} {\n${line("p")}\n}`;
  const whole = Math.floor(count / PAIR_STEP);
  return `${loop(plan, "block", whole)} {
${repeat(PAIR_STEP, (n) => `{\n${line(`(block * ${PAIR_STEP}u + ${n}u)`)}\n}`)}
}
${repeat(count % PAIR_STEP, (n) => `{\n${line(`${whole * PAIR_STEP + n}u`)}\n}`)}`;
}

/** The thread's place in a tile of scores: its rows from `row_first` on, its columns `lane` + j · lanes. */
export function scorePlace({ lanes, scoreRows }: AttentionPlan): string {
  return `let lane = thread % ${lanes}u;
let row_group = thread / ${lanes}u;
let row_first = row_group * ${scoreRows}u;`;
}

/** A line for each of the thread's scores, row i and column j. */
export function eachScore(
  { scoreRows, scoreColumns }: AttentionPlan,
  line: (i: number, j: number) => string,
): string {
  return repeat(scoreRows, (i) => repeat(scoreColumns, (j) => line(i, j)));
}

/** Adds the products of the pieces in two tiles to the thread's scores `sum<i>_<j>`. */
export function addScores(plan: AttentionPlan, sum: string, own: Tile, other: Tile): string {
  const { chunk, scoreRows, scoreColumns, f16Sums } = plan;
  const products = (
    p: string,
    read: (name: string, tile: Tile, at: string) => string,
    add: (i: number, j: number) => string,
  ) =>
    `${repeat(scoreColumns, (j) => read(`b${j}`, other, `[${j}][${p}][lane]`))}
${
      repeat(scoreRows, (i) =>
        `${read(`a${i}`, own, `[${i}][${p}][row_group]`)}
${repeat(scoreColumns, (j) => add(i, j))}`)
    }`;
  if (!f16Sums) {
    return eachPair(
      plan,
      chunk,
      (p) =>
        products(p, (name, tile, at) => get(plan, name, tile, at), (i, j) => {
          const to = `${sum}${i}_${j}`;
          return `${to} = add_dot(a${i}_lo, b${j}_lo, add_dot(a${i}_hi, b${j}_hi, ${to}));`;
        }),
    );
  }
  const short = (count: number, at: (n: number) => string) =>
    `${eachScore(plan, (i, j) => `var h${i}_${j} = vec2<f16>();`)}
${
      repeat(count, (n) =>
        `{
${
          products(
            at(n),
            (name, tile, at) => `let ${name} = ${tile.name}${at};`,
            (i, j) => `h${i}_${j} = add_halves(a${i}, b${j}, h${i}_${j});`,
          )
        }
}`)
    }
${eachScore(plan, (i, j) => `${sum}${i}_${j} += f32(h${i}_${j}.x + h${i}_${j}.y);`)}`;
  const whole = Math.floor(chunk / F16_PAIRS), rest = chunk % F16_PAIRS;
  return `${loop(plan, "block", whole)} {
${short(F16_PAIRS, (n) => `block * ${F16_PAIRS}u + ${n}u`)}
}
${rest === 0 ? "" : `{\n${short(rest, (n) => `${whole * F16_PAIRS + n}u`)}\n}`}`;
}

/** Rows to a vector in arrays of weights and statistics. */
export const weightVector = ({ scoreRows, sumRows }: AttentionPlan): 2 | 4 =>
  scoreRows % 4 === 0 && sumRows % 4 === 0 ? 4 : 2;

/** A vector of f32 for so many rows. */
export const rowVector = (plan: AttentionPlan): string => `vec${weightVector(plan)}<f32>`;

/** Declares an array of weights `[j][lane][row / vector]`. */
export function declareWeights(plan: AttentionPlan, name: string): string {
  const size = weightVector(plan), type = `vec${size}<${plan.f16Sums ? "f16" : "f32"}>`;
  const { rows, lanes, scoreColumns } = plan;
  return `var<workgroup> ${name}: ` +
    `array<array<array<${type}, ${(rows / size) | 1}>, ${lanes}>, ${scoreColumns}>;`;
}

/** Declares an array of f32 per column lane and row. */
export function declareStatistics(plan: AttentionPlan, name: string): string {
  const size = weightVector(plan);
  return `var<workgroup> ${name}: ` +
    `array<array<${rowVector(plan)}, ${(plan.rows / size) | 1}>, ${plan.lanes}>;`;
}

/** Names of a vector's components. */
export const COMPONENTS = "xyzw";

/** Puts a value per score of the thread, `value(i, j)`, in its place in an array of weights. */
export function putWeights(
  plan: AttentionPlan,
  name: string,
  value: (i: number, j: number) => string,
): string {
  const size = weightVector(plan), type = `vec${size}<${plan.f16Sums ? "f16" : "f32"}>`;
  const { scoreRows, scoreColumns } = plan;
  return repeat(scoreColumns, (j) =>
    repeat(scoreRows / size, (v) => {
      const values = Array.from({ length: size }, (_, e) => value(v * size + e, j)).join(", ");
      const all = plan.f16Sums ? `${type}(vec${size}<f32>(${values}))` : `${type}(${values})`;
      return `${name}[${j}][lane][row_group * ${scoreRows / size}u + ${v}u] = ${all};`;
    }));
}

/** A vector of statistics of the thread's rows: `value(i)` for `size` rows from `v · size` on. */
export function rowValues(
  plan: AttentionPlan,
  v: number,
  value: (i: number) => string,
): string {
  const size = weightVector(plan);
  const values = Array.from({ length: size }, (_, e) => value(v * size + e)).join(", ");
  return `${rowVector(plan)}(${values})`;
}

/** Component of row i in its vector, and the vector's number. */
export function rowPart(plan: AttentionPlan, i: number): { vector: number; component: string } {
  const size = weightVector(plan);
  return { vector: Math.floor(i / size), component: COMPONENTS[i % size] };
}
