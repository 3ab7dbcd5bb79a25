/**
 * Filling tensors: normal and uniform random numbers by element index, and constants.
 *
 * Shapes: y f32 or f16, any shape whose last dimension is a multiple of 4, of any size. Elements 4i to
 * 4i + 3 come from the four words of {@linkcode pcg4d}(i, seed, subsequence, kind), so they don't depend
 * on how a tensor is split or on its dtype (apart from rounding). Normal numbers by Box and Muller,
 * "A Note on the Generation of Random Normal Deviates", 1958.
 *
 * @module
 */
import { elementMain, runElements } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { PCG4D, pcg4d } from "../../wgsl/hash.ts";
import { programFamily } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";

/** Last word hashed, so that equal seeds and subsequences of the two kinds are unrelated. */
const KIND = { normal: 0x6e6f726d, uniform: 0x756e6966 };

const UNIFORMS = { vectors: "u32", first: "u32", seed: "u32", subsequence: "u32" } as const;

/** A logarithm needs u > 0: half a step above zero. All 32 bits count, for the tails. */
const normal = programFamily("fill_normal", ({ y }: { y: Dtype }) => ({
  bindings: [{ name: "y", dtype: y, access: "write" }],
  uniforms: { ...UNIFORMS, mean: "f32", deviation: "f32" },
  body: PCG4D + elementMain(`
  let words = pcg4d(vec4<u32>(u.first + i, u.seed, u.subsequence, ${KIND.normal}u));
  let positive = (vec2<f32>(words.xy) + 0.5) * 0x1p-32;
  // max, because an inexact log(1) may come out above 0.
  let radius = sqrt(max(vec2<f32>(), -2.0 * log(positive))) * u.deviation;
  let angle = (vec2<f32>(words.zw >> vec2<u32>(8u)) * 0x1p-24 - 0.5) * ${2 * Math.PI};
  store_y(i, u.mean + vec4<f32>(radius * cos(angle), radius * sin(angle)));`),
}));

const uniform = programFamily("fill_uniform", ({ y }: { y: Dtype }) => ({
  bindings: [{ name: "y", dtype: y, access: "write" }],
  uniforms: { ...UNIFORMS, low: "f32", range: "f32" },
  body: PCG4D + elementMain(`
  let words = pcg4d(vec4<u32>(u.first + i, u.seed, u.subsequence, ${KIND.uniform}u));
  store_y(i, u.low + u.range * (vec4<f32>(words >> vec4<u32>(8u)) * 0x1p-24));`),
}));

const constant = programFamily("fill_constant", ({ y }: { y: Dtype }) => ({
  bindings: [{ name: "y", dtype: y, access: "write" }],
  uniforms: { vectors: "u32", value: "f32" },
  body: elementMain("store_y(i, vec4<f32>(u.value));"),
}));

/**
 * Fills y with numbers from N(mean, std²). `seed` and `subsequence` are u32; `from`: the number of y's first element, a
 * multiple of 4, where y is a piece of a larger tensor.
 */
export function fillNormal(
  gpu: Gpu,
  { y, mean, std, seed, subsequence, from = 0 }: {
    y: Tensor;
    mean: number;
    std: number;
    seed: number;
    subsequence: number;
    from?: number;
  },
): void {
  runElements(gpu, normal({ y: y.dtype }), [y], {
    size: y.size,
    from,
    uniforms: { seed, subsequence, mean, deviation: std },
    cost: { flops: 10, bytes: bytesOf(y.dtype) },
  });
}

/** Fills y with numbers spread evenly from `low` to `high`. `seed` and `subsequence` are u32. */
export function fillUniform(
  gpu: Gpu,
  { y, low, high, seed, subsequence }: {
    y: Tensor;
    low: number;
    high: number;
    seed: number;
    subsequence: number;
  },
): void {
  runElements(gpu, uniform({ y: y.dtype }), [y], {
    size: y.size,
    uniforms: { seed, subsequence, low, range: high - low },
    cost: { flops: 3, bytes: bytesOf(y.dtype) },
  });
}

/** Fills y with one value. */
export function fillConstant(gpu: Gpu, { y, value }: { y: Tensor; value: number }): void {
  runElements(gpu, constant({ y: y.dtype }), [y], {
    size: y.size,
    uniforms: { value },
    cost: { flops: 0, bytes: bytesOf(y.dtype) },
  });
}

/** {@linkcode fillNormal} with mean 0 and std 1, on the host in float64. */
export function normalNumbers(count: number, seed: number, subsequence: number): Float64Array {
  return numbers(count, (i) => {
    const words = pcg4d(i, seed, subsequence, KIND.normal);
    const radius = [0, 1].map((k) => Math.sqrt(-2 * Math.log((words[k] + 0.5) / 2 ** 32)));
    const angle = [0, 1].map((k) => ((words[k + 2] >>> 8) / 2 ** 24 - 0.5) * 2 * Math.PI);
    return [Math.cos, Math.sin].flatMap((f) => [0, 1].map((k) => radius[k] * f(angle[k])));
  });
}

/** {@linkcode fillUniform} from 0 to 1, on the host. */
export function uniformNumbers(count: number, seed: number, subsequence: number): Float64Array {
  return numbers(count, (i) => {
    return Array.from(pcg4d(i, seed, subsequence, KIND.uniform), (word) => (word >>> 8) / 2 ** 24);
  });
}

function numbers(count: number, four: (i: number) => number[]): Float64Array {
  const out = new Float64Array(count);
  for (let i = 0; i < count; i += 4) out.set(four(i / 4).slice(0, count - i), i);
  return out;
}
