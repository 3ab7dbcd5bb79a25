/**
 * GGUF's Q4_K: 4-bit weights in blocks of 256 along a row, each of eight groups of 32. A value is
 * (d · scale) · q - dmin · minimum, with d and dmin of the block in f16, scale and minimum of the group in six bits,
 * and q from 0 to 15. A product of d, scale and q has 21 bits and is exact in f32, so that a multiplication fused with
 * the subtraction gives the same.
 *
 * Eight codes are a word: byte j has that of value j in its lower half, that of value 4 + j in its upper. The second
 * tensor has four words for a block: d and dmin; then, four bits a group from the lowest on, the lower four bits of the
 * scales, those of the minima, and the upper two bits of both, the scale's first.
 *
 * @module
 */
import { checkBlocks, fourBitBinding, fourBitRow, fourBitWords } from "./blocks.ts";
import { packHalves, type WeightKind } from "./kind.ts";
import { flagScalesNotFinite } from "./scales_not_finite.ts";

/** Values of a block, and of a group. */
const BLOCK = 256, GROUP = 32;
/** Words of a block's numbers. */
const WORDS = 4;

/** Four codes of a word: the first four, or the others. */
const codes = (word: string, four: number) =>
  `vec4<f32>(unpack4xU8(${four % 2 === 0 ? word : `(${word} >> 4u)`} & 0x0f0f0f0fu))`;

/** WGSL of a group's scale and minimum, both times the block's. */
const groupFunction = (name: string) => `
fn ${name}_group(group: u32) -> vec2<f32> {
  let block = ${name}_scale[group / ${BLOCK / GROUP}u];
  let bits = block.yzw >> vec3<u32>(group % ${BLOCK / GROUP}u * 4u);
  let scale = (bits.x & 15u) | ((bits.z & 3u) << 4u);
  let least = (bits.y & 15u) | ((bits.z & 12u) << 2u);
  return unpack2x16float(block.x) * vec2<f32>(f32(scale), f32(least));
}`;

/** The kind. */
export const Q4_K: WeightKind = {
  name: "q4_k",
  columnUnit: BLOCK,

  planes(columns) {
    checkBlocks(columns, BLOCK);
    return [
      { suffix: "", dtype: "u32", values: 8, elements: 1 },
      { suffix: ".scale", dtype: "u32", values: BLOCK, elements: WORDS },
    ];
  },

  flagNotFinite(gpu, [, scales], at) {
    flagScalesNotFinite(gpu, { scales, place: { words: WORDS, at: 0, type: "two f16" }, ...at });
  },

  bindings(name, width) {
    return [
      fourBitBinding(name, width),
      { name: `${name}_scale`, dtype: "u32", access: "read", words: WORDS },
    ];
  },

  functions: (name, width) =>
    `${groupFunction(name)}
fn ${name}_codes(i: u32) -> vec4<u32> {
  let group = bitcast<vec2<u32>>(${name}_group(i / ${GROUP / width}u));
  return vec4<u32>(${fourBitWords(name, width)}, group, 0u);
}`,
  registers: () => ({ type: "vec4<u32>", count: 1 }),
  load: (name, _width, index) => `${name}_codes(${index})`,
  unpack(_name, width, [register]) {
    const [scale, least] = ["y", "z"].map((of) => `bitcast<f32>(${register}.${of})`);
    return Array.from(
      { length: width / 4 },
      (_, four) => `(${codes(`${register}.x`, four)} * ${scale} - ${least})`,
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
      functions: `${groupFunction(name)}
struct ${name}_load { codes: ${type}, group: vec2<f32> }
fn load_of_${name}(i: u32) -> ${name}_load {
  return ${name}_load(${fourBitWords(name, width)}, ${name}_group(i / ${GROUP / width}u));
}`,
      type: `${name}_load`,
      load: (index) => `load_of_${name}(${index})`,
      product: (x, w) => {
        const sum = x.map((x, p) => `dot(${x}, ${codes(word(`${w}.codes`, p), p)})`).join(" + ");
        // The same for all rows of weights.
        const ofX = `dot(${x.join(" + ")}, vec4<f32>(1.0))`;
        return `return (${sum}) * ${w}.group.x - ${ofX} * ${w}.group.y;`;
      },
    };
  },
};
