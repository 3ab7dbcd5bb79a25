/**
 * SwiGLU and its like: y = f(gate) · up, f an activation (kernels/wgsl/activations.ts): silu, or gelu (GeGLU).
 *
 * Shapes: gateUp `[T, 2·I]`, gate's columns and then up's, and y `[T, I]`, f32 or f16. I is a multiple of 4.
 * Backward, in place: dgate = dy · up · f'(gate), dup = dy · f(gate).
 * Source: Shazeer, "GLU Variants Improve Transformer", 2020.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, writes } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";
import { type Activation, ACTIVATIONS } from "../../wgsl/activations.ts";

export { type Activation, ACTIVATIONS } from "../../wgsl/activations.ts";

/** WGSL: where vector i of a row's half is found, in `width` vectors of gate followed by as many of up. */
const PLACES = `
  let gate = i + (i / u.width) * u.width;
  let up = gate + u.width;`;

const forward = programFamily(
  "swiglu",
  ({ activation, act, y }: { activation: Activation; act: Dtype; y: Dtype }) => {
    const { declare, value } = ACTIVATIONS[activation];
    return {
      bindings: [...reads(act, "gateUp"), ...writes(y, "y")],
      uniforms: { vectors: "u32", width: "u32" },
      body: declare("vec4<f32>") + elementMain(`${PLACES}
  let g = load_gateUp(gate);
  store_y(i, ${value("g")} * load_gateUp(up));`),
    };
  },
);

/** Writes `rows` rows of y. */
export function swiglu(
  gpu: Gpu,
  { activation, gateUp, y, rows }: {
    activation: Activation;
    gateUp: Tensor;
    y: Tensor;
    rows: number;
  },
): void {
  const width = y.rowSize / 4, vectors = rows * width;
  const uniforms = { vectors, width };
  const program = forward({ activation, act: gateUp.dtype, y: y.dtype });
  gpu.run(program, [gateUp, y], uniforms, elementGrid(vectors), {
    flops: 24 * vectors,
    bytes: 4 * vectors * (2 * bytesOf(gateUp.dtype) + bytesOf(y.dtype)),
  });
}

const backward = programFamily(
  "swiglu_backward",
  ({ activation, dy, act }: { activation: Activation; dy: Dtype; act: Dtype }) => {
    const { declare, gradient } = ACTIVATIONS[activation];
    const { statements, value, slope } = gradient("g");
    return {
      bindings: [...reads(dy, "dy"), ...writes(act, "gateUp")],
      uniforms: { vectors: "u32", width: "u32" },
      body: declare("vec4<f32>") + elementMain(`${PLACES}
  let d = load_dy(i);
  let g = load_gateUp(gate);
  ${statements}
  let gateGradient = d * load_gateUp(up) * ${slope};
  store_gateUp(gate, gateGradient);
  store_gateUp(up, d * ${value});`),
    };
  },
);

/** Overwrites `rows` rows of gateUp by their gradient. */
export function swigluBackward(
  gpu: Gpu,
  { activation, dy, gateUp, rows }: {
    activation: Activation;
    dy: Tensor;
    gateUp: Tensor;
    rows: number;
  },
): void {
  const width = dy.rowSize / 4, vectors = rows * width;
  const uniforms = { vectors, width };
  gpu.run(
    backward({ activation, dy: dy.dtype, act: gateUp.dtype }),
    [dy, gateUp],
    uniforms,
    elementGrid(vectors),
    {
      flops: 48 * vectors,
      bytes: 4 * vectors * (bytesOf(dy.dtype) + 4 * bytesOf(gateUp.dtype)),
    },
  );
}
