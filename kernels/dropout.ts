/**
 * Inverted dropout: y = x · mask / (1 − p), with mask 0 at probability p.
 *
 * Shapes: x, y, dy, dx `[T, N]` f32 or f16. N is a multiple of 4. Backward: dx = dy · mask / (1 − p).
 * The mask is never stored: elements 4i to 4i + 3 take the four words of
 * {@linkcode pcg4d}(i, seed, step, stream), so backward and recomputed forward passes make it again.
 * Source: Srivastava et al., "Dropout", 2014.
 *
 * @module
 */
import { elementMain, runElements } from "./elementwise.ts";
import type { Gpu } from "./gpu.ts";
import { PCG4D, pcg4d } from "./hash.ts";
import { programFamily } from "./program.ts";
import { bytesOf, type Dtype, type Tensor } from "./tensor.ts";

/** What a mask depends on: probability in [0, 1), and u32 words. */
export interface DropoutMask {
  p: number;
  seed: number;
  step: number;
  /** Tells apart the places in a model that drop out. */
  stream: number;
}

/** Words below this are dropped. */
function threshold(p: number): number {
  if (!(p >= 0 && p < 1)) throw new Error(`dropout probability ${p} is not in [0, 1)`);
  return Math.min(Math.round(p * 2 ** 32), 2 ** 32 - 1);
}

/** The first `count` elements' mask, 1 where kept: what the kernels use, on the host. */
export function dropoutMask(count: number, { p, seed, step, stream }: DropoutMask): Uint8Array {
  const mask = new Uint8Array(count);
  const dropped = threshold(p);
  for (let i = 0; i < count; i += 4) {
    const words = pcg4d(i / 4, seed, step, stream);
    for (let lane = 0; lane < 4 && i + lane < count; lane++) {
      mask[i + lane] = words[lane] >= dropped ? 1 : 0;
    }
  }
  return mask;
}

const UNIFORMS = {
  vectors: "u32",
  first: "u32",
  seed: "u32",
  step: "u32",
  stream: "u32",
  dropped: "u32",
  scale: "f32",
} as const;

/** WGSL: what vector i of this part is multiplied by. */
const FACTOR = `${PCG4D}
fn factor(i: u32) -> vec4<f32> {
  let words = pcg4d(vec4<u32>(u.first + i, u.seed, u.step, u.stream));
  return select(vec4<f32>(), vec4<f32>(u.scale), words >= vec4<u32>(u.dropped));
}`;

const forward = programFamily("dropout", (x: Dtype, y: Dtype) => ({
  bindings: [
    { name: "x", dtype: x, access: "read" },
    { name: "y", dtype: y, access: "write" },
  ],
  uniforms: UNIFORMS,
  body: FACTOR + elementMain("store_y(i, load_x(i) * factor(i));"),
}));

const backward = programFamily("dropout_backward", (dy: Dtype, dx: Dtype) => ({
  bindings: [
    { name: "dy", dtype: dy, access: "read" },
    { name: "dx", dtype: dx, access: "write" },
  ],
  uniforms: UNIFORMS,
  body: FACTOR + elementMain("store_dx(i, load_dx(i) + load_dy(i) * factor(i));"),
}));

function uniforms({ p, seed, step, stream }: DropoutMask) {
  return { seed, step, stream, dropped: threshold(p), scale: 1 / (1 - p) };
}

/** Writes `rows` rows of y. */
export function dropout(
  gpu: Gpu,
  { x, y, rows, ...mask }: { x: Tensor; y: Tensor; rows: number } & DropoutMask,
): void {
  runElements(gpu, forward(x.dtype, y.dtype), [x, y], {
    size: rows * x.rowSize,
    uniforms: uniforms(mask),
    cost: { flops: 1, bytes: bytesOf(x.dtype) + bytesOf(y.dtype) },
  });
}

/** Adds the gradient of `rows` rows to dx. */
export function dropoutBackward(
  gpu: Gpu,
  { dy, dx, rows, ...mask }: { dy: Tensor; dx: Tensor; rows: number } & DropoutMask,
): void {
  runElements(gpu, backward(dy.dtype, dx.dtype), [dy, dx], {
    size: rows * dy.rowSize,
    uniforms: uniforms(mask),
    cost: { flops: 2, bytes: bytesOf(dy.dtype) + 2 * bytesOf(dx.dtype) },
  });
}
