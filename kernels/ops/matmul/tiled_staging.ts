/**
 * How a workgroup of {@linkcode tiledMatmul} brings tiles of A and B into workgroup memory: WGSL that
 * loads a thread's share into registers, and WGSL that puts it into the tile.
 *
 * A tile holds words of 16 bytes, A's first, then B's: neighbouring rows of A or columns of B at one value of
 * k. Of f32 a word has four. Of f16 it has eight columns of B, in pairs, and four rows of A, each twice: a pair of
 * results is then a multiply-add of pairs. Spreading a number over a pair would take as long as a multiply-add. A
 * share is a number of units, each a word at four values of k. Where memory runs along k,
 * a unit is transposed on its way. Registers hold values as stored in memory until these are put into the tile:
 * converting at once would wait for the load.
 *
 * @module
 */
import { repeat } from "../../wgsl/repeat.ts";
import type { Float } from "../numerics.ts";
import { asWords, fromWords, type Registers, type WeightKind } from "../weights/kind.ts";
import type { Orientation } from "./orientation.ts";
import {
  columnsOfWord,
  ROWS_OF_WORD,
  type Tile,
  wordsAcross,
  wordsOfA,
  workgroupThreads,
} from "./tiled_geometry.ts";

/** What the staging of a tile depends on. */
export interface TileStaging {
  orientation: Orientation;
  /** How A and B are stored. */
  a: WeightKind;
  b: WeightKind;
  /** Element type of the tile. */
  operands: Float;
  tile: Tile;
}

/** WGSL of a tile. The code sees `thread`, `rowBase`, `columnBase`, `kBegin`, `kEnd` and `k0`. */
export interface TileStagingCode {
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
export const F16_RANGE = 32;

const range = (count: number) => Array.from({ length: count }, (_, i) => i);
const list = (count: number, item: (i: number) => string) => range(count).map(item).join(", ");

const PAIRS = "struct Word { x: vec2<f16>, y: vec2<f16>, z: vec2<f16>, w: vec2<f16> }";

/**
 * Factor of A in f16 sums. The loss scale brings gradients near the largest f16, and sums of {@linkcode F16_RANGE} of
 * them beyond it, so a gradient A is scaled down.
 */
export function f16Scale(
  { orientation, operands }: Pick<TileStaging, "orientation" | "operands">,
): number {
  return operands === "f16" && orientation !== "nt" ? 1 / F16_RANGE : 1;
}

/** One operand's units. */
interface Units {
  name: "a" | "b";
  kind: WeightKind;
  /** The register of four of its values. */
  type: Registers["type"];
  /** Memory runs along k. */
  alongK: boolean;
  /** Rows of A or columns of B in a word. */
  vector: number;
  /** Words of the tile at one value of k. */
  words: number;
  /** The first row or column of the workgroup. */
  base: string;
  /** Values are multiplied by it. */
  scale: number;
}

/** The units of a tile. */
interface Plan extends TileStaging {
  threads: number;
  /** Groups of four values of k. */
  groups: number;
  /** Words of a thread's rows of A, and the rows in the last of them. */
  perThread: number;
  inLast: number;
  unitsOfA: number;
  units: number;
  operandA: Units;
  operandB: Units;
}

function planUnits(staging: TileStaging): Plan {
  const { orientation, a, b, operands, tile } = staging, { blockN, blockK, threadM } = tile;
  const groups = blockK / 4, columns = columnsOfWord(operands);
  const perThread = Math.ceil(threadM / ROWS_OF_WORD);
  const operandA: Units = {
    name: "a",
    kind: a,
    type: a.registers(4).type,
    alongK: orientation !== "tn",
    vector: ROWS_OF_WORD,
    words: wordsOfA(tile),
    base: "rowBase",
    scale: f16Scale(staging),
  };
  const operandB: Units = {
    name: "b",
    kind: b,
    type: b.registers(4).type,
    alongK: orientation === "nt",
    vector: columns,
    words: blockN / columns,
    base: "columnBase",
    scale: 1,
  };
  return {
    ...staging,
    threads: workgroupThreads(tile),
    groups,
    perThread,
    inLast: threadM - (perThread - 1) * ROWS_OF_WORD,
    unitsOfA: operandA.words * groups,
    units: (operandA.words + operandB.words) * groups,
    operandA,
    operandB,
  };
}

/** Where the unit of pass p lies in memory and in the tile: `at`, and `q` and `x`. */
function place(
  { groups, unitsOfA, perThread, inLast, tile, operandA }: Plan,
  { name, alongK, vector, words, base }: Units,
  p: number,
): string {
  const unit = name === "a" ? `unit${p}` : `(unit${p} - ${unitsOfA}u)`;
  // Neighbouring threads read neighbouring memory.
  const [q, x] = alongK ? ["%", "/"] : ["/", "%"];
  const inner = alongK ? groups : words;
  const row = name === "b" || inLast === vector
    ? `x${p} * ${vector}u`
    : `x${p} / ${perThread}u * ${tile.threadM}u + x${p} % ${perThread}u * ${vector}u`;
  const [outer, along] = alongK
    ? [`${base} + ${row}`, `kBegin / 4u + q${p}`]
    : [`kBegin + q${p} * 4u`, `(${base} + x${p} * ${vector}u) / 4u`];
  return `q${p} = ${unit} ${q} ${inner}u; x${p} = ${unit} ${x} ${inner}u;
at${p} = u.${name}Offset + (${outer}) * u.${name}Stride + ${along};` +
    (name === "b" ? ` x${p} += ${operandA.words}u;` : "");
}

/** Loads the unit of pass p into registers of type `registerType`. */
function fetch(
  { orientation, groups, perThread, inLast, tile }: Plan,
  { name, kind, type, alongK, vector }: Units,
  { p, registerType }: { p: number; registerType: Registers["type"] },
): string {
  const element = (r: number, index: string) => {
    const value = kind.load(name, 4, `at${p} + ${index}`, 0);
    return `s${p}_${r} = ${registerType === type ? value : asWords(type, value)};`;
  };
  if (alongK) {
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
    `\nat${p} += ${tile.blockK}u * u.${name}Stride;`;
}

/** The word at k = 4·q + r of a unit whose registers hold `v0`, `v1`, …. */
function word({ name, alongK }: Units, r: number, operands: Float): string {
  if (operands === "f32") {
    return alongK ? `vec4<f32>(${list(4, (i) => `v${i}[${r}]`)})` : `v${r}`;
  }
  /** Element i of the word: a row of A or a column of B. */
  const element = (i: number) =>
    alongK ? `v${i}[${r}]` : name === "a" ? `v${r}[${i}]` : `v${2 * r + (i >> 2)}[${i % 4}]`;
  return `Word(${
    list(4, (i) => {
      const [low, high] = name === "a" ? [i, i] : [2 * i, 2 * i + 1];
      return `vec2<f16>(${element(low)}, ${element(high)})`;
    })
  })`;
}

/** Puts the unit of pass p, in registers of type `registerType`, into the tile. */
function put(
  { operands }: Plan,
  units: Units,
  { p, registerType }: { p: number; registerType: Registers["type"] },
): string {
  const { kind, type, vector, scale } = units;
  const values = repeat(vector, (r) => {
    const register = `s${p}_${r}`;
    const [floats] = kind.unpack(units.name, 4, [
      registerType === type ? register : fromWords(type, register),
    ]);
    const value = operands === "f32"
      ? floats
      : `vec4<f16>(${floats})${scale === 1 ? "" : ` * ${scale}h`}`;
    return `let v${r} = ${value};`;
  });
  return `{\n${values}
${repeat(4, (r) => `tile[${r}][q${p}][x${p}] = ${word(units, r, operands)};`)}\n}`;
}

/** One unit a thread: units of A, units of B, or both where the boundary falls between threads. */
function pass(plan: Plan, p: number): Omit<TileStagingCode, "module"> {
  const { threads, units, unitsOfA, operandA, operandB } = plan;
  const from = p * threads, to = Math.min(from + threads, units);
  const operandsOfPass = [
    ...from < unitsOfA ? [operandA] : [],
    ...to > unitsOfA ? [operandB] : [],
  ];
  const [{ type }] = operandsOfPass, isMixed = operandsOfPass.some((other) => other.type !== type);
  const registers = { p, registerType: isMixed ? "vec4<u32>" as const : type };
  const count = Math.max(...operandsOfPass.map(({ vector }) => vector));
  const choose = (code: (units: Units) => string) => {
    const codes = operandsOfPass.map(code);
    return codes.length === 1
      ? codes[0]
      : `if (unit${p} < ${unitsOfA}u) {\n${codes[0]}\n} else {\n${codes[1]}\n}`;
  };
  const some = from + threads > units ? `unit${p} < ${units}u` : undefined;
  const stored = choose((units) => put(plan, units, registers));
  return {
    declare: `${repeat(count, (r) => `var s${p}_${r} = ${registers.registerType}();`)}
let unit${p} = thread + ${from}u;
var q${p} = 0u; var x${p} = 0u; var at${p} = 0u;
${choose((units) => place(plan, units, p))}`,
    load: `${repeat(count, (r) => `s${p}_${r} = ${registers.registerType}();`)}
if (k0 + q${p} * 4u < kEnd${some === undefined ? "" : ` && ${some}`}) {\n${
      choose((units) => fetch(plan, units, registers))
    }\n}`,
    store: some === undefined ? stored : `if (${some}) {\n${stored}\n}`,
  };
}

/** The staging of a tile. */
export function tileStaging(staging: TileStaging): TileStagingCode {
  const plan = planUnits(staging), { operands, tile } = staging;
  const passes = range(Math.ceil(plan.units / plan.threads)).map((p) => pass(plan, p));
  return {
    module: `${operands === "f16" ? PAIRS : "alias Word = vec4<f32>;"}
var<workgroup> tile: array<array<array<Word, ${wordsAcross(tile, operands)}>, ${plan.groups}>, 4>;`,
    declare: passes.map(({ declare }) => declare).join("\n"),
    load: passes.map(({ load }) => load).join("\n"),
    store: passes.map(({ store }) => store).join("\n"),
  };
}
