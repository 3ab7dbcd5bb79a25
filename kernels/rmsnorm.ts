/**
 * RMSNorm: y = x · w / rms(x), rms(x) = √(mean(x²) + ε) over the last dimension.
 *
 * Shapes: x `[T, H]` f32, w `[H]`, y `[T, H]`, rstd = 1/rms `[T]` f32. H is a multiple of 4.
 * Backward, with g = dy · w: dx = rstd · (g − x · rstd² · mean(g · x)), dw = Σ_t dy · x · rstd.
 * Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
 *
 * @module
 */
import type { Gpu } from "./gpu.ts";
import { programFamily } from "./program.ts";
import { sumOfThreads } from "./reduce.ts";
import type { Dtype, Tensor } from "./tensor.ts";

/**
 * Threads a row; on a software driver barriers are dear, and eight threads are one SIMD group. A few rows
 * (decoding) leave most of a GPU idle: more threads then make each faster.
 */
const threadsOn = ({ software, device }: Gpu, rows: number) =>
  software ? 8 : rows > 16 ? 128 : Math.min(512, device.limits.maxComputeInvocationsPerWorkgroup);

const forward = programFamily("rmsnorm", (w: Dtype, y: Dtype, threads: number) => ({
  bindings: [
    { name: "x", dtype: "f32", access: "read" },
    { name: "w", dtype: w, access: "read" },
    { name: "y", dtype: y, access: "write" },
    { name: "rstd", dtype: "f32", access: "write", scalar: true },
  ],
  uniforms: { width: "u32", eps: "f32" },
  body: `${sumOfThreads(threads)}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let vectors = u.width / 4u;
  let row = group.x * vectors;
  var partial = 0.0;
  for (var i = thread; i < vectors; i += ${threads}u) {
    let v = load_x(row + i);
    partial += dot(v, v);
  }
  let scale = inverseSqrt(sumOfThreads(thread, partial) / f32(u.width) + u.eps);
  for (var i = thread; i < vectors; i += ${threads}u) {
    store_y(row + i, load_x(row + i) * scale * load_w(i));
  }
  if (thread == 0u) { rstd[group.x] = scale; }
}`,
}));

/** Writes y and rstd for `rows` rows of x. */
export function rmsnorm(
  gpu: Gpu,
  { x, w, y, rstd, rows, eps }: {
    x: Tensor;
    w: Tensor;
    y: Tensor;
    rstd: Tensor;
    rows: number;
    eps: number;
  },
): void {
  const width = w.shape[0];
  gpu.run(
    forward(w.dtype, y.dtype, threadsOn(gpu, rows)),
    [x, w, y, rstd],
    { width, eps },
    [rows],
    {
      flops: 4 * rows * width,
      bytes: rows * (x.rowSize * 4 + y.bytes / y.shape[0]),
    },
  );
}

const backward = programFamily("rmsnorm_backward", (dy: Dtype, w: Dtype, threads: number) => ({
  bindings: [
    { name: "dy", dtype: dy, access: "read" },
    { name: "x", dtype: "f32", access: "read" },
    { name: "w", dtype: w, access: "read" },
    { name: "rstd", dtype: "f32", access: "read", scalar: true },
    { name: "dx", dtype: "f32", access: "write" },
  ],
  uniforms: { width: "u32" },
  body: `${sumOfThreads(threads)}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let vectors = u.width / 4u;
  let row = group.x * vectors;
  var partial = 0.0;
  for (var i = thread; i < vectors; i += ${threads}u) {
    partial += dot(load_dy(row + i) * load_w(i), load_x(row + i));
  }
  let scale = rstd[group.x];
  let mean = sumOfThreads(thread, partial) / f32(u.width) * scale * scale;
  for (var i = thread; i < vectors; i += ${threads}u) {
    let g = load_dy(row + i) * load_w(i);
    store_dx(row + i, load_dx(row + i) + scale * (g - load_x(row + i) * mean));
  }
}`,
}));

const weightBackward = programFamily("rmsnorm_backward_weight", (dy: Dtype) => ({
  bindings: [
    { name: "dy", dtype: dy, access: "read" },
    { name: "x", dtype: "f32", access: "read" },
    { name: "rstd", dtype: "f32", access: "read", scalar: true },
    { name: "dw", dtype: "f32", access: "write" },
  ],
  uniforms: { width: "u32", rows: "u32" },
  body: `
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let vectors = u.width / 4u;
  if (id.x >= vectors) { return; }
  var sum = vec4<f32>();
  for (var row = 0u; row < u.rows; row++) {
    let i = row * vectors + id.x;
    sum += load_dy(i) * load_x(i) * rstd[row];
  }
  store_dw(id.x, load_dw(id.x) + sum);
}`,
}));

/** Adds the input's gradient to dx and, where it is trained, the weight's to dw (f32). */
export function rmsnormBackward(
  gpu: Gpu,
  { dy, x, w, rstd, dx, dw, rows }: {
    dy: Tensor;
    x: Tensor;
    w: Tensor;
    rstd: Tensor;
    dx: Tensor;
    dw?: Tensor;
    rows: number;
  },
): void {
  const width = w.shape[0];
  const bytes = rows * (dy.bytes / dy.shape[0] + 12 * width);
  gpu.run(backward(dy.dtype, w.dtype, threadsOn(gpu, rows)), [dy, x, w, rstd, dx], { width }, [
    rows,
  ], {
    flops: 8 * rows * width,
    bytes,
  });
  if (dw === undefined) return;
  const workgroups = Math.ceil(width / 256);
  gpu.run(weightBackward(dy.dtype), [dy, x, rstd, dw], { width, rows }, [workgroups], {
    flops: 3 * rows * width,
    bytes,
  });
}
