/**
 * Rows of the token embedding that are trained on their own, as PEFT's trainable tokens: row indices[j] of the table
 * is row j of `delta`.
 *
 * Shapes: table `[V, H]` f32 or f16, indices `[n]` u32, all different and below V, delta `[n, H]` f32 and its gradient
 * `[n, H]` f32. H is a multiple of 4, delta may have more rows. The rows are written into the table whenever they have
 * changed, so that the embedding and an output end that shares the table read them as any other. Backward:
 *
 *  - of the embedding: grad_j += Σ dy_t over the t with ids[t] = indices[j], grouped by token on the host;
 *  - of an output end on the same table: grad += dᵀ·x, where d `[S, n]` has the tokens' columns of the logits'
 *    gradient ({@linkcode takeColumns}) and x `[S, H]` is what was projected: a product of matmul.ts.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, readsScalars, writes } from "../../gpu/program.ts";
import { bytesOf, type Dtype, splitRows, type Tensor } from "../../gpu/tensor.ts";

const put = programFamily("put_token_rows", ({ table }: { table: Dtype }) => ({
  bindings: [
    ...reads("f32", "delta"),
    ...readsScalars("u32", "indices"),
    ...writes(table, "table"),
  ],
  // `width` is a row's vectors; this slice of the table has rows first to first + count.
  uniforms: { vectors: "u32", width: "u32", first: "u32", count: "u32" },
  body: elementMain(`
  // Rows before this slice wrap around to large numbers.
  let row = indices[i / u.width] - u.first;
  if (row < u.count) { store_table(row * u.width + i % u.width, load_delta(i)); }`),
}));

/** Writes the first `count` rows of delta into the table. */
export function putTokenRows(
  gpu: Gpu,
  { delta, indices, table, count }: {
    delta: Tensor;
    indices: Tensor;
    table: Tensor;
    count: number;
  },
): void {
  const hidden = table.rowSize, width = hidden / 4, vectors = count * width;
  const slices = splitRows(table.shape[0], hidden * bytesOf(table.dtype), gpu.maxBinding);
  for (const { start: first, count: own } of slices) {
    const slice = slices.length === 1 ? table : table.rows(first, own);
    const uniforms = { vectors, width, first, count: own };
    gpu.run(put({ table: table.dtype }), [delta, indices, slice], uniforms, elementGrid(vectors), {
      flops: 0,
      bytes: count * hidden * (4 + bytesOf(table.dtype)) / slices.length,
    });
  }
}

/** The slot of a token whose row is not trained. */
const NO_ROW = 0xffffffff;

/** For every token of a vocabulary its row of delta, for {@linkcode tokenRowsBackward}. */
export function tokenSlots(
  vocabulary: number,
  indices: readonly number[],
): Uint32Array<ArrayBuffer> {
  const slots = new Uint32Array(vocabulary).fill(NO_ROW);
  indices.forEach((token, row) => slots[token] = row);
  return slots;
}

const backward = programFamily("token_rows_backward", () => ({
  bindings: [
    ...reads("f32", "dy"),
    ...readsScalars("u32", "slots", "uniqueIds", "offsets", "positions"),
    ...writes("f32", "grad"),
  ],
  uniforms: { vectors: "u32", width: "u32" },
  body: elementMain(`
  let token = i / u.width;
  let column = i % u.width;
  let row = slots[uniqueIds[token]];
  if (row == ${NO_ROW}u) { return; }
  var sum = vec4<f32>();
  for (var k = offsets[token]; k < offsets[token + 1u]; k++) {
    sum += load_dy(positions[k] * u.width + column);
  }
  let at = row * u.width + column;
  store_grad(at, load_grad(at) + sum);`),
}));

/**
 * Adds to the gradient of delta that of the embedding's rows dy `[T, H]`.
 *
 * @param operands `slots`: {@linkcode tokenSlots}. `uniqueIds`, `offsets`, `positions`, `unique`: the ids' groups,
 * see `groupTokens` of embedding.ts.
 */
export function tokenRowsBackward(
  gpu: Gpu,
  { dy, slots, uniqueIds, offsets, positions, unique, grad }: {
    dy: Tensor;
    slots: Tensor;
    uniqueIds: Tensor;
    offsets: Tensor;
    positions: Tensor;
    unique: number;
    grad: Tensor;
  },
): void {
  const width = grad.rowSize / 4, vectors = unique * width, trained = grad.shape[0] * width;
  gpu.run(
    backward({}),
    [dy, slots, uniqueIds, offsets, positions, grad],
    { vectors, width },
    elementGrid(vectors),
    { flops: 4 * trained, bytes: 48 * trained },
  );
}

const take = programFamily("take_columns", () => ({
  bindings: [...readsScalars("f32", "x"), ...readsScalars("u32", "indices"), ...writes("f32", "y")],
  // `width` is the vectors of a row of y, `count` the columns that are taken, `stride` the elements of a row of x.
  uniforms: { vectors: "u32", width: "u32", count: "u32", stride: "u32" },
  body: `
fn column(row: u32, j: u32) -> f32 {
  if (j >= u.count) { return 0.0; }
  return x[row * u.stride + indices[j]];
}` + elementMain(`
  let row = i / u.width;
  let j = i % u.width * 4u;
  store_y(i, vec4<f32>(column(row, j), column(row, j + 1u), column(row, j + 2u), column(row, j + 3u)));`),
}));

/** y[s, j] = x[s, indices[j]] for `rows` rows of x `[S, V]` and j below `count`, 0 in further columns of y. */
export function takeColumns(
  gpu: Gpu,
  { x, indices, count, y, rows }: {
    x: Tensor;
    indices: Tensor;
    count: number;
    y: Tensor;
    rows: number;
  },
): void {
  const width = y.rowSize / 4, vectors = rows * width, stride = x.rowSize;
  gpu.run(take({}), [x, indices, y], { vectors, width, count, stride }, elementGrid(vectors), {
    flops: 0,
    bytes: 32 * vectors,
  });
}
