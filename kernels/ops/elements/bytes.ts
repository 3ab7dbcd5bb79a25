/**
 * Zeros and copies as launches. Commands outside of a compute pass would end it: on an H100's host
 * that takes 20 µs on Deno's WebGPU, where a launch takes 3 µs.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import type { Dtype, Tensor } from "../../gpu/tensor.ts";

/** Bytes that a thread handles. */
const VECTOR = 16;

const zeros = programFamily("clear", ({ x }: { x: Dtype }) => ({
  bindings: [{ name: "x", dtype: x, access: "write", raw: true }],
  uniforms: { vectors: "u32" },
  body: elementMain("x[i] = vec4<u32>();"),
}));

const copies = programFamily("copy", ({ x, y }: { x: Dtype; y: Dtype }) => ({
  bindings: [
    { name: "x", dtype: x, access: "read", raw: true },
    { name: "y", dtype: y, access: "write", raw: true },
  ],
  uniforms: { vectors: "u32" },
  body: elementMain("y[i] = x[i];"),
}));

/** Fills a tensor within the binding limit with zeros. */
export function clearBytes(gpu: Gpu, x: Tensor): void {
  const vectors = x.bytes / VECTOR;
  gpu.run(zeros({ x: x.dtype }), [x], { vectors }, elementGrid(vectors), {
    flops: 0,
    bytes: x.bytes,
  });
}

/** Copies all bytes of x to the start of y, in another buffer; both within the binding limit. */
export function copyBytes(gpu: Gpu, x: Tensor, y: Tensor): void {
  const vectors = x.bytes / VECTOR, cost = { flops: 0, bytes: 2 * x.bytes };
  gpu.run(copies({ x: x.dtype, y: y.dtype }), [x, y], { vectors }, elementGrid(vectors), cost);
}
