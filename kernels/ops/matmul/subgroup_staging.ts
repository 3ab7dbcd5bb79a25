/**
 * How tiles of A and B get to workgroup memory as f16, in words of eight: every thread loads some words into
 * registers and stores them later.
 *
 * @module
 */
import { greatestCommonDivisor } from "../../gpu/tensor.ts";
import { repeat } from "../../wgsl/repeat.ts";
import type { TileLoad, WeightKind } from "../weights/kind.ts";

/** A tile of A or B in workgroup memory. Its rows are rows of A or B where memory runs along k, otherwise rows of k. */
export interface StagedTile {
  alongK: boolean;
  rows: number;
  /** Words of a row, and from a row to the next. */
  words: number;
  stride: number;
  /** Words in all. */
  size: number;
}

/** The tile of an operand of which a workgroup takes `width` rows or columns, `blockK` deep. */
export function stagedTile(alongK: boolean, width: number, blockK: number): StagedTile {
  const rows = alongK ? width : blockK, words = (alongK ? blockK : width) / 8;
  return { alongK, rows, words, stride: words + 1, size: rows * (words + 1) };
}

/** Code that moves a thread's words of an operand's tiles. */
export interface Staging {
  declare: string;
  /** Loads the tile at k = kLoad into a set of registers; with {@linkcode pairStaging} two tiles. */
  load(set: number): string;
  /** Stores tile `set` of the tiles in registers in workgroup memory. */
  store(set: number): string;
}

/** How an operand is stored, where its tile begins in workgroup memory, and the threads and registers that fill it. */
interface StagingOptions {
  kind: WeightKind;
  /** The first word. */
  first: number;
  threads: number;
  /** Whether K may end within a tile, whose values beyond kEnd are then zero. */
  ragged: boolean;
}

/** The row or column of the operand where the workgroup's begin, and how many there are in all. */
const RANGES = { a: ["rowBase", "u.m"], b: ["columnBase", "u.n"] } as const;

/**
 * The row of a tile that a thread's word is in. Eight neighbouring threads store two rows of four words: rows r and
 * r + 4, which meet in no bank.
 */
function rowOf({ alongK, words }: StagedTile, row: string): string {
  return alongK && words === 4
    ? `((${row}) & ~7u) | ((${row}) % 2u * 4u) | ((${row}) / 2u % 4u)`
    : row;
}

/** Where a word of a tile is in the operand. Past its last row that row is read again; its results are not stored. */
function wordIndex(name: "a" | "b", { alongK }: StagedTile, row: string, word: string): string {
  const [base, limit] = RANGES[name];
  return alongK
    ? `(u.${name}Offset + min(${base} + ${row}, ${limit} - 1u) * u.${name}Stride) / 2u + ${word}`
    : `(u.${name}Offset + (${row}) * u.${name}Stride) / 2u` +
      ` + min(${base} / 8u + ${word}, ${limit} / 8u - 1u)`;
}

/**
 * How the threads of a workgroup share an operand's tile. Each of `sets` sets of registers holds one.
 *
 * @throws {Error} where the threads can't share the tile evenly.
 */
export function staging(
  name: "a" | "b",
  tile: StagedTile,
  { first, kind, threads, ragged, sets }: StagingOptions & { sets: number },
): Staging {
  const { alongK, rows, words, stride } = tile, count = rows * words / threads;
  if (!Number.isInteger(count)) {
    throw new Error(`${threads} threads can't share ${rows} rows of ${words} words`);
  }
  // After so many of a thread's words the pattern repeats some rows below.
  const period = words / greatestCommonDivisor(words, threads);
  const { type, count: registers } = kind.registers(8);
  const register = (set: number, s: number, r: number) => `${name}${set}_${s}_${r}`;
  const shares = Array.from({ length: count }, (_, s) => {
    const below = Math.floor(s / period) * period * threads / words;
    const row = `${name}Row${s % period} + ${below}u`, word = `${name}Word${s % period}`;
    return {
      s,
      row,
      word,
      at: `${name}At${s}`,
      put: `${name}Put${s % period} + ${below * stride}u`,
    };
  });
  const declare = repeat(Math.min(period, count), (e) => `
let ${name}Row${e} = ${rowOf(tile, `(thread + ${e * threads}u) / ${words}u`)};
let ${name}Word${e} = (thread + ${e * threads}u) % ${words}u;
let ${name}Put${e} = ${first}u + ${name}Row${e} * ${stride}u + ${name}Word${e};`) +
    shares.map(({ s, row, word, at }) => {
      const index = wordIndex(name, tile, row, word);
      return `let ${at} = ${index};\n` +
        repeat(
          sets,
          (set) => repeat(registers, (r) => `var ${register(set, s, r)} = ${type}();`),
        ) + "\n";
    }).join("");
  const load = (set: number) =>
    shares.map(({ s, row, word, at }) =>
      repeat(registers, (r) => {
        const target = register(set, s, r);
        const index = `${at} + ${alongK ? "kLoad / 8u" : `kLoad * u.${name}Stride / 2u`}`;
        const source = kind.load(name, 8, index, r);
        const k = `kLoad + ${alongK ? `${word} * 8u` : row}`;
        return ragged
          ? `if (${k} < kEnd) { ${target} = ${source}; } else { ${target} = ${type}(); }`
          : `${target} = ${source};`;
      })
    ).join("\n");
  const store = (set: number) =>
    shares.map(({ s, put }) => {
      const loaded = Array.from({ length: registers }, (_, r) => register(set, s, r));
      return `tile[${put}] = ${kind.halves(name, loaded)};`;
    }).join("\n");
  return { declare, load, store };
}

/**
 * The same for codes, of whose loads neighbours have one scale: a thread makes the scales of some of its words, and has
 * the others from the lanes beside it, whose words at the same place are of the same block.
 *
 * @throws {Error} where the threads can't share the tile evenly.
 */
export function codeStaging(
  name: "a" | "b",
  tile: StagedTile,
  { first, load: { type, load: loadOf, scale, halves }, threads, ragged, sets }:
    & Omit<StagingOptions, "kind">
    & { sets: number; load: TileLoad },
): Staging {
  const { alongK, rows, words, stride } = tile, count = rows * words / threads;
  const lanes = Math.min(scale.loads, greatestCommonDivisor(words, 8));
  if (!Number.isInteger(count)) {
    throw new Error(`${threads} threads can't share ${rows} rows of ${words} words`);
  }
  /** A word of the tile, of those that the threads share: where it is in the operand. */
  const placed = (to: string, unit: string) =>
    `let ${to}Row = ${rowOf(tile, `(${unit}) / ${words}u`)};
let ${to}Word = (${unit}) % ${words}u;
let ${to}At = ${wordIndex(name, tile, `${to}Row`, `${to}Word`)};`;
  const loaded = (
    to: string,
    register: string,
    { type, source }: { type: string; source: (index: string) => string },
  ) => {
    const value = source(`${to}At + ${alongK ? "kLoad / 8u" : `kLoad * u.${name}Stride / 2u`}`);
    const k = `kLoad + ${alongK ? `${to}Word * 8u` : `${to}Row`}`;
    return ragged
      ? `if (${k} < kEnd) { ${register} = ${value}; } else { ${register} = ${type}(); }`
      : `${register} = ${value};`;
  };
  const each = Array.from({ length: count }, (_, s) => `${name}Code${s}`);
  const scales = Array.from({ length: Math.ceil(count / lanes) }, (_, g) => `${name}Scale${g}`);
  const all = [
    ...each.map((to) => ({ to, type, load: loadOf })),
    ...scales.map((to) => ({ to, type: scale.type, load: scale.load })),
  ];
  const declare = `
let ${name}Lane = thread % ${lanes}u;
${each.map((to, s) => placed(to, `thread + ${s * threads}u`)).join("\n")}
${each.map((to) => `let ${to}Put = ${first}u + ${to}Row * ${stride}u + ${to}Word;`).join("\n")}
${
    scales.map((to, g) =>
      placed(to, `thread + min(${g * lanes}u + ${name}Lane, ${count - 1}u) * ${threads}u`)
    ).join("\n")
  }
${repeat(sets, (set) => all.map(({ to, type }) => `var ${to}_${set} = ${type}();`).join("\n"))}
`;
  const load = (set: number) =>
    all.map(({ to, type, load }) => loaded(to, `${to}_${set}`, { type, source: load })).join("\n");
  const store = (set: number) =>
    `{
let neighbour = lane - ${name}Lane;
${scales.map((to) => `let ${to}Value = ${scale.value(`${to}_${set}`)};`).join("\n")}
${
      each.map((to, s) => {
        const own = `${scales[Math.floor(s / lanes)]}Value`;
        const factor = lanes === 1 ? own : `subgroupShuffle(${own}, neighbour + ${s % lanes}u)`;
        return `tile[${to}Put] = ${halves(`${to}_${set}`, factor)};`;
      }).join("\n")
    }
}`;
  return { declare, load, store };
}

/**
 * The same for an operand that runs along k, eight values of which are in one register, two tiles at a time: memory
 * is read in rows twice as long.
 * With tiles of 32 values of K of f16 these are the 128 bytes of a cache line, and `nt` makes 339 TFLOP/s at 4096³
 * instead of 295. A thread loads a word x of row r and a word y of row r + 4, one of either tile, so that
 * those that store a tile together meet in no bank.
 *
 * @throws {Error} where the threads can't share the tiles evenly.
 */
export function pairStaging(
  name: "a" | "b",
  { rows, words, stride }: StagedTile,
  { first, kind, threads, ragged }: StagingOptions,
): Staging {
  const { type } = kind.registers(8);
  const below = threads / words, count = rows / below;
  if (!Number.isInteger(count)) {
    throw new Error(`${threads} threads can't share ${rows} rows of ${2 * words} words`);
  }
  const [base, limit] = RANGES[name];
  const loaded = Array.from({ length: count }, (_, s) => [
    { register: `${name}X${s}`, row: s * below, word: `${name}Word` },
    { register: `${name}Y${s}`, row: s * below + 4, word: `(${name}Word ^ ${words}u)` },
  ]);
  const put = (tile: number) => {
    const row = tile === 0 ? `select(4u, 0u, ${name}Low)` : `select(0u, 4u, ${name}Low)`;
    return `let ${name}Put${tile} = ${first}u + (${name}Row + ${row}) * ${stride}u` +
      ` + ${name}Word % ${words}u;\n`;
  };
  const declare = `
let ${name}Word = thread % ${2 * words}u;
let ${name}Low = ${name}Word < ${words}u; // whether x is of the first tile
let ${name}Row = thread / ${2 * words}u % 4u + thread / ${8 * words}u * 8u;
${put(0)}${put(1)}` +
    loaded.flat().map(({ register, row, word }) =>
      `
let ${register}At = (u.${name}Offset + min(${base} + ${name}Row + ${row}u, ${limit} - 1u)` +
      ` * u.${name}Stride) / 2u + ${word};
var ${register} = ${type}();`
    ).join("") + "\n";
  const load = () =>
    loaded.flat().map(({ register, word }) => {
      const source = kind.load(name, 8, `${register}At + kLoad / 8u`, 0);
      return ragged
        ? `if (kLoad + ${word} * 8u < kEnd) { ${register} = ${source}; }` +
          ` else { ${register} = ${type}(); }`
        : `${register} = ${source};`;
    }).join("\n");
  const store = (tile: number) =>
    loaded.map(([x, y], s) => {
      const [ifFirst, ifNot] = (tile === 0 ? [x, y] : [y, x]).map(({ register }) => register);
      const value = kind.halves(name, [`select(${ifNot}, ${ifFirst}, ${name}Low)`]);
      return `tile[${name}Put${tile} + ${s * below * stride}u] = ${value};`;
    }).join("\n");
  return { declare, load, store };
}
