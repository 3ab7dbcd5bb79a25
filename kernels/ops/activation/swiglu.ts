/**
 * SwiGLU: y = silu(gate) · up, silu(g) = g · σ(g).
 *
 * Shapes: gateUp `[T, 2·I]`, gate's columns and then up's, and y `[T, I]`, f32 or f16. I is a multiple of 4.
 * Backward, in place: dgate = dy · up · σ(g) · (1 + g · (1 − σ(g))), dup = dy · silu(g).
 * Source: Shazeer, "GLU Variants Improve Transformer", 2020.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, writes } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";
import { sigmoid, siluOf } from "../../wgsl/silu.ts";

/** WGSL: where vector i of a row's half is found, in `width` vectors of gate followed by as many of up. */
const PLACES = `
  let gate = i + (i / u.width) * u.width;
  let up = gate + u.width;`;

const forward = programFamily("swiglu", ({ act, y }: { act: Dtype; y: Dtype }) => ({
  bindings: [...reads(act, "gateUp"), ...writes(y, "y")],
  uniforms: { vectors: "u32", width: "u32" },
  body: sigmoid("vec4<f32>") + elementMain(`${PLACES}
  let g = load_gateUp(gate);
  store_y(i, ${siluOf("g")} * load_gateUp(up));`),
}));

/** Writes `rows` rows of y. */
export function swiglu(
  gpu: Gpu,
  { gateUp, y, rows }: { gateUp: Tensor; y: Tensor; rows: number },
): void {
  const width = y.rowSize / 4, vectors = rows * width;
  const uniforms = { vectors, width };
  gpu.run(forward({ act: gateUp.dtype, y: y.dtype }), [gateUp, y], uniforms, elementGrid(vectors), {
    flops: 24 * vectors,
    bytes: 4 * vectors * (2 * bytesOf(gateUp.dtype) + bytesOf(y.dtype)),
  });
}

const backward = programFamily("swiglu_backward", ({ dy, act }: { dy: Dtype; act: Dtype }) => ({
  bindings: [...reads(dy, "dy"), ...writes(act, "gateUp")],
  uniforms: { vectors: "u32", width: "u32" },
  body: sigmoid("vec4<f32>") + elementMain(`${PLACES}
  let d = load_dy(i);
  let g = load_gateUp(gate);
  let s = sigmoid(g);
  let gateGradient = d * load_gateUp(up) * s.plus * (1.0 + g * s.minus);
  store_gateUp(gate, gateGradient);
  store_gateUp(up, d * g * s.plus);`),
}));

/** Overwrites `rows` rows of gateUp by their gradient. */
export function swigluBackward(
  gpu: Gpu,
  { dy, gateUp, rows }: { dy: Tensor; gateUp: Tensor; rows: number },
): void {
  const width = dy.rowSize / 4, vectors = rows * width;
  const uniforms = { vectors, width };
  gpu.run(
    backward({ dy: dy.dtype, act: gateUp.dtype }),
    [dy, gateUp],
    uniforms,
    elementGrid(vectors),
    {
      flops: 48 * vectors,
      bytes: 4 * vectors * (bytesOf(dy.dtype) + 4 * bytesOf(gateUp.dtype)),
    },
  );
}
