/**
 * SwiGLU: y = silu(gate) · up, silu(g) = g · σ(g).
 *
 * Shapes: gate, up, y `[T, I]` f32 or f16. I is a multiple of 4.
 * Backward: dgate = dy · up · σ(g) · (1 + g · (1 − σ(g))), dup = dy · silu(g).
 * Source: Shazeer, "GLU Variants Improve Transformer", 2020.
 *
 * @module
 */
import { elementMain, runElements } from "./elementwise.ts";
import type { Gpu } from "./gpu.ts";
import { programFamily } from "./program.ts";
import { bytesOf, type Dtype, type Tensor } from "./tensor.ts";

/** σ(g) and σ(−g) by exp(−|g|), which can't overflow; 1 − σ(g) would cancel for large g. */
const SIGMOID = `
struct Sigmoid { plus: vec4<f32>, minus: vec4<f32> }
fn sigmoid(g: vec4<f32>) -> Sigmoid {
  let e = exp(-abs(g));
  let large = 1.0 / (1.0 + e);
  let small = e * large;
  let positive = g >= vec4<f32>();
  return Sigmoid(select(small, large, positive), select(large, small, positive));
}`;

const forward = programFamily("swiglu", (act: Dtype) => ({
  bindings: [
    { name: "gate", dtype: act, access: "read" },
    { name: "up", dtype: act, access: "read" },
    { name: "y", dtype: act, access: "write" },
  ],
  uniforms: { vectors: "u32" },
  body: SIGMOID + elementMain(`
  let g = load_gate(i);
  store_y(i, g * sigmoid(g).plus * load_up(i));`),
}));

/** Writes `rows` rows of y. */
export function swiglu(
  gpu: Gpu,
  { gate, up, y, rows }: { gate: Tensor; up: Tensor; y: Tensor; rows: number },
): void {
  runElements(gpu, forward(gate.dtype), [gate, up, y], {
    size: rows * gate.rowSize,
    cost: { flops: 6, bytes: 3 * bytesOf(gate.dtype) },
  });
}

const backward = programFamily("swiglu_backward", (dy: Dtype, act: Dtype) => ({
  bindings: [
    { name: "dy", dtype: dy, access: "read" },
    { name: "gate", dtype: act, access: "read" },
    { name: "up", dtype: act, access: "read" },
    { name: "dgate", dtype: act, access: "write" },
    { name: "dup", dtype: act, access: "write" },
  ],
  uniforms: { vectors: "u32" },
  body: SIGMOID + elementMain(`
  let d = load_dy(i);
  let g = load_gate(i);
  let s = sigmoid(g);
  store_dgate(i, d * load_up(i) * s.plus * (1.0 + g * s.minus));
  store_dup(i, d * g * s.plus);`),
}));

/** Writes `rows` rows of dgate and dup. */
export function swigluBackward(
  gpu: Gpu,
  { dy, gate, up, dgate, dup, rows }: {
    dy: Tensor;
    gate: Tensor;
    up: Tensor;
    dgate: Tensor;
    dup: Tensor;
    rows: number;
  },
): void {
  runElements(gpu, backward(dy.dtype, gate.dtype), [dy, gate, up, dgate, dup], {
    size: rows * gate.rowSize,
    cost: { flops: 12, bytes: bytesOf(dy.dtype) + 4 * bytesOf(gate.dtype) },
  });
}
