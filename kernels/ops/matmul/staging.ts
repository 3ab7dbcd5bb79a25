/**
 * How a workgroup of {@linkcode stagedMatmul} brings tiles of A and B into workgroup memory: WGSL that
 * loads a thread's share into registers, and WGSL that puts it into the tile.
 *
 * A tile holds words of 16 bytes, A's first, then B's: neighbouring rows of A or columns of B at one value of
 * k. Of f32 a word has four. Of f16 it has eight columns of B, in pairs, and four rows of A, each twice: a pair
 * of results is then a multiply-add of pairs, without any that has to spread a number over a pair, which takes as
 * long as a multiply-add. A share is a number of units, each a word at four values of k. Where memory runs along k,
 * a unit is transposed on its way. Values stay in registers as they are stored until they are put into the tile:
 * converting at once would wait for the load.
 *
 * @module
 */
import { repeat } from "../../gpu/program.ts";
import type { Dtype } from "../../gpu/tensor.ts";
import {
  columnsOfWord,
  ROWS_OF_WORD,
  type Tile,
  wordsAcross,
  wordsOfA,
  workgroupThreads,
} from "./geometry.ts";
import type { Orientation } from "./orientation.ts";

/** What the staging of a tile depends on. */
export interface Staging {
  orientation: Orientation;
  a: Dtype;
  b: Dtype;
  /** The tile holds f16 instead of f32. */
  half: boolean;
  tile: Tile;
}

/** WGSL of a tile. The code sees `thread`, `rowBase`, `columnBase`, `kBegin`, `kEnd` and `k0`. */
export interface StagingCode {
  /** Declarations outside of functions: the type `Word` and the array `tile[k % 4][k / 4][word]`. */
  module: string;
  /** Registers and places, ahead of the loop. */
  declare: string;
  /** Loads the share that begins at `k0` and moves on. */
  load: string;
  /** Puts the loaded share into the tile. */
  store: string;
}

/** Values of k whose products are added up in f16. The error grows with its square root. */
export const HALF_RANGE = 32;

const range = (count: number) => Array.from({ length: count }, (_, i) => i);
const list = (count: number, item: (i: number) => string) => range(count).map(item).join(", ");

const PAIRS = "struct Word { x: vec2<f16>, y: vec2<f16>, z: vec2<f16>, w: vec2<f16> }";

type Operand = "a" | "b";
/** WGSL types of four elements as bindings hold them, and of either. */
const STORED = { f16: "vec2<u32>", f32: "vec4<f32>", u32: "vec4<u32>" } as const;

/**
 * Sums in f16 take A by so much less where A is a gradient: the loss scale brings gradients near the largest
 * f16, and sums of {@linkcode HALF_RANGE} of them beyond.
 */
export function halfScale({ orientation, half }: Pick<Staging, "orientation" | "half">): number {
  return half && orientation !== "nt" ? 1 / HALF_RANGE : 1;
}

/** The four elements in register `s`, loaded from an operand of `dtype` into one of type `held`. */
function unpacked(s: string, dtype: Dtype, held: string, half: boolean, scale: number): string {
  const floats = dtype === "f16"
    ? `vec4<f32>(unpack2x16float(${s}.x), unpack2x16float(${s}.y))`
    : held === STORED.u32
    ? `bitcast<vec4<f32>>(${s})`
    : s;
  if (!half) return floats;
  return `vec4<f16>(${floats})${scale === 1 ? "" : ` * ${scale}h`}`;
}

/** The word at k = 4·q + r of a unit whose registers hold `v0`, `v1`, …. */
function word(name: Operand, r: number, along: boolean, half: boolean): string {
  if (!half) return along ? `vec4<f32>(${list(4, (i) => `v${i}[${r}]`)})` : `v${r}`;
  /** Element i of the word: a row of A or a column of B. */
  const element = (i: number) =>
    along ? `v${i}[${r}]` : name === "a" ? `v${r}[${i}]` : `v${2 * r + (i >> 2)}[${i % 4}]`;
  return `Word(${
    list(4, (i) => {
      const [low, high] = name === "a" ? [i, i] : [2 * i, 2 * i + 1];
      return `vec2<f16>(${element(low)}, ${element(high)})`;
    })
  })`;
}

/** The staging of a tile. */
export function staging(
  { orientation, a, b, half, tile }: Staging,
): StagingCode {
  const { blockN, blockK, threadM } = tile, threads = workgroupThreads(tile);
  const dtypes = { a, b }, groups = blockK / 4;
  const elements = { a: ROWS_OF_WORD, b: columnsOfWord(half) };
  const scale = halfScale({ orientation, half });
  const words = { a: wordsOfA(tile), b: blockN / elements.b };
  // Words of a thread's rows, and the rows in the last of them.
  const perThread = Math.ceil(threadM / elements.a);
  const inLast = threadM - (perThread - 1) * elements.a;
  const alongK = { a: orientation !== "tn", b: orientation === "nt" };
  const unitsOfA = words.a * groups, units = unitsOfA + words.b * groups;

  /** One unit a thread: units of A, units of B, or both where the boundary falls between threads. */
  const pass = (p: number) => {
    const from = p * threads, to = Math.min(from + threads, units);
    const operands: Operand[] = [];
    if (from < unitsOfA) operands.push("a");
    if (to > unitsOfA) operands.push("b");
    const held = operands.length === 2 && a !== b ? STORED.u32 : STORED[dtypes[operands[0]]];
    const registers = Math.max(...operands.map((name) => elements[name]));
    const choose = (code: (name: Operand) => string) =>
      operands.length === 1
        ? code(operands[0])
        : `if (unit${p} < ${unitsOfA}u) {\n${code("a")}\n} else {\n${code("b")}\n}`;
    const place = (name: Operand) => {
      const unit = name === "a" ? `unit${p}` : `(unit${p} - ${unitsOfA}u)`;
      const base = name === "a" ? "rowBase" : "columnBase", vector = elements[name];
      // Neighbouring threads read neighbouring memory.
      const [q, x] = alongK[name] ? ["%", "/"] : ["/", "%"];
      const inner = alongK[name] ? groups : words[name];
      const row = name === "b" || inLast === vector
        ? `x${p} * ${vector}u`
        : `x${p} / ${perThread}u * ${threadM}u + x${p} % ${perThread}u * ${vector}u`;
      const [outer, along] = alongK[name]
        ? [`${base} + ${row}`, `kBegin / 4u + q${p}`]
        : [`kBegin + q${p} * 4u`, `(${base} + x${p} * ${vector}u) / 4u`];
      return `q${p} = ${unit} ${q} ${inner}u; x${p} = ${unit} ${x} ${inner}u;
at${p} = u.${name}Offset + (${outer}) * u.${name}Stride + ${along};` +
        (name === "b" ? ` x${p} += ${words.a}u;` : "");
    };
    const fetch = (name: Operand) => {
      const vector = elements[name];
      const element = (r: number, index: string) => {
        const value = `${name}[at${p} + ${index}]`;
        if (held !== STORED.u32) return `s${p}_${r} = ${value};`;
        return dtypes[name] === "f32"
          ? `s${p}_${r} = bitcast<vec4<u32>>(${value});`
          : `s${p}_${r} = vec4<u32>(${value}, 0u, 0u);`;
      };
      if (alongK[name]) {
        const rows = (from: number, to: number) =>
          repeat(to - from, (i) => element(from + i, `${from + i}u * u.${name}Stride`));
        const short = name === "a" && inLast < vector;
        const rest = !short
          ? rows(inLast, vector)
          : perThread > 1
          ? `if (x${p} % ${perThread}u < ${perThread - 1}u) {\n${rows(inLast, vector)}\n}`
          : "";
        return `${rows(0, inLast)}\n${rest}\nat${p} += ${groups}u;`;
      }
      const row = (k: number) =>
        repeat(vector / 4, (v) => element(k * vector / 4 + v, `${k}u * u.${name}Stride + ${v}u`));
      // Only the tokens, of which there are any number, end within a group of four.
      return repeat(
        4,
        (k) =>
          orientation === "tn" && k > 0
            ? `if (k0 + q${p} * 4u + ${k}u < kEnd) {\n${row(k)}\n}`
            : row(k),
      ) +
        `\nat${p} += ${blockK}u * u.${name}Stride;`;
    };
    const put = (name: Operand) =>
      `{\n${
        repeat(elements[name], (r) => {
          const value = unpacked(`s${p}_${r}`, dtypes[name], held, half, name === "a" ? scale : 1);
          return `let v${r} = ${value};`;
        })
      }
${repeat(4, (r) => `tile[${r}][q${p}][x${p}] = ${word(name, r, alongK[name], half)};`)}\n}`;
    const some = from + threads > units ? `unit${p} < ${units}u` : undefined;
    return {
      declare: `${repeat(registers, (r) => `var s${p}_${r} = ${held}();`)}
let unit${p} = thread + ${from}u;
var q${p} = 0u; var x${p} = 0u; var at${p} = 0u;
${choose(place)}`,
      load: `${repeat(registers, (r) => `s${p}_${r} = ${held}();`)}
if (k0 + q${p} * 4u < kEnd${some === undefined ? "" : ` && ${some}`}) {\n${choose(fetch)}\n}`,
      store: some === undefined ? choose(put) : `if (${some}) {\n${choose(put)}\n}`,
    };
  };
  const passes = range(Math.ceil(units / threads)).map(pass);
  const pitch = wordsAcross(tile, half);
  return {
    module: `${half ? PAIRS : "alias Word = vec4<f32>;"}
var<workgroup> tile: array<array<array<Word, ${pitch}>, ${groups}>, 4>;`,
    declare: passes.map(({ declare }) => declare).join("\n"),
    load: passes.map(({ load }) => load).join("\n"),
    store: passes.map(({ store }) => store).join("\n"),
  };
}
