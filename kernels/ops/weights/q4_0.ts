/**
 * GGUF's Q4_0: 4-bit weights in blocks of 32 along a row, each with a scale d in f16. A value is d · q, q from -8 to 7.
 *
 * Eight codes are a word, which are q in two's complement: byte j has that of value j in its lower half, that of
 * value 4 + j in its upper. So four of them become 16 · q as signed bytes at once.
 *
 * @module
 */
import { flagNotFinite } from "../elements/not_finite.ts";
import { checkBlocks, fourBitBinding, fourBitRow, fourBitWords } from "./blocks.ts";
import { packHalves, type RowLoadWidth, type WeightKind } from "./kind.ts";

/** Values of a block. */
const BLOCK = 32;

/** Four values of a word as signed bytes that are 16 times them: the first four, or the others. */
const bytes = (word: string, four: number) =>
  `vec4<f32>(unpack4xI8(${four % 2 === 0 ? `(${word} << 4u)` : word} & 0xf0f0f0f0u))`;

/** WGSL of the scale of load `i` of bytes. */
const scaleOf = (name: string, width: RowLoadWidth) => {
  const block = `i / ${BLOCK / width}u`;
  return `unpack2x16float(${name}_scale[${block} / 2u])[${block} % 2u] * 0.0625`;
};

/** The kind. */
export const Q4_0: WeightKind = {
  name: "q4_0",
  columnUnit: BLOCK,

  planes(columns) {
    checkBlocks(columns, BLOCK);
    return [
      { suffix: "", dtype: "u32", values: 8, elements: 1 },
      { suffix: ".scale", dtype: "f16", values: BLOCK, elements: 1 },
    ];
  },

  flagNotFinite(gpu, [, scales], at) {
    flagNotFinite(gpu, { x: scales, ...at });
  },

  bindings(name, width) {
    return [
      fourBitBinding(name, width),
      { name: `${name}_scale`, dtype: "f16", access: "read", words: 1 },
    ];
  },

  functions: (name, width) => `
fn ${name}_codes(i: u32) -> vec2<u32> {
  return vec2<u32>(${fourBitWords(name, width)}, bitcast<u32>(${scaleOf(name, width)}));
}`,
  registers: () => ({ type: "vec2<u32>", count: 1 }),
  load: (name, _width, index) => `${name}_codes(${index})`,
  unpack(_name, width, [register]) {
    return Array.from(
      { length: width / 4 },
      (_, four) => `(${bytes(`${register}.x`, four)} * bitcast<f32>(${register}.y))`,
    );
  },
  halves(name, registers) {
    return packHalves(this.unpack(name, 8, registers));
  },

  sharedBytes: 0,

  rowWidths: [16, 8, 4],
  rowLoad(name, width) {
    const { type, word } = fourBitRow(width);
    return {
      functions: `
fn load_of_${name}(i: u32) -> ${type} { return ${fourBitWords(name, width)}; }
fn scale_of_${name}(i: u32) -> vec2<u32> {
  let block = i / ${BLOCK / width}u;
  return vec2<u32>(${name}_scale[block / 2u], block % 2u * 16u);
}`,
      type,
      load: (index) => `load_of_${name}(${index})`,
      product: (x, w) => {
        const sum = x.map((x, p) => `dot(${x}, ${bytes(word(w, p), p)})`).join(" + ");
        return `return ${sum};`;
      },
      scale: {
        loads: BLOCK / width,
        type: "vec2<u32>",
        load: (index) => `scale_of_${name}(${index})`,
        value: (registers) => `(unpack2x16float(${registers}.x >> ${registers}.y).x * 0.0625)`,
      },
    };
  },
};
