/**
 * The square of the gradients' norm, as partial sums over any number of tensors:
 * Σ (x / scale)², with the loss scale from the grad-scaler tensor (loss_scale.ts).
 *
 * Shapes: x f32 of any shape and size, partials f32. Each workgroup writes one slot, so slots are
 * always summed in the same order.
 *
 * @module
 */
import { bindableSlices } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { GRAD_SCALER } from "./loss_scale.ts";
import { programFamily } from "../../gpu/program.ts";
import { sumOfThreads } from "../../wgsl/reduce.ts";
import { Tensor } from "../../gpu/tensor.ts";

const THREADS = 256;
/** Vectors that one thread adds up before more workgroups are started. */
const VECTORS_PER_THREAD = 4;
const MOST_SLOTS = 256;

const squares = programFamily("sum_of_squares", () => ({
  bindings: [
    { name: "x", dtype: "f32", access: "read" },
    { name: "gradScaler", dtype: "f32", access: "read", scalar: true },
    { name: "partials", dtype: "f32", access: "write", scalar: true },
  ],
  uniforms: { vectors: "u32", slot: "u32" },
  body: `${sumOfThreads(THREADS)}
@compute @workgroup_size(${THREADS})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  // Before squaring: (scaled gradient)² could overflow.
  let factor = 1.0 / gradScaler[${GRAD_SCALER.scale}];
  var partial = 0.0;
  for (var i = group.x * ${THREADS}u + thread; i < u.vectors; i += groups.x * ${THREADS}u) {
    let v = load_x(i) * factor;
    partial += dot(v, v);
  }
  let sum = sumOfThreads(thread, partial);
  if (thread == 0u) { partials[u.slot + group.x] = sum; }
}`,
}));

function slotsOf(vectors: number): number {
  return Math.min(MOST_SLOTS, Math.ceil(vectors / (THREADS * VECTORS_PER_THREAD)));
}

/** Slots that {@linkcode sumOfSquares} fills for a tensor of `size` elements. */
export function sumOfSquaresSlots(size: number, maxBinding: number): number {
  const planned = new Tensor("planned", "f32", [size], undefined);
  return bindableSlices({ maxBinding }, [planned], size)
    .reduce((slots, { vectors }) => slots + slotsOf(vectors), 0);
}

/** Writes partial sums of (x / scale)² from partials[slot] on and returns how many. */
export function sumOfSquares(
  gpu: Gpu,
  { x, partials, slot, gradScaler }: {
    x: Tensor;
    partials: Tensor;
    slot: number;
    gradScaler: Tensor;
  },
): number {
  let used = 0;
  for (const { tensors, vectors } of bindableSlices(gpu, [x], x.size)) {
    const groups = slotsOf(vectors);
    const uniforms = { vectors, slot: slot + used };
    gpu.run(squares({}), [...tensors, gradScaler, partials], uniforms, [groups], {
      flops: 12 * vectors,
      bytes: 16 * vectors,
    });
    used += groups;
  }
  return used;
}
