/**
 * The bias of a linear layer: y_t += s·b for every row t, s being 1 but for the bias of an adapter.
 *
 * Shapes: y `[T, M]` f32 or f16, in place, b `[N]` f32 or f16, for N columns of y from `from` on. N, M and
 * `from` are multiples of 4.
 * Backward: db = s·Σ_t dy_t, summed in f32; the gradient of the sum's other part is dy itself.
 *
 * @module
 */
import { columnSums } from "../../wgsl/column_sums.ts";
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";

const forward = programFamily("bias", ({ y, b }: { y: Dtype; b: Dtype }) => ({
  bindings: [
    { name: "y", dtype: y, access: "write" },
    { name: "b", dtype: b, access: "read" },
  ],
  // `width` and `stride` are the vectors of b and of a row of y.
  uniforms: { vectors: "u32", width: "u32", first: "u32", stride: "u32", scale: "f32" },
  body: elementMain(`
  let at = i / u.width * u.stride + u.first + i % u.width;
  store_y(at, load_y(at) + u.scale * load_b(i % u.width));`),
}));

/** Adds b, times `scale`, to the columns of `rows` rows of y. */
export function addBias(
  gpu: Gpu,
  { y, b, from = 0, rows, scale = 1 }: {
    y: Tensor;
    b: Tensor;
    from?: number;
    rows: number;
    scale?: number;
  },
): void {
  const width = b.size / 4, stride = y.rowSize / 4, vectors = rows * width;
  const uniforms = { vectors, width, first: from / 4, stride, scale };
  gpu.run(forward({ y: y.dtype, b: b.dtype }), [y, b], uniforms, elementGrid(vectors), {
    flops: 4 * vectors,
    bytes: 8 * vectors * bytesOf(y.dtype),
  });
}

/** Neighbouring vectors of a row that a workgroup sums. */
const COLUMNS = 32;
/** Threads that share a column, each with every so many rows; a software driver has none to spare. */
const lanesOn = ({ software }: Gpu) => software ? 1 : 8;

const backward = programFamily("bias_backward", ({ dy, lanes }: { dy: Dtype; lanes: number }) => ({
  bindings: [
    { name: "dy", dtype: dy, access: "read" },
    { name: "db", dtype: "f32", access: "write" },
  ],
  uniforms: { rows: "u32", width: "u32", first: "u32", stride: "u32", scale: "f32" },
  body: columnSums({
    columns: COLUMNS,
    lanes,
    add: "sum += load_dy(row * u.stride + u.first + column);",
    store: "store_db(column, load_db(column) + u.scale * sum);",
  }),
}));

/**
 * Adds the sums of the columns of `rows` rows of dy, times `scale`, to db (f32), in the same order every time.
 *
 * @param lanes Threads that share a column.
 */
export function biasBackward(
  gpu: Gpu,
  { dy, db, from = 0, rows, scale = 1, lanes = lanesOn(gpu) }: {
    dy: Tensor;
    db: Tensor;
    from?: number;
    rows: number;
    scale?: number;
    lanes?: number;
  },
): void {
  const width = db.size / 4, stride = dy.rowSize / 4;
  const uniforms = { rows, width, first: from / 4, stride, scale };
  gpu.run(backward({ dy: dy.dtype, lanes }), [dy, db], uniforms, [Math.ceil(width / COLUMNS)], {
    flops: rows * db.size,
    bytes: rows * db.size * bytesOf(dy.dtype) + 8 * db.size,
  });
}
