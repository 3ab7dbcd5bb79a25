/**
 * 8-bit weights in blocks of 32 along a row, each with a scale in f16: GGUF's Q8_0, as
 * https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c makes it. A value is q · scale.
 *
 * @module
 */
import { groupGrid } from "../../gpu/elementwise.ts";
import { type Binding, programFamily } from "../../gpu/program.ts";
import { boundPart } from "../../gpu/tensor.ts";
import { DIVIDED } from "../../wgsl/divide.ts";
import { maximum, repeat } from "../../wgsl/repeat.ts";
import { fileEights, type RawDtype } from "../elements/cast.ts";
import { flagNotFinite, NAN } from "../elements/not_finite.ts";
import { checkBlocks } from "./blocks.ts";
import { codesBinding, eightBitLoads } from "./eight_bit.ts";
import type { Plane, WeightKind } from "./kind.ts";

/** Values of a block. */
const BLOCK = 32;
/** Threads of a workgroup that encodes, and blocks of a thread: a word has the scales of two. */
const THREADS = 64, BLOCKS = 2;
/** Loads of a block. */
const EIGHTS = BLOCK / 8;

/**
 * The largest magnitude over 127 is the scale; values are rounded over the scale before that is rounded to f16, halves
 * away from zero.
 */
const encode = programFamily("int8_encode", ({ from }: { from: RawDtype }) => ({
  bindings: [
    { name: "words", dtype: "u32", access: "read" },
    { name: "codes", dtype: "u32", access: "write", scalar: true },
    { name: "scales", dtype: "f16", access: "write", scalar: true },
  ],
  // Blocks of this piece, and where their codes and their scales begin in what is bound, in words.
  uniforms: { blocks: "u32", firstCodes: "u32", firstScales: "u32" },
  body: `${fileEights(from)}${DIVIDED}
fn rounded(x: vec4<f32>) -> u32 {
  let size = abs(x);
  let below = floor(size);
  let q = vec4<u32>(vec4<i32>(sign(x) * (below + floor(2.0 * (size - below))))) & vec4<u32>(255u);
  return q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
}
// Codes of a block, and its scale.
fn block(at: u32, to: u32) -> f32 {
${repeat(EIGHTS, (i) => `  let x${i} = file_eight(at + ${i}u);`)}
  let most = ${maximum(EIGHTS, (i) => `eight_magnitudes(x${i})`)};
  let largest = magnitude(max(max(most.x, most.y), max(most.z, most.w)));
  let scale = divided(largest, 127.0);
  var inverse = 0.0;
  if (scale > 0.0) { inverse = divided(1.0, scale); }
${
    repeat(EIGHTS, (i) => `
  codes[to + ${2 * i}u] = rounded(eight_low(x${i}) * inverse);
  codes[to + ${2 * i + 1}u] = rounded(eight_high(x${i}) * inverse);`)
  }
  let infinite = (bitcast<u32>(largest) & 0x7f800000u) == 0x7f800000u;
  return bitcast<f32>(select(bitcast<u32>(scale), ${NAN}, infinite));
}
@compute @workgroup_size(${THREADS})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let start = ((group.y * groups.x + group.x) * ${THREADS}u + thread) * ${BLOCKS}u;
  if (start >= u.blocks) { return; }
  var scales_of = vec2<f32>();
  scales_of.x = block(start * ${EIGHTS}u, u.firstCodes + start * ${BLOCK / 4}u);
  if (start + 1u < u.blocks) {
    scales_of.y = block((start + 1u) * ${EIGHTS}u, u.firstCodes + (start + 1u) * ${BLOCK / 4}u);
  }
  scales[u.firstScales + start / ${BLOCKS}u] = pack2x16float(scales_of);
}`,
}));

const LOADS = eightBitLoads({
  values: BLOCK,
  word: (name, width) => `${name}_scale[i / ${2 * BLOCK / width}u]`,
  rest: (width) => `i / ${BLOCK / width}u % 2u * 16u`,
  value: (word, shift) => `unpack2x16float(${word} >> ${shift}).x`,
});

/**
 * The function that makes halves of four numbers. q and the scale are exact in f16, so that one rounding is left, as in
 * f32. A byte below the exponent of 1024 makes a number that is 1024 more, without a conversion, which takes long.
 */
function pairFunction(name: string): string {
  return `
fn ${name}_pairs(codes: u32, factor: f32) -> vec2<u32> {
  let scale = vec2<f16>(f16(factor));
  let raised = codes ^ 0x80808080u;
  let even = (bitcast<vec2<f16>>((raised & 0x00ff00ffu) | 0x64006400u) - 1152.0h) * scale;
  let odd = (bitcast<vec2<f16>>(((raised >> 8u) & 0x00ff00ffu) | 0x64006400u) - 1152.0h) * scale;
  return vec2<u32>(bitcast<u32>(vec2<f16>(even.x, odd.x)), bitcast<u32>(vec2<f16>(even.y, odd.y)));
}`;
}

/** Functions for loads of 8 that become halves. */
function halfFunctions(name: string): string {
  return `${LOADS.functions(name, 8)}${pairFunction(name)}
fn ${name}_halves(w: vec4<u32>) -> vec4<u32> {
  let scale = unpack2x16float(w.z >> w.w).x;
  return vec4<u32>(${name}_pairs(w.x, scale), ${name}_pairs(w.y, scale));
}`;
}

/** The kind. */
export const INT8: WeightKind = {
  name: "int8",
  columnUnit: BLOCK,

  encoder: {
    unit: () => BLOCK * BLOCKS,
    workElements: () => 0,
    encode(gpu, [codes, scales], { words, from, first, count }) {
      const blocks = count / BLOCK;
      const grid = groupGrid(Math.ceil(blocks / (THREADS * BLOCKS)));
      const c = boundPart(codes, { first: first / 4, count: count / 4 }, gpu.maxBinding);
      const s = boundPart(scales, { first: first / BLOCK, count: blocks }, gpu.maxBinding);
      gpu.run(
        encode({ from }),
        [words, c.tensor, s.tensor],
        { blocks, firstCodes: c.first, firstScales: s.first / BLOCKS },
        grid,
        { flops: 0, bytes: count * ((from === "F32" ? 4 : 2) + 1) + 2 * blocks },
      );
    },
  },

  planes(columns): readonly Plane[] {
    checkBlocks(columns, BLOCK);
    return [
      { suffix: "", dtype: "u32", values: 4, elements: 1 },
      { suffix: ".scale", dtype: "f16", values: BLOCK, elements: 1 },
    ];
  },

  flagNotFinite(gpu, [, scales], at) {
    flagNotFinite(gpu, { x: scales, ...at });
  },

  bindings(name, width): Binding[] {
    const scale = { name: `${name}_scale`, dtype: "f16", access: "read", words: 1 } as const;
    return [codesBinding(name, width), scale];
  },

  ...LOADS,

  functions: (name, width, shared) =>
    width === 8 && shared ? halfFunctions(name) : LOADS.functions(name, width, shared),
  halves: (name, [register]) => `${name}_halves(${register})`,

  tileLoad(name) {
    const load = LOADS.rowLoad(name, 8);
    return {
      ...load,
      functions: `${load.functions}${pairFunction(name)}`,
      halves: (codes, scale) =>
        `vec4<u32>(${name}_pairs(${codes}.x, ${scale}), ${name}_pairs(${codes}.y, ${scale}))`,
    };
  },
};
