/**
 * NF4, the 4-bit weights of QLoRA, code for code those of bitsandbytes: blocks of 64 along the flattened matrix, each
 * value a code of the sixteen numbers of {@linkcode NF4_VALUES}, times the block's largest magnitude. That is f32
 * (`nf4_f32`) or, with double quantisation (`nf4`), itself an 8-bit code of {@linkcode DYNAMIC_MAP} times a number for
 * 256 blocks, plus the mean of all.
 *
 * Codes lie as in bitsandbytes' files: two in a byte, the first in its upper half. Of double quantisation the second
 * tensor has 66 words for 256 blocks: four codes a word, from the lowest byte on, then their factor and the mean.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Binding } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { fourBitBinding, fourBitRow } from "./blocks.ts";
import {
  type EncodedPiece,
  type Encoder,
  type FlagPlace,
  type LoadWidth,
  packHalves,
  type Plane,
  type Registers,
  type RowLoad,
  type RowLoadWidth,
  type WeightKind,
} from "./kind.ts";
import { encodeBlocks, GROUP_WORDS, quantizeScales, WORK_BESIDE } from "./nf4_encode.ts";
import { DYNAMIC_MAP, NESTED_BLOCK, NF4_BLOCK, NF4_VALUES } from "./nf4_values.ts";
import { flagNotFinite } from "../elements/not_finite.ts";
import { flagScalesNotFinite } from "./scales_not_finite.ts";

/** The numbers that codes stand for: of values, then of blocks. */
const TABLE = Float32Array.from([...NF4_VALUES, ...DYNAMIC_MAP]);
/** Where the second begin. */
const SCALES_FROM = NF4_VALUES.length;

const blocksOf = (values: number) => Math.ceil(values / NF4_BLOCK);

/** The sixteen values in workgroup memory, where neighbouring threads read different ones at once. */
function sharedValues(name: string): string {
  return `\nvar<workgroup> ${name}_values: array<f32, ${NF4_VALUES.length}>;`;
}

/** NF4 with the blocks' numbers in either form. */
class Nf4 implements WeightKind {
  readonly columnUnit = 1;
  readonly encoder: Encoder;
  readonly rowWidths = [16, 8, 4] as const;
  readonly sharedBytes = NF4_VALUES.byteLength;
  readonly #double: boolean;

  constructor(readonly name: "nf4" | "nf4_f32") {
    this.#double = name === "nf4";
    this.encoder = {
      unit: () => NF4_BLOCK,
      workElements: (values) => this.#double ? blocksOf(values) + WORK_BESIDE : 0,
      encode: (gpu, tensors, piece) => this.#encode(gpu, tensors, piece),
    };
  }

  planes(): readonly Plane[] {
    const scales: Plane = this.#double
      ? { suffix: ".absmax", dtype: "u32", values: NF4_BLOCK * NESTED_BLOCK, elements: GROUP_WORDS }
      : { suffix: ".absmax", dtype: "f32", values: NF4_BLOCK, elements: 1 };
    return [
      { suffix: "", dtype: "u32", values: 8, elements: 1 },
      scales,
      { suffix: ".table", dtype: "f32", values: Infinity, elements: TABLE.length },
    ];
  }

  writeTables(gpu: Gpu, [, , table]: readonly Tensor[]): void {
    gpu.write(table, TABLE);
  }

  #encode(gpu: Gpu, [codes, scales]: readonly Tensor[], piece: EncodedPiece): void {
    const { first, count, values, work } = piece;
    if (!this.#double) return encodeBlocks(gpu, piece, codes, scales);
    if (work === undefined) throw new Error("nf4: no working memory to encode in");
    encodeBlocks(gpu, piece, codes, work);
    if (first + count === values) quantizeScales(gpu, { work, scales, values });
  }

  flagNotFinite(gpu: Gpu, [, scales]: readonly Tensor[], place: FlagPlace): void {
    if (!this.#double) return flagNotFinite(gpu, { x: scales, ...place });
    const at = NESTED_BLOCK / 4;
    flagScalesNotFinite(gpu, {
      scales,
      place: { words: GROUP_WORDS, at, type: "two f32" },
      ...place,
    });
  }

  bindings(name: string, width: RowLoadWidth): Binding[] {
    return [
      fourBitBinding(name, width),
      this.#double
        ? { name: `${name}_absmax`, dtype: "u32", access: "read", words: 2 }
        : { name: `${name}_absmax`, dtype: "f32", access: "read", scalar: true },
      { name: `${name}_table`, dtype: "f32", access: "read", scalar: true },
    ];
  }

  /** The function of a block's scale. */
  #scale(name: string): string {
    const scale = this.#double
      ? `
  let at = block / ${NESTED_BLOCK}u * ${GROUP_WORDS / 2}u;
  let word = ${name}_absmax[at + block % ${NESTED_BLOCK}u / 8u][block / 4u % 2u];
  let nested = bitcast<vec2<f32>>(${name}_absmax[at + ${NESTED_BLOCK / 8}u]);
  return ${name}_table[${SCALES_FROM}u + ((word >> (block % 4u * 8u)) & 255u)] * nested.x + nested.y;`
      : `\n  return ${name}_absmax[block];`;
    return `
fn ${name}_scale(block: u32) -> f32 {${scale}
}`;
  }

  functions(name: string, width: LoadWidth, shared = false): string {
    const table = shared ? "values" : "table";
    const codes = width === 8 ? `${name}[i]` : `(${name}[i / 2u] >> (i % 2u * 16u)) & 0xffffu`;
    const four = [4, 0, 12, 8].map((shift) => `${name}_${table}[(codes >> ${shift}u) & 15u]`);
    return `${this.#scale(name)}${shared ? sharedValues(name) : ""}
fn ${name}_codes(i: u32) -> vec2<u32> {
  return vec2<u32>(${codes}, bitcast<u32>(${name}_scale(i / ${NF4_BLOCK / width}u)));
}
fn ${name}_four(codes: u32) -> vec4<f32> {
  return vec4<f32>(${four.join(", ")});
}`;
  }

  setup(name: string, threads: number): string {
    const count = NF4_VALUES.length;
    return `
  for (var i = thread; i < ${count}u; i += ${threads}u) { ${name}_values[i] = ${name}_table[i]; }
  workgroupBarrier();
`;
  }

  rowLoad(name: string, width: RowLoadWidth): RowLoad {
    const { type, word } = fourBitRow(width);
    const codes = width === 4 ? `(${name}[i / 2u] >> (i % 2u * 16u)) & 0xffffu` : `${name}[i]`;
    return {
      functions: `${this.#scale(name)}${sharedValues(name)}
struct ${name}_load { codes: ${type}, scale: f32 }
fn load_of_${name}(i: u32) -> ${name}_load {
  return ${name}_load(${codes}, ${name}_scale(i / ${NF4_BLOCK / width}u));
}`,
      type: `${name}_load`,
      product: (x, w) => {
        const lines = x.map((four, p) => {
          const of = word(`${w}.codes`, p),
            [declare, assign] = p === 0 ? ["var ", "var sum = "] : ["", "sum += "];
          // All four bytes of a word at once, and of these the two that belong to x.
          const unpack = p % 2 === 1
            ? ""
            : `  ${declare}even = unpack4xU8((${of} >> 4u) & 0x0f0f0f0fu);
  ${declare}odd = unpack4xU8(${of} & 0x0f0f0f0fu);
`;
          const bytes = p % 2 === 0 ? [0, 1] : [2, 3];
          const values = bytes.flatMap((byte) =>
            ["even", "odd"].map((half) => `${name}_values[${half}[${byte}]]`)
          );
          return `${unpack}  ${assign}dot(${four}, vec4<f32>(${values.join(", ")}));`;
        });
        return `\n${lines.join("\n")}\n  return sum * ${w}.scale;\n`;
      },
      load: (index) => `load_of_${name}(${index})`,
    };
  }

  registers(): Registers {
    return { type: "vec2<u32>", count: 1 };
  }

  load(name: string, _width: LoadWidth, index: string): string {
    return `${name}_codes(${index})`;
  }

  unpack(name: string, width: LoadWidth, [register]: readonly string[]): string[] {
    const four = (codes: string) => `(${name}_four(${codes}) * bitcast<f32>(${register}.y))`;
    return width === 8
      ? [four(`${register}.x`), four(`${register}.x >> 16u`)]
      : [four(`${register}.x`)];
  }

  halves(name: string, registers: readonly string[]): string {
    return packHalves(this.unpack(name, 8, registers));
  }
}

/** The kinds: with double quantisation, and without. */
export const NF4: WeightKind = new Nf4("nf4"), NF4_F32: WeightKind = new Nf4("nf4_f32");
