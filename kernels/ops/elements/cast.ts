/**
 * Changing the element type: between tensors, and from the bytes of a weight file.
 *
 * Shapes: any, of any size. To f16, values round to nearest and overflow to infinity. From bf16 and f16
 * to f32 nothing is lost.
 *
 * @module
 */
import { elementGrid, elementMain, runElements } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";

const convert = programFamily("cast", ({ x, y }: { x: Dtype; y: Dtype }) => ({
  bindings: [
    { name: "x", dtype: x, access: "read" },
    { name: "y", dtype: y, access: "write" },
  ],
  uniforms: { vectors: "u32" },
  body: elementMain("store_y(i, load_x(i));"),
}));

/** Writes the first `rows` rows of x, or all of it, to y, which has rows of the same size. */
export function cast(
  gpu: Gpu,
  { x, y, rows = x.shape[0] }: { x: Tensor; y: Tensor; rows?: number },
): void {
  runElements(gpu, convert({ x: x.dtype, y: y.dtype }), [x, y], {
    size: rows * x.rowSize,
    cost: { flops: 0, bytes: bytesOf(x.dtype) + bytesOf(y.dtype) },
  });
}

/** Element types of weight files. */
export type RawDtype = "F32" | "F16" | "BF16";

const PAIR = `
fn pair(i: u32) -> vec2<u32> {
  let four = words[i / 2u];
  return select(four.xy, four.zw, vec2<bool>(i % 2u == 1u));
}`;

/** WGSL expressions of the four elements at i, from `words`, sixteen bytes an element. */
const DECODE: Record<RawDtype, string> = {
  F32: "bitcast<vec4<f32>>(words[i])",
  F16: "vec4<f32>(unpack2x16float(pair(i).x), unpack2x16float(pair(i).y))",
  BF16: "bitcast<vec4<f32>>(vec4<u32>(pair(i).x << 16u, pair(i).x & 0xffff0000u, " +
    "pair(i).y << 16u, pair(i).y & 0xffff0000u))",
};

/** WGSL of `file_values(i) -> vec4<f32>`: elements 4i to 4i + 3 of a binding `words` of u32, raw. */
export function fileValues(raw: RawDtype): string {
  return `${raw === "F32" ? "" : PAIR}
fn file_values(i: u32) -> vec4<f32> { return ${DECODE[raw]}; }`;
}

/** Of eight elements, the 16 or 32 bytes of `words` at i: the largest bits of magnitudes, and the elements. */
const EIGHT: Record<RawDtype, { loads: string; magnitudes: string; values: [string, string] }> = {
  F32: {
    loads: "let a = words[2u * i];\n  let b = words[2u * i + 1u];",
    magnitudes: "max(a & vec4<u32>(0x7fffffffu), b & vec4<u32>(0x7fffffffu))",
    values: ["bitcast<vec4<f32>>(a)", "bitcast<vec4<f32>>(b)"],
  },
  F16: {
    loads: "let a = words[i];",
    magnitudes: "max(a & vec4<u32>(0x7fffu), (a >> vec4<u32>(16u)) & vec4<u32>(0x7fffu))",
    values: [
      "vec4<f32>(unpack2x16float(a.x), unpack2x16float(a.y))",
      "vec4<f32>(unpack2x16float(a.z), unpack2x16float(a.w))",
    ],
  },
  BF16: {
    loads: "let a = words[i];",
    magnitudes: "max((a << vec4<u32>(16u)) & vec4<u32>(0x7fffffffu), a & vec4<u32>(0x7fff0000u))",
    values: [
      "bitcast<vec4<f32>>(vec4<u32>(a.x << 16u, a.x & 0xffff0000u, a.y << 16u, a.y & 0xffff0000u))",
      "bitcast<vec4<f32>>(vec4<u32>(a.z << 16u, a.z & 0xffff0000u, a.w << 16u, a.w & 0xffff0000u))",
    ],
  },
};

/**
 * WGSL that reads eight elements at a time of a binding `words` of u32, raw: `file_eight(i) -> Eight`, elements 8i to
 * 8i + 7, and `file_magnitudes(i) -> vec4<u32>`, the larger bits of magnitudes of each two of them. Such bits are in
 * the order of the magnitudes, with infinities and NaN above all numbers; `file_magnitude(bits) -> f32` is the number.
 */
export function fileEights(raw: RawDtype): string {
  const { loads, magnitudes, values: [low, high] } = EIGHT[raw];
  return `
struct Eight {
  low: vec4<f32>,
  high: vec4<f32>,
}
fn file_eight(i: u32) -> Eight {
  ${loads}
  return Eight(${low}, ${high});
}
fn file_magnitudes(i: u32) -> vec4<u32> {
  ${loads}
  return ${magnitudes};
}
fn file_magnitude(bits: u32) -> f32 {
  return ${raw === "F16" ? "unpack2x16float(bits).x" : "bitcast<f32>(bits)"};
}`;
}

const decode = programFamily("cast_bytes", ({ raw, y }: { raw: RawDtype; y: Dtype }) => ({
  bindings: [
    { name: "words", dtype: "u32", access: "read" },
    { name: "y", dtype: y, access: "write" },
  ],
  uniforms: { vectors: "u32", count: "u32" },
  body: PAIR + elementMain(`
  let inside = i * 4u + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(u.count);
  store_y(i, select(vec4<f32>(), ${DECODE[raw]}, inside));`),
}));

/**
 * Writes `count` little-endian elements, raw in a u32 tensor from its start, to the start of y (f32 or
 * f16). Where count is no multiple of 4, the rest of the last four elements becomes 0.
 */
export function castBytes(
  gpu: Gpu,
  { words, from, y, count }: { words: Tensor; from: RawDtype; y: Tensor; count: number },
): void {
  const vectors = Math.ceil(count / 4);
  gpu.run(decode({ raw: from, y: y.dtype }), [words, y], { vectors, count }, elementGrid(vectors), {
    flops: 0,
    bytes: count * ((from === "F32" ? 4 : 2) + bytesOf(y.dtype)),
  });
}
