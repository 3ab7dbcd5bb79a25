/**
 * Whether a tensor holds anything that is no finite number: NaN or an infinity.
 *
 * Shapes: x f32 or f16 of any shape and size, flags u32. Nothing is summed: threads that find something all write
 * the same flag.
 *
 * @module
 */
import { elementMain, runElements } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";

/** Whether four f32 are NaN or infinite, by their bits: compilers may assume that this never happens. */
export function notFinite(x: string): string {
  return `(bitcast<vec4<u32>>(${x}) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u)`;
}

/** The bits of an f32 that is no number. */
export const NAN = "0x7fc00000u";

/** Integers are always finite. */
const FAULTY: Readonly<Record<Dtype, string>> = {
  f32: notFinite("x[i]"),
  u32: "vec4<bool>()",
  f16: `(vec4<u32>(x[i].x, x[i].x >> 16u, x[i].y, x[i].y >> 16u) & vec4<u32>(0x7c00u)) ==
    vec4<u32>(0x7c00u)`,
};

const program = programFamily("not_finite", ({ dtype }: { dtype: Dtype }) => ({
  bindings: [
    { name: "x", dtype, access: "read" },
    { name: "flags", dtype: "u32", access: "write", scalar: true },
  ],
  uniforms: { vectors: "u32", first: "u32", size: "u32", slot: "u32" },
  body: elementMain(`
  let inside = (u.first + i) * 4u + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(u.size);
  if (any((${FAULTY[dtype]}) & inside)) { flags[u.slot] = 1u; }`),
}));

/** Sets flags[slot] to 1 where x holds NaN or an infinity; leaves it as it is otherwise. */
export function flagNotFinite(
  gpu: Gpu,
  { x, flags, slot }: { x: Tensor; flags: Tensor; slot: number },
): void {
  runElements(gpu, program({ dtype: x.dtype }), [x], {
    size: x.size,
    uniforms: { size: x.size, slot },
    shared: [flags],
    cost: { flops: 0, bytes: bytesOf(x.dtype) },
  });
}
