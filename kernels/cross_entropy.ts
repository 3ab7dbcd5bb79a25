/**
 * Softmax cross entropy of one chunk of rows of a larger set of S supervised rows.
 *
 * Shapes: logits `[R, Vp]` f32, where Vp is the vocabulary rounded up to a multiple of 4 and columns
 * from `vocab` on are padding; targets `[S]` u32 below `vocab`, weights and nll `[S]` f32. With
 * s = firstRow + r: nll[s] = logsumexp(logits[r]) − logits[r, targets[s]]. Backward overwrites logits by
 * (softmax − onehot) · weights[s] · scale, with the loss scale from control[0] (loss_scale.ts), and padding by 0.
 *
 * @module
 */
import type { Gpu } from "./gpu.ts";
import { programFamily } from "./program.ts";
import { sumOfThreads } from "./reduce.ts";
import type { Tensor } from "./tensor.ts";

const THREADS = 256;

const GRADIENT = `
  let factor = weights[s] * control[0] / sum;
  let onehot = weights[s] * control[0];
  for (var i = thread; i < vectors; i += ${THREADS}u) {
    let column = i * 4u + LANES;
    let hit = select(vec4<f32>(), vec4<f32>(onehot), column == vec4<u32>(targets[s]));
    let g = exp(load_logits(row + i) - largest) * factor - hit;
    store_logits(row + i, select(vec4<f32>(), g, column < vec4<u32>(u.vocab)));
  }`;

const program = programFamily("cross_entropy", (backward: boolean) => ({
  bindings: [
    { name: "logits", dtype: "f32", access: backward ? "write" : "read" },
    { name: "targets", dtype: "u32", access: "read", scalar: true },
    { name: "nll", dtype: "f32", access: "write", scalar: true },
    ...backward
      ? [
        { name: "weights", dtype: "f32", access: "read", scalar: true } as const,
        { name: "control", dtype: "f32", access: "read", scalar: true } as const,
      ]
      : [],
  ],
  uniforms: { width: "u32", vocab: "u32", firstRow: "u32" },
  // One pass keeps each thread's maximum and its sum of exponentials relative to that maximum.
  body: `
const LANES = vec4<u32>(0u, 1u, 2u, 3u);
const LOWEST = -3.4e38;
var<workgroup> maxima: array<f32, ${THREADS}>;
var<workgroup> sums: array<f32, ${THREADS}>;
var<workgroup> labelLogit: f32;

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let vectors = u.width / 4u;
  let row = group.x * vectors;
  let s = u.firstRow + group.x;
  // Before the first barrier, because backward overwrites it.
  if (thread == 0u) { labelLogit = load_logits(row + targets[s] / 4u)[targets[s] % 4u]; }
  var most = LOWEST;
  var partial = 0.0;
  for (var i = thread; i < vectors; i += ${THREADS}u) {
    let real = i * 4u + LANES < vec4<u32>(u.vocab);
    let v = select(vec4<f32>(LOWEST), load_logits(row + i), real);
    let before = most;
    most = max(most, max(max(v.x, v.y), max(v.z, v.w)));
    partial = partial * exp(before - most) + dot(exp(v - most), vec4<f32>(1.0));
  }
  maxima[thread] = most;
  sums[thread] = partial;
  for (var stride = ${THREADS / 2}u; stride > 0u; stride /= 2u) {
    workgroupBarrier();
    if (thread < stride) {
      let other = thread + stride;
      let joint = max(maxima[thread], maxima[other]);
      sums[thread] = sums[thread] * exp(maxima[thread] - joint) +
        sums[other] * exp(maxima[other] - joint);
      maxima[thread] = joint;
    }
  }
  workgroupBarrier();
  let largest = maxima[0];
  let sum = sums[0];
  if (thread == 0u) { nll[s] = log(sum) + (largest - labelLogit); }
  ${backward ? GRADIENT : ""}
}`,
}));

/**
 * Writes nll of rows firstRow to firstRow + rows (at most 65,535 rows) and, where `backward`, turns
 * their logits into gradients.
 */
export function crossEntropy(
  gpu: Gpu,
  { logits, targets, weights, nll, control, rows, firstRow, vocab, backward }: {
    logits: Tensor;
    targets: Tensor;
    weights: Tensor;
    nll: Tensor;
    control: Tensor;
    rows: number;
    firstRow: number;
    vocab: number;
    backward: boolean;
  },
): void {
  const width = logits.rowSize;
  const tensors = backward ? [logits, targets, nll, weights, control] : [logits, targets, nll];
  gpu.run(program(backward), tensors, { width, vocab, firstRow }, [rows], {
    flops: rows * width * (backward ? 7 : 4),
    bytes: rows * width * (backward ? 12 : 4),
  });
}

const sumProgram = programFamily("weighted_sums", () => ({
  bindings: [
    { name: "nll", dtype: "f32", access: "read", scalar: true },
    { name: "weights", dtype: "f32", access: "read", scalar: true },
    { name: "totals", dtype: "f32", access: "write", scalar: true },
  ],
  uniforms: { firstRow: "u32", rows: "u32", slot: "u32" },
  body: `${sumOfThreads(THREADS)}
@compute @workgroup_size(${THREADS})
fn main(@builtin(local_invocation_index) thread: u32) {
  var partial = 0.0;
  for (var i = thread; i < u.rows; i += ${THREADS}u) {
    partial += nll[u.firstRow + i] * weights[u.firstRow + i];
  }
  let sum = sumOfThreads(thread, partial);
  if (thread == 0u) { totals[u.slot] = sum; }
}`,
}));

/** Writes Σ nll · weights over `rows` rows from `firstRow` on to out[slot]. */
export function weightedSums(
  gpu: Gpu,
  { nll, weights, out, slot, firstRow = 0, rows }: {
    nll: Tensor;
    weights: Tensor;
    out: Tensor;
    slot: number;
    firstRow?: number;
    rows: number;
  },
): void {
  gpu.run(sumProgram(), [nll, weights, out], { firstRow, rows, slot }, [1], {
    flops: 2 * rows,
    bytes: 8 * rows,
  });
}
