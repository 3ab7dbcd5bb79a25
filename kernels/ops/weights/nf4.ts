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
  type RowScale,
  type TileLoad,
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
      { name: `${name}_absmax`, dtype: this.#double ? "u32" : "f32", access: "read", scalar: true },
      { name: `${name}_table`, dtype: "f32", access: "read", scalar: true },
    ];
  }

  /**
   * WGSL of what memory has of load `i` beside its codes: `word`, `rest` and `nested`, each a u32. Nothing is made of what
   * is loaded, as registers are not to wait for memory. `rest` is where the codes begin in their word, and from bit 8 on
   * where the scale's code begins; `nested` where its factor is, which is never at 0.
   */
  #scaleWords(name: string, width: RowLoadWidth): { word: string; rest: string; nested: string } {
    const block = `(i / ${NF4_BLOCK / width}u)`, from = width === 4 ? "i % 2u * 16u" : "0u";
    if (!this.#double) {
      return { word: `bitcast<u32>(${name}_absmax[${block}])`, rest: from, nested: "0u" };
    }
    const group = `${block} / ${NESTED_BLOCK}u * ${GROUP_WORDS}u`;
    return {
      word: `${name}_absmax[${group} + ${block} % ${NESTED_BLOCK}u / 4u]`,
      rest: `(${from}) | ((${block} % 4u * 8u) << 8u)`,
      nested: `${group} + ${NESTED_BLOCK / 4}u`,
    };
  }

  /** The function that makes a scale of these words; of zeros it makes zero. */
  #scale(name: string): string {
    const scale = this.#double
      ? `
  let code = (word >> (rest >> 8u)) & 255u;
  let scale = ${name}_table[${SCALES_FROM}u + code] * bitcast<f32>(${name}_absmax[nested]) +
    bitcast<f32>(${name}_absmax[nested + 1u]);
  return select(0.0, scale, nested != 0u);`
      : `\n  return bitcast<f32>(word);`;
    return `
fn ${name}_scale(word: u32, rest: u32, nested: u32) -> f32 {${scale}
}`;
  }

  functions(name: string, width: LoadWidth, shared = false): string {
    const table = shared ? "values" : "table",
      { word, rest, nested } = this.#scaleWords(name, width);
    const four = [4, 0, 12, 8].map((shift) => `${name}_${table}[(codes >> ${shift}u) & 15u]`);
    return `${this.#scale(name)}${shared ? sharedValues(name) : ""}
fn ${name}_codes(i: u32) -> vec4<u32> {
  return vec4<u32>(${name}[i / ${8 / width}u], ${word}, ${rest}, ${nested});
}
fn ${name}_four(codes: u32) -> vec4<f32> {
  return vec4<f32>(${four.join(", ")});
}
fn ${name}_first(w: vec4<u32>) -> vec4<f32> {
  return ${name}_four(w.x >> (w.z & 255u)) * ${name}_scale(w.y, w.z, w.w);
}
fn ${name}_second(w: vec4<u32>) -> vec4<f32> {
  return ${name}_four(w.x >> 16u) * ${name}_scale(w.y, w.z, w.w);
}
fn ${name}_halves(w: vec4<u32>) -> vec4<u32> {
  let scale = ${name}_scale(w.y, w.z, w.w);
  let first = ${name}_four(w.x) * scale;
  let second = ${name}_four(w.x >> 16u) * scale;
  return ${packHalves(["first", "second"])};
}`;
  }

  setup(name: string, threads: number): string {
    const count = NF4_VALUES.length;
    return `
  for (var i = thread; i < ${count}u; i += ${threads}u) { ${name}_values[i] = ${name}_table[i]; }
  workgroupBarrier();
`;
  }

  rowLoad(name: string, width: RowLoadWidth): RowLoad & { scale: RowScale } {
    const { type, word } = fourBitRow(width);
    const codes = width === 4 ? `(${name}[i / 2u] >> (i % 2u * 16u)) & 0xffffu` : `${name}[i]`;
    return {
      functions: `${sharedValues(name)}
fn load_of_${name}(i: u32) -> ${type} {
  return ${codes};
}${this.#rowScale(name, width)}`,
      type,
      load: (index) => `load_of_${name}(${index})`,
      product: (x, w) => {
        const lines = x.map((four, p) => {
          const of = word(w, p),
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
        return `\n${lines.join("\n")}\n  return sum;\n`;
      },
      scale: {
        loads: NF4_BLOCK / width,
        type: this.#double ? "vec4<u32>" : "f32",
        load: (index) => `scale_of_${name}(${index})`,
        value: (registers) => this.#double ? `${name}_scale_value(${registers})` : registers,
      },
    };
  }

  tileLoad(name: string): TileLoad {
    const load = this.rowLoad(name, 8);
    const pair = (j: number) =>
      `pack2x16float(vec2<f32>(${name}_values[even[${j}]], ${name}_values[odd[${j}]]) * scale)`;
    return {
      ...load,
      functions: `${load.functions}
fn ${name}_eight(codes: u32, scale: f32) -> vec4<u32> {
  let even = unpack4xU8((codes >> 4u) & 0x0f0f0f0fu);
  let odd = unpack4xU8(codes & 0x0f0f0f0fu);
  return vec4<u32>(${[0, 1, 2, 3].map(pair).join(", ")});
}`,
      halves: (codes, scale) => `${name}_eight(${codes}, ${scale})`,
    };
  }

  /** WGSL of the scale of a load: what memory has of it, and the number that this makes. */
  #rowScale(name: string, width: RowLoadWidth): string {
    const block = `i / ${NF4_BLOCK / width}u`;
    if (!this.#double) {
      return `
fn scale_of_${name}(i: u32) -> f32 { return ${name}_absmax[${block}]; }`;
    }
    return `
fn scale_of_${name}(i: u32) -> vec4<u32> {
  let block = ${block};
  let at = block / ${NESTED_BLOCK}u * ${GROUP_WORDS}u;
  return vec4<u32>(
    ${name}_absmax[at + block % ${NESTED_BLOCK}u / 4u],
    block % 4u * 8u,
    ${name}_absmax[at + ${NESTED_BLOCK / 4}u],
    ${name}_absmax[at + ${NESTED_BLOCK / 4 + 1}u],
  );
}
fn ${name}_scale_value(w: vec4<u32>) -> f32 {
  let code = ${name}_table[${SCALES_FROM}u + ((w.x >> w.y) & 255u)];
  return code * bitcast<f32>(w.z) + bitcast<f32>(w.w);
}`;
  }

  registers(): Registers {
    return { type: "vec4<u32>", count: 1 };
  }

  load(name: string, _width: LoadWidth, index: string): string {
    return `${name}_codes(${index})`;
  }

  unpack(name: string, width: LoadWidth, [register]: readonly string[]): string[] {
    const first = `${name}_first(${register})`;
    return width === 8 ? [first, `${name}_second(${register})`] : [first];
  }

  halves(name: string, [register]: readonly string[]): string {
    return `${name}_halves(${register})`;
  }
}

/** The kinds: with double quantisation, and without. */
export const NF4: WeightKind = new Nf4("nf4"), NF4_F32: WeightKind = new Nf4("nf4_f32");
