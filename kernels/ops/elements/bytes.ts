/**
 * Zeros and copies as launches. Commands outside of a compute pass would end it: on an H100's host
 * that takes 20 µs on Deno's WebGPU, where a launch takes 3 µs. Tensors beyond the binding limit have no other way.
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
  bindings: [{ name: "x", dtype: x, access: "write", words: 4 }],
  uniforms: { vectors: "u32" },
  body: elementMain("x[i] = vec4<u32>();"),
}));

const copies = programFamily("copy", ({ x, y }: { x: Dtype; y: Dtype }) => ({
  bindings: [
    { name: "x", dtype: x, access: "read", words: 4 },
    { name: "y", dtype: y, access: "write", words: 4 },
  ],
  uniforms: { vectors: "u32" },
  body: elementMain("y[i] = x[i];"),
}));

/** Records filling a tensor with zeros. */
export function clear(gpu: Gpu, x: Tensor): void {
  if (x.bytes > gpu.maxBinding) return gpu.clearBuffer(x);
  const vectors = x.bytes / VECTOR;
  gpu.run(zeros({ x: x.dtype }), [x], { vectors }, elementGrid(vectors), {
    flops: 0,
    bytes: x.bytes,
  });
}

/** Records a copy of all of `from` to the start of `to`, which lies in another buffer. */
export function copy(gpu: Gpu, from: Tensor, to: Tensor): void {
  if (Math.max(from.bytes, to.bytes) > gpu.maxBinding) return gpu.copyBuffer(from, to);
  const vectors = from.bytes / VECTOR, cost = { flops: 0, bytes: 2 * from.bytes };
  const program = copies({ x: from.dtype, y: to.dtype });
  gpu.run(program, [from, to], { vectors }, elementGrid(vectors), cost);
}
