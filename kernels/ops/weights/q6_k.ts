/**
 * GGUF's Q6_K: 6-bit weights in blocks of 256 along a row, each of sixteen groups of 16. A value is (d · scale) · q, with
 * d of the block in f16, the group's scale a signed byte, and q from -32 to 31.
 *
 * Codes are q in two's complement. Their lower four bits are in the first tensor, eight codes a word: byte j has those
 * of value j in its lower half, those of value 4 + j in its upper. The upper two bits are in the second, sixteen codes a
 * word: byte j has those of values j, 4 + j, 8 + j and 12 + j from the lowest bit on. So four codes become 4 · q as signed
 * bytes at once. The third tensor has five words for a block: its scales, and d in f32.
 *
 * @module
 */
import { checkBlocks, fourBitBinding, fourBitRow, fourBitWords } from "./blocks.ts";
import { packHalves, type RowLoadWidth, type WeightKind } from "./kind.ts";
import { flagScalesNotFinite } from "./scales_not_finite.ts";

/** Values of a block, and of a group. */
const BLOCK = 256, GROUP = 16;
/** Words of a block's numbers. */
const WORDS = 5;

/** The codes of the four values `four` of sixteen as signed bytes that are 4 times them. */
const bytes = (low: string, high: string, four: number) =>
  `(((${low} ${four % 2 === 0 ? "<<" : ">>"} 2u) & 0x3c3c3c3cu) | ` +
  `((${high} << ${6 - 2 * four}u) & 0xc0c0c0c0u))`;

/** WGSL of the lower and of the upper bits of load `i`, in the lowest places. */
function bitsOf(name: string, width: RowLoadWidth): [low: string, high: string] {
  const part = GROUP / width;
  return [
    fourBitWords(name, width),
    part === 1 ? `${name}_high[i]` : `${name}_high[i / ${part}u] >> (i % ${part}u * ${8 / part}u)`,
  ];
}

/** WGSL of a quarter of a group's scale times the block's. */
const scaleFunction = (name: string) => `
fn ${name}_group(group: u32) -> f32 {
  let block = group / ${BLOCK / GROUP}u * ${WORDS}u;
  let scales = bitcast<i32>(${name}_scale[block + group % ${BLOCK / GROUP}u / 4u]);
  let scale = f32(extractBits(scales, group % 4u * 8u, 8u));
  return bitcast<f32>(${name}_scale[block + ${WORDS - 1}u]) * scale * 0.25;
}`;

/** The kind. */
export const Q6_K: WeightKind = {
  name: "q6_k",
  columnUnit: BLOCK,

  planes(columns) {
    checkBlocks(columns, BLOCK);
    return [
      { suffix: "", dtype: "u32", values: 8, elements: 1 },
      { suffix: ".high", dtype: "u32", values: 16, elements: 1 },
      { suffix: ".scale", dtype: "u32", values: BLOCK, elements: WORDS },
    ];
  },

  flagNotFinite(gpu, [, , scales], at) {
    flagScalesNotFinite(gpu, {
      scales,
      place: { words: WORDS, at: WORDS - 1, type: "f32" },
      ...at,
    });
  },

  bindings(name, width) {
    return [
      fourBitBinding(name, width),
      { name: `${name}_high`, dtype: "u32", access: "read", words: 1 },
      { name: `${name}_scale`, dtype: "u32", access: "read", scalar: true },
    ];
  },

  functions(name, width) {
    const [low, high] = bitsOf(name, width);
    const words = Array.from({ length: width / 4 }, (_, four) => bytes("low", "high", four));
    const type = width === 8 ? "vec4" : "vec2", rest = width === 8 ? ", 0u" : "";
    return `${scaleFunction(name)}
fn ${name}_codes(i: u32) -> ${type}<u32> {
  let low = ${low};
  let high = ${high};
  let scale = bitcast<u32>(${name}_group(i / ${GROUP / width}u));
  return ${type}<u32>(${words.join(", ")}, scale${rest});
}`;
  },
  registers: (width) => ({ type: width === 8 ? "vec4<u32>" : "vec2<u32>", count: 1 }),
  load: (name, _width, index) => `${name}_codes(${index})`,
  unpack(_name, width, [register]) {
    const four = (code: string, scale: string) =>
      `(vec4<f32>(unpack4xI8(${register}.${code})) * bitcast<f32>(${register}.${scale}))`;
    return width === 8 ? [four("x", "z"), four("y", "z")] : [four("x", "y")];
  },
  halves(name, registers) {
    return packHalves(this.unpack(name, 8, registers));
  },

  sharedBytes: 0,

  rowWidths: [16, 8, 4],
  rowLoad(name, width) {
    const [low, high] = bitsOf(name, width), { type, word } = fourBitRow(width);
    return {
      functions: `${scaleFunction(name)}
struct ${name}_load { low: ${type}, high: u32, scale: f32 }
fn load_of_${name}(i: u32) -> ${name}_load {
  return ${name}_load(${low}, ${high}, ${name}_group(i / ${GROUP / width}u));
}`,
      type: `${name}_load`,
      load: (index) => `load_of_${name}(${index})`,
      product: (x, w) => {
        const four = (p: number) =>
          `vec4<f32>(unpack4xI8(${bytes(word(`${w}.low`, p), `${w}.high`, p)}))`;
        const sum = x.map((x, p) => `dot(${x}, ${four(p)})`).join(" + ");
        return `return (${sum}) * ${w}.scale;`;
      },
    };
  },
};
