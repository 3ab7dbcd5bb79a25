/**
 * How attention's tiled programs hold rows in workgroup memory: what is read, where it goes, and how it
 * is read again.
 *
 * A pair is vectors p and p + pairs of a head row, as RoPE turns them together: one word of 16 bytes
 * where tiles are held in f16, two in f32. In shared arrays `[i][pair][lane]` the last index is the
 * thread's, the others constants: a bounds check is then made once and not per access. Its size is
 * odd, so that neighbouring pairs of one row lie in different banks, too.
 *
 * @module
 */
import { repeat } from "../../../wgsl/repeat.ts";
import type { Dtype } from "../../../gpu/tensor.ts";
import type { AttentionPlan } from "./plan.ts";

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
  { stage, chunk }: AttentionPlan,
  { name, each, lanes }: Tile,
): string {
  const rows = (type: string) => `array<array<array<${type}, ${lanes | 1}>, ${chunk}>, ${each}>`;
  const type = stage === "f16" ? rows("vec4<u32>") : `array<${rows("vec4<f32>")}, 2>`;
  return `var<workgroup> ${name}: ${type};`;
}

/** Functions of every program. */
export function commonFunctions({ stage, f16Sums }: AttentionPlan): string {
  const exact = `${stage === "f16" ? "" : "struct Pair { lo: vec4<f32>, hi: vec4<f32> }"}
fn add_dot(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
  return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, sum))));
}`;
  // A bitcast would say the same, but naga mistypes it; compilers drop the way there and back.
  const short = `fn halves(x: u32) -> vec2<f16> { return vec2<f16>(unpack2x16float(x)); }
fn add_halves(a: vec4<u32>, b: vec4<u32>, sum: vec2<f16>) -> vec2<f16> {
  return fma(halves(a.x), halves(b.x), fma(halves(a.y), halves(b.y),
    fma(halves(a.z), halves(b.z), fma(halves(a.w), halves(b.w), sum))));
}`;
  return f16Sums ? `${exact}\n${short}` : exact;
}

/**
 * A function `fetch_<binding>(row, end, start, pair)`: a pair of the head row that begins at vector
 * `start` of row `row`, zeros from row `end` on. Those rows may hold anything, NaN too, which a
 * weight of zero would not remove.
 *
 * @param scale What the values are multiplied with, in f16; for tiles of f16.
 */
export function fetchFunction(
  plan: AttentionPlan,
  binding: string,
  dtype: Dtype,
  { stride = binding, scale = 1 }: { stride?: string; scale?: number } = {},
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
  ${scale === 1 ? `return ${pair};` : scaledHalves(pair, scale)}
}`;
}

/** WGSL that returns two vectors of halves times a number. */
function scaledHalves(pair: string, scale: number): string {
  const words = ["x", "y", "z", "w"].map((word) =>
    `pack2x16float(unpack2x16float(two.${word}) * ${scale})`
  );
  return `let two = ${pair};
  return vec4<u32>(${words.join(", ")});`;
}

/** The header of a loop that runs `count` times. */
export function loop({ unroll }: AttentionPlan, name: string, count: number): string {
  const bound = unroll ? `${count}u` : `min(${count}u, u.most)`;
  return `for (var ${name} = 0u; ${name} < ${bound}; ${name}++)`;
}

/** Words that a thread moves to fill a tile. */
const tileSteps = ({ threads, chunk }: AttentionPlan, { count }: Tile): number =>
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

function put({ stage }: AttentionPlan, name: string, to: string, value: string): string {
  return stage === "f16"
    ? `${name}${to} = ${value};`
    : `${name}[0]${to} = ${value}.lo; ${name}[1]${to} = ${value}.hi;`;
}

/** A fetch of the thread's word: row and pair within the tile's piece are expressions. */
export type Fetch = (row: string, pair: string) => string;

/** Reads the thread's words of a tile into variables `name0`, `name1` …. */
function fetchWords(
  plan: AttentionPlan,
  tile: Tile,
  name: string,
  fetch: Fetch,
): string {
  return repeat(tileSteps(plan, tile), (n) => {
    const { row, pair } = word(plan, tile, n);
    return `let ${name}${n} = ${fetch(row, pair)};`;
  });
}

/** Puts the words that {@linkcode fetchWords} read into the tile. */
function putWords(plan: AttentionPlan, tile: Tile, name: string): string {
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
export function get({ stage }: AttentionPlan, name: string, tile: Tile, at: string): string {
  if (stage === "f32") {
    return `let ${name}_lo = ${tile.name}[0]${at}; let ${name}_hi = ${tile.name}[1]${at};`;
  }
  const two = (a: string, b: string) =>
    `vec4<f32>(unpack2x16float(${name}.${a}), unpack2x16float(${name}.${b}))`;
  return `let ${name} = ${tile.name}${at};
let ${name}_lo = ${two("x", "y")}; let ${name}_hi = ${two("z", "w")};`;
}
