/**
 * The bias of a linear layer: y_t += b for every row t.
 *
 * Shapes: y `[T, N]` f32 or f16, in place, b `[N]` f32 or f16. N is a multiple of 4.
 * Backward: db = Σ_t dy_t, summed in f32; the gradient of the sum's other part is dy itself.
 *
 * @module
 */
import { elementMain, runElements } from "./elementwise.ts";
import type { Gpu } from "./gpu.ts";
import { programFamily } from "./program.ts";
import { bytesOf, type Dtype, splitRows, type Tensor } from "./tensor.ts";

const forward = programFamily("bias", (y: Dtype, b: Dtype) => ({
  bindings: [
    { name: "y", dtype: y, access: "write" },
    { name: "b", dtype: b, access: "read" },
  ],
  // `width` is a row's vectors; this part of y begins at vector `first`.
  uniforms: { vectors: "u32", first: "u32", width: "u32" },
  body: elementMain("store_y(i, load_y(i) + load_b((u.first + i) % u.width));"),
}));

/** Adds b to `rows` rows of y. */
export function addBias(
  gpu: Gpu,
  { y, b, rows }: { y: Tensor; b: Tensor; rows: number },
): void {
  runElements(gpu, forward(y.dtype, b.dtype), [y], {
    size: rows * y.rowSize,
    uniforms: { width: y.rowSize / 4 },
    shared: [b],
    cost: { flops: 1, bytes: 2 * bytesOf(y.dtype) },
  });
}

/** Neighbouring vectors of a row that a workgroup sums. */
const COLUMNS = 32;
/** Threads that share a column, each with every so many rows; a software driver has none to spare. */
const lanesOn = ({ software }: Gpu) => software ? 1 : 8;

const backward = programFamily("bias_backward", (dy: Dtype, lanes: number) => ({
  bindings: [
    { name: "dy", dtype: dy, access: "read" },
    { name: "db", dtype: "f32", access: "write" },
  ],
  uniforms: { rows: "u32", width: "u32" },
  body: `
var<workgroup> sums: array<array<vec4<f32>, ${COLUMNS}>, ${lanes}>;
@compute @workgroup_size(${COLUMNS * lanes})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let lane = thread / ${COLUMNS}u;
  let place = thread % ${COLUMNS}u;
  let column = group.x * ${COLUMNS}u + place;
  var sum = vec4<f32>();
  if (column < u.width) {
    for (var row = lane; row < u.rows; row += ${lanes}u) {
      sum += load_dy(row * u.width + column);
    }
  }
  sums[lane][place] = sum;
  workgroupBarrier();
  if (lane > 0u || column >= u.width) { return; }
  for (var other = 1u; other < ${lanes}u; other++) { sum += sums[other][place]; }
  store_db(column, load_db(column) + sum);
}`,
}));

/**
 * Adds the sums of `rows` rows of dy to db (f32), in the same order every time.
 *
 * @param lanes Threads that share a column.
 */
export function biasBackward(
  gpu: Gpu,
  { dy, db, rows, lanes = lanesOn(gpu) }: { dy: Tensor; db: Tensor; rows: number; lanes?: number },
): void {
  const width = dy.rowSize / 4, rowBytes = dy.rowSize * bytesOf(dy.dtype);
  const parts = splitRows(dy.shape[0], rowBytes, gpu.maxBinding);
  for (const { start, count } of parts) {
    const own = Math.min(count, rows - start);
    if (own <= 0) break;
    const part = parts.length === 1 ? dy : dy.rows(start, count);
    const workgroups = Math.ceil(width / COLUMNS);
    gpu.run(backward(dy.dtype, lanes), [part, db], { rows: own, width }, [workgroups], {
      flops: own * dy.rowSize,
      bytes: own * rowBytes + 8 * dy.rowSize,
    });
  }
}
