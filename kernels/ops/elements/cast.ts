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

/** Eight elements as 16 or 32 bytes of `words`: the largest bits of magnitudes, and the elements. */
const EIGHT: Record<RawDtype, { magnitudes: string; low: string; high: string }> = {
  F32: {
    magnitudes: "max(x.a & vec4<u32>(0x7fffffffu), x.b & vec4<u32>(0x7fffffffu))",
    low: "bitcast<vec4<f32>>(x.a)",
    high: "bitcast<vec4<f32>>(x.b)",
  },
  F16: {
    magnitudes: "max(x.a & vec4<u32>(0x7fffu), (x.a >> vec4<u32>(16u)) & vec4<u32>(0x7fffu))",
    low: "vec4<f32>(unpack2x16float(x.a.x), unpack2x16float(x.a.y))",
    high: "vec4<f32>(unpack2x16float(x.a.z), unpack2x16float(x.a.w))",
  },
  BF16: {
    magnitudes:
      "max((x.a << vec4<u32>(16u)) & vec4<u32>(0x7fffffffu), x.a & vec4<u32>(0x7fff0000u))",
    low: "bitcast<vec4<f32>>((x.a.xxyy << SHIFTS) & vec4<u32>(0xffff0000u))",
    high: "bitcast<vec4<f32>>((x.a.zzww << SHIFTS) & vec4<u32>(0xffff0000u))",
  },
};

/**
 * WGSL that holds eight elements of a binding `words` of u32, raw, as they are stored: `file_eight(i) -> Eight` has
 * elements 8i to 8i + 7, `eight_low` and `eight_high` are their values, vec4<f32>. Of `eight_within(x, count)` all but
 * the first `count` are zeros, an even number. `eight_magnitudes(x) -> vec4<u32>` are the larger bits of magnitudes of each
 * two: such bits are in the order of the magnitudes, infinities and NaN above all numbers, and
 * `magnitude(bits) -> f32` is the number.
 */
export function fileEights(raw: RawDtype): string {
  const { magnitudes, low, high } = EIGHT[raw];
  const [fields, loads, masked] = raw === "F32"
    ? [
      "a: vec4<u32>,\n  b: vec4<u32>,",
      "words[2u * i], words[2u * i + 1u]",
      "select(vec4<u32>(), x.a, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count)), " +
      "select(vec4<u32>(), x.b, vec4<u32>(4u, 5u, 6u, 7u) < vec4<u32>(count))",
    ]
    : [
      "a: vec4<u32>,",
      "words[i]",
      "select(vec4<u32>(), x.a, vec4<u32>(0u, 2u, 4u, 6u) < vec4<u32>(count))",
    ];
  return `
struct Eight {
  ${fields}
}
const SHIFTS = vec4<u32>(16u, 0u, 16u, 0u);
fn file_eight(i: u32) -> Eight { return Eight(${loads}); }
fn eight_within(x: Eight, count: u32) -> Eight { return Eight(${masked}); }
fn eight_low(x: Eight) -> vec4<f32> { return ${low}; }
fn eight_high(x: Eight) -> vec4<f32> { return ${high}; }
fn eight_magnitudes(x: Eight) -> vec4<u32> { return ${magnitudes}; }
fn magnitude(bits: u32) -> f32 {
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
