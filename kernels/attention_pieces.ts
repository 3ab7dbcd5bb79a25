/**
 * The WGSL that attention's tiled programs share: reading head rows into workgroup memory, products
 * of two tiles of rows (scores), and sums of rows weighted by scores.
 *
 * A pair is vectors p and p + pairs of a head row, as RoPE turns them together: one word of 16 bytes
 * where tiles are held in f16, two in f32. In shared arrays `[i][pair][lane]` the last index is the
 * thread's, the others constants: a bounds check is then made once and not per access. Its size is
 * odd, so that neighbouring pairs of one row lie in different banks, too.
 *
 * @module
 */
import type { AttentionPlan } from "./attention_tiles.ts";
import { repeat } from "./program.ts";
import type { Dtype } from "./tensor.ts";

/** Rows of one side held in workgroup memory. */
export interface Tile {
  name: string;
  /** Rows. */
  count: number;
  /** WGSL for the first two indices of row `r`: which of a thread's rows it is, and which thread's. */
  place: (r: string) => [string, string];
  /** Sizes of those. */
  each: number;
  lanes: number;
}

/** The workgroup's own rows: a thread's are neighbours. */
export function ownTile({ rows, scoreRows }: AttentionPlan, name: string): Tile {
  const place = (r: string): [string, string] => [`${r} % ${scoreRows}u`, `${r} / ${scoreRows}u`];
  return { name, count: rows, place, each: scoreRows, lanes: rows / scoreRows };
}

/** Rows of the other side: neighbours are neighbouring threads'. */
export function otherTile({ columns, lanes, scoreColumns }: AttentionPlan, name: string): Tile {
  const place = (r: string): [string, string] => [`${r} / ${lanes}u`, `${r} % ${lanes}u`];
  return { name, count: columns, place, each: scoreColumns, lanes };
}

/** The WGSL type of a pair as it is fetched and held. */
const pairType = ({ stage }: AttentionPlan) => stage === "f16" ? "vec4<u32>" : "Pair";

/** The declaration of a tile. */
export function declareTile(
  { stage, half, chunk }: AttentionPlan,
  { name, each, lanes }: Tile,
): string {
  const rows = (type: string) => `array<array<array<${type}, ${lanes | 1}>, ${chunk}>, ${each}>`;
  const type = stage === "f16"
    ? rows(half ? "Word" : "vec4<u32>")
    : `array<${rows("vec4<f32>")}, 2>`;
  return `var<workgroup> ${name}: ${type};`;
}

/** Functions of every program. */
export function commonFunctions({ stage, half }: AttentionPlan): string {
  const h = (x: string, e: number) => halvesOf(half, x, e);
  return `${stage === "f16" ? "" : "struct Pair { lo: vec4<f32>, hi: vec4<f32> }"}
fn add_dot(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
  return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, sum))));
}
${
    half
      ? `${
        half === "struct"
          ? "struct Word { lo: vec4<f16>, hi: vec4<f16> }"
          : half === "mat"
          ? "alias Word = mat2x4<f16>;"
          : "alias Word = vec4<u32>;"
      }
fn word(v: vec4<u32>) -> Word {
  ${
        half === "unpack"
          ? "return v;"
          : `return Word(vec4<f16>(vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y))),
    vec4<f16>(vec4<f32>(unpack2x16float(v.z), unpack2x16float(v.w))));`
      }
}
fn add_halves(a: Word, b: Word, sum: vec2<f16>) -> vec2<f16> {
  return fma(${h("a", 0)}, ${h("b", 0)}, fma(${h("a", 1)}, ${h("b", 1)},
    fma(${h("a", 2)}, ${h("b", 2)}, fma(${h("a", 3)}, ${h("b", 3)}, sum))));
}`
      : ""
  }`;
}

function halvesOf(half: AttentionPlan["half"], x: string, e: number): string {
  if (half === "unpack") return `vec2<f16>(unpack2x16float(${x}.${COMPONENTS[e]}))`;
  const part = half === "struct" ? e < 2 ? ".lo" : ".hi" : `[${e >> 1}]`;
  return `${x}${part}.${e % 2 === 0 ? "xy" : "zw"}`;
}

/**
 * A function `fetch_<binding>(row, end, start, pair)`: a pair of the head row that begins at vector
 * `start` of row `row`, zeros from row `end` on. Those rows may hold anything, NaN too, which a
 * weight of zero would not remove.
 */
export function fetchFunction(
  plan: AttentionPlan,
  binding: string,
  dtype: Dtype,
  stride = binding,
): string {
  const { vectors, pairs, stage } = plan, type = pairType(plan);
  // The last pair of an odd number of vectors is one alone.
  const second = (value: string, zero: string) =>
    vectors === 2 * pairs ? value : `select(${zero}, ${value}, pair + ${pairs}u < ${vectors}u)`;
  let pair = `vec4<u32>(${binding}[at], ${second(`${binding}[at + ${pairs}u]`, "vec2<u32>()")})`;
  let load = "";
  if (stage === "f32" || dtype === "f32") {
    load = `let lo = load_${binding}(at);
  let hi = ${second(`load_${binding}(at + ${pairs}u)`, "vec4<f32>()")};`;
    pair = stage === "f32" ? "Pair(lo, hi)" : "vec4<u32>(pack2x16float(lo.xy), " +
      "pack2x16float(lo.zw), pack2x16float(hi.xy), pack2x16float(hi.zw))";
  }
  return `fn fetch_${binding}(row: u32, end: u32, start: u32, pair: u32) -> ${type} {
  if (row >= end || pair >= ${pairs}u) { return ${type}(); }
  let at = row * u.${stride}_stride + start + pair;
  ${load}
  return ${pair};
}`;
}

/** The header of a loop that runs `count` times. */
export function loop({ unroll }: AttentionPlan, name: string, count: number): string {
  const bound = unroll ? `${count}u` : `min(${count}u, u.most)`;
  return `for (var ${name} = 0u; ${name} < ${bound}; ${name}++)`;
}

/** `line` for 0 to count − 1, \`step\` at a time written out in a loop; a plain loop for software drivers. */
function stepped(
  plan: AttentionPlan,
  name: string,
  count: number,
  step: number,
  line: (i: string, at: number) => string,
): string {
  if (!plan.unroll) return `${loop(plan, name, count)} {\n${line(name, 0)}\n}`;
  if (count <= step) return repeat(count, (i) => `{\n${line(`${i}u`, i)}\n}`);
  const whole = Math.floor(count / step);
  return `${loop(plan, `${name}_block`, whole)} {
${repeat(step, (i) => `{\n${line(`(${name}_block * ${step}u + ${i}u)`, i)}\n}`)}
}
${repeat(count - whole * step, (i) => `{\n${line(`${whole * step + i}u`, i)}\n}`)}`;
}

/** Words that a thread moves to fill a tile. */
export const tileSteps = ({ threads, chunk }: AttentionPlan, { count }: Tile): number =>
  Math.ceil(count * chunk / threads);

/** Where the thread's word n of a tile comes from and goes to. */
function word({ threads, chunk }: AttentionPlan, tile: Tile, n: number | string) {
  const at = typeof n === "number"
    ? n === 0 ? "thread" : `(thread + ${n * threads}u)`
    : `(thread + ${n} * ${threads}u)`;
  const row = `(${at} / ${chunk}u)`, pair = `(${at} % ${chunk}u)`;
  const [i, lane] = tile.place(row);
  const guard = (line: string) =>
    typeof n === "number" && (n + 1) * threads <= tile.count * chunk
      ? line
      : `if (${at} < ${tile.count * chunk}u) { ${line} }`;
  return { row, pair, to: `[${i}][${pair}][${lane}]`, guard };
}

function put(
  { stage, half }: AttentionPlan,
  name: string,
  to: string,
  value: string,
): string {
  return stage === "f16"
    ? `${name}${to} = ${half ? `word(${value})` : value};`
    : `${name}[0]${to} = ${value}.lo; ${name}[1]${to} = ${value}.hi;`;
}

/** A fetch of the thread's word: row and pair within the tile's piece are expressions. */
export type Fetch = (row: string, pair: string) => string;

/** Reads the thread's words of a tile into variables `name0`, `name1` … (`let` declares them). */
export function fetchWords(
  plan: AttentionPlan,
  tile: Tile,
  name: string,
  fetch: Fetch,
  declare: "let " | "var " | "" = "let ",
): string {
  return repeat(tileSteps(plan, tile), (n) => {
    const { row, pair } = word(plan, tile, n);
    return `${declare}${name}${n} = ${fetch(row, pair)};`;
  });
}

/** Puts the words that {@linkcode fetchWords} read into the tile. */
export function putWords(plan: AttentionPlan, tile: Tile, name: string): string {
  return repeat(tileSteps(plan, tile), (n) => {
    const { to, guard } = word(plan, tile, n);
    return guard(put(plan, tile.name, to, `${name}${n}`));
  });
}

/** Fills tiles, each with a fetch of its own; all loads are issued before the first store waits for one. */
export function fill(plan: AttentionPlan, sources: readonly [Tile, Fetch][]): string {
  if (!plan.unroll) {
    return sources.map(([tile, fetch]) => {
      const { row, pair, to, guard } = word(plan, tile, "step");
      return `${loop(plan, "step", tileSteps(plan, tile))} {
${guard(`let value = ${fetch(row, pair)}; ${put(plan, tile.name, to, "value")}`)}
}`;
    }).join("\n");
  }
  return `{
${sources.map(([tile, fetch], n) => fetchWords(plan, tile, `v${n}_`, fetch)).join("\n")}
${sources.map(([tile], n) => putWords(plan, tile, `v${n}_`)).join("\n")}
}`;
}

/** Reads a pair of a tile as `name_lo` and `name_hi` in f32. */
function get({ stage }: AttentionPlan, name: string, tile: Tile, at: string): string {
  if (stage === "f32") {
    return `let ${name}_lo = ${tile.name}[0]${at}; let ${name}_hi = ${tile.name}[1]${at};`;
  }
  const two = (a: string, b: string) =>
    `vec4<f32>(unpack2x16float(${name}.${a}), unpack2x16float(${name}.${b}))`;
  return `let ${name} = ${tile.name}${at};
let ${name}_lo = ${two("x", "y")}; let ${name}_hi = ${two("z", "w")};`;
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
  const { chunk, scoreRows, scoreColumns, half, pairStep, halfPairs } = plan;
  if (!half) {
    return stepped(
      plan,
      "p",
      chunk,
      pairStep,
      (p) =>
        `${repeat(scoreColumns, (j) => get(plan, `b${j}`, other, `[${j}][${p}][lane]`))}
${
          repeat(scoreRows, (i) =>
            `${get(plan, `a${i}`, own, `[${i}][${p}][row_group]`)}
${
              repeat(
                scoreColumns,
                (j) =>
                  `${sum}${i}_${j} = add_dot(a${i}_lo, b${j}_lo, add_dot(a${i}_hi, b${j}_hi, ${sum}${i}_${j}));`,
              )
            }`)
        }`,
    );
  }
  // Sums of f16 stay short: each is added to one of f32 after `halfPairs` pairs.
  const flush = eachScore(
    plan,
    (i, j) => `${sum}${i}_${j} += f32(h${i}_${j}.x + h${i}_${j}.y);`,
  );
  const run = (count: number, at: (i: number) => string) =>
    `${eachScore(plan, (i, j) => `var h${i}_${j} = vec2<f16>();`)}
${
      repeat(count, (n) =>
        `{
${repeat(scoreColumns, (j) => `let b${j} = ${other.name}[${j}][${at(n)}][lane];`)}
${
          repeat(scoreRows, (i) =>
            `let a${i} = ${own.name}[${i}][${at(n)}][row_group];
${repeat(scoreColumns, (j) => `h${i}_${j} = add_halves(a${i}, b${j}, h${i}_${j});`)}`)
        }
}`)
    }
${flush}`;
  const whole = Math.floor(chunk / halfPairs), rest = chunk % halfPairs;
  const blocks = plan.unroll && pairStep >= chunk
    ? repeat(whole, (b) => `{\n${run(halfPairs, (n) => `${b * halfPairs + n}u`)}\n}`)
    : `${loop(plan, "p_block", whole)} {
${run(halfPairs, (n) => `p_block * ${halfPairs}u + ${n}u`)}
}`;
  return `${blocks}
${rest > 0 ? `{\n${run(rest, (n) => `${whole * halfPairs + n}u`)}\n}` : ""}`;
}

/** Rows to a vector in arrays of weights and statistics. */
export const weightVector = ({ scoreRows, sumRows }: AttentionPlan): 2 | 4 =>
  scoreRows % 4 === 0 && sumRows % 4 === 0 ? 4 : 2;

/** A vector of f32 for so many rows. */
export const rowVector = (plan: AttentionPlan): string => `vec${weightVector(plan)}<f32>`;

/** Declares an array of weights `[j][lane][row / vector]`. */
export function declareWeights(plan: AttentionPlan, name: string): string {
  const size = weightVector(plan), type = `vec${size}<${plan.half ? "f16" : "f32"}>`;
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

const COMPONENTS = "xyzw";

/** Puts a value per score of the thread, `value(i, j)`, in its place in an array of weights. */
export function putWeights(
  plan: AttentionPlan,
  name: string,
  value: (i: number, j: number) => string,
): string {
  const size = weightVector(plan), type = `vec${size}<${plan.half ? "f16" : "f32"}>`;
  const { scoreRows, scoreColumns } = plan;
  return repeat(scoreColumns, (j) =>
    repeat(scoreRows / size, (v) => {
      const values = Array.from({ length: size }, (_, e) => value(v * size + e, j)).join(", ");
      const all = plan.half ? `${type}(vec${size}<f32>(${values}))` : `${type}(${values})`;
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

/** The thread's place in a weighted sum: rows from `sum_first` on, pairs `sum_pair<k>` of each piece. */
export function sumPlace(plan: AttentionPlan): string {
  const { rows, chunk, sumRows, sumPairs, sumLanes, threads } = plan;
  const groups = rows / sumRows, spare = threads > groups * sumLanes;
  const group = `thread / ${sumLanes}u`;
  return `let sum_lane = thread % ${sumLanes}u;
let sum_group = ${spare ? `min(${group}, ${groups - 1}u)` : group};
let sum_first = sum_group * ${sumRows}u;
let sum_idle = ${spare ? `${group} >= ${groups}u` : "false"};
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
  const { sumRows, sumPairs, lanes, scoreColumns, half, unroll, keyStep, halfKeys } = plan;
  const size = weightVector(plan);
  const weight = (j: string, l: string) =>
    repeat(
      sumRows / size,
      (v) => `let w${v} = ${weights}[${j}][${l}][sum_group * ${sumRows / size}u + ${v}u];`,
    );
  const part = (i: number) => `w${Math.floor(i / size)}.${COMPONENTS[i % size]}`;
  const rowsOf = (line: (i: number, k: number) => string) =>
    repeat(sumRows, (i) => repeat(sumPairs, (k) => line(i, k)));
  const exact = (j: string, l: string) =>
    `${weight(j, l)}
${repeat(sumPairs, (k) => get(plan, `x${k}`, tile, `[${j}][sum_pair${k}][${l}]`))}
${
      rowsOf((i, k) => {
        const to = `${sum}${c}_${i}_${k}`;
        return `${to}_lo = fma(vec4<f32>(${part(i)}), x${k}_lo, ${to}_lo);
${to}_hi = fma(vec4<f32>(${part(i)}), x${k}_hi, ${to}_hi);`;
      })
    }`;
  const short = (j: string, l: string) =>
    `${weight(j, l)}
${repeat(sumPairs, (k) => `let x${k} = ${tile.name}[${j}][sum_pair${k}][${l}];`)}
${
      rowsOf((i, k) =>
        repeat(4, (e) =>
          `h${i}_${k}_${e} = fma(vec2<f16>(${part(i)}), ${
            halvesOf(half, `x${k}`, e)
          }, h${i}_${k}_${e});`)
      )
    }`;
  if (!unroll) {
    return `${loop(plan, "j", scoreColumns)} {
${loop(plan, "l", lanes)} {
${half ? openHalves(plan) : ""}
${half ? short("j", "l") : exact("j", "l")}
${half ? closeHalves(plan, sum, c) : ""}
}
}`;
  }
  // Written out for `keyStep` keys at a time (a multiple or a part of the lanes), f16 sums for `halfKeys`.
  const keys = (from: (n: number) => [string, string], count: number) => {
    if (!half) return repeat(count, (n) => `{\n${exact(...from(n))}\n}`);
    return repeat(Math.ceil(count / halfKeys), (b) => {
      const here = Math.min(halfKeys, count - b * halfKeys);
      return `{
${openHalves(plan)}
${repeat(here, (n) => `{\n${short(...from(b * halfKeys + n))}\n}`)}
${closeHalves(plan, sum, c)}
}`;
    });
  };
  const columns = lanes * scoreColumns;
  if (keyStep >= columns) {
    return keys((n) => [`${Math.floor(n / lanes)}`, `${n % lanes}`], columns);
  }
  const each = keyStep / lanes;
  return `${loop(plan, "j_block", scoreColumns / each)} {
${keys((n) => [`j_block * ${each}u + ${Math.floor(n / lanes)}u`, `${n % lanes}`], keyStep)}
}`;
}

function openHalves({ sumRows, sumPairs }: AttentionPlan): string {
  return repeat(
    sumRows,
    (i) => repeat(sumPairs, (k) => repeat(4, (e) => `var h${i}_${k}_${e} = vec2<f16>();`)),
  );
}

function closeHalves({ sumRows, sumPairs }: AttentionPlan, sum: string, c: number): string {
  return repeat(sumRows, (i) =>
    repeat(sumPairs, (k) => {
      const h = `h${i}_${k}`, to = `${sum}${c}_${i}_${k}`;
      return `${to}_lo += vec4<f32>(vec2<f32>(${h}_0), vec2<f32>(${h}_1));
${to}_hi += vec4<f32>(vec2<f32>(${h}_2), vec2<f32>(${h}_3));`;
    }));
}

/** Where a weighted sum goes. */
export interface Target {
  binding: string;
  /** WGSL for a row's first vector in the binding, given the row within the workgroup's own. */
  start: (row: string) => string;
  /** WGSL for whether there is such a row. */
  exists: (row: string) => string;
  /** WGSL for a row's first vector in RoPE's table, where rows are to be turned back. */
  turn?: (row: string) => string;
}

/** Stores a weighted sum, each row times `factor`. */
export function storeSums(
  plan: AttentionPlan,
  sum: string,
  { binding, start, exists, turn }: Target,
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
    if (turn !== undefined) {
      const back = `let cos = load_table(angle + ${offset}u) * factor;
let sin = load_table(angle + ${offset + pairs}u) * factor;
store_${binding}(${to}, ${at}_lo * cos + ${at}_hi * sin);
store_${binding}(${to} + ${pairs}u, ${at}_hi * cos - ${at}_lo * sin);`;
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
${turn === undefined ? "" : `let angle = ${turn(`sum_first + ${i}u`)} + sum_lane;`}
${repeat(chunks, (c) => repeat(sumPairs, (k) => store(i, c, k)))}
}`);
}
