/**
 * Rows of a KV cache: appending those of a pass, and copying some from one place to another.
 *
 * Shapes: x `[T, C]`, cache `[L, C]`, f32 or f16 each, C a multiple of 4; index `[T]` u32 below L.
 * Append: cache[index[t]] = x[t]. Move: cache[to + i] = cache[from + i] for i below `rows`.
 *
 * @module
 */
import { elementGrid, elementMain } from "./elementwise.ts";
import type { Gpu } from "./gpu.ts";
import { programFamily } from "./program.ts";
import { bytesOf, type Dtype, type Tensor } from "./tensor.ts";

const append = programFamily("append_rows", (x: Dtype, cache: Dtype) => ({
  bindings: [
    { name: "k", dtype: x, access: "read" },
    { name: "v", dtype: x, access: "read" },
    { name: "cached_k", dtype: cache, access: "write" },
    { name: "cached_v", dtype: cache, access: "write" },
    { name: "index", dtype: "u32", access: "read", scalar: true },
  ],
  uniforms: { vectors: "u32", width: "u32" },
  body: elementMain(`
  let to = index[i / u.width] * u.width + i % u.width;
  store_cached_k(to, load_k(i));
  store_cached_v(to, load_v(i));`),
}));

/** Copies the first `rows` rows of k and v to the rows of the cache that `index` names. */
export function appendRows(
  gpu: Gpu,
  { k, v, cachedK, cachedV, index, rows }: {
    k: Tensor;
    v: Tensor;
    cachedK: Tensor;
    cachedV: Tensor;
    index: Tensor;
    rows: number;
  },
): void {
  const width = k.rowSize / 4, vectors = rows * width;
  const program = append(k.dtype, cachedK.dtype);
  gpu.run(program, [k, v, cachedK, cachedV, index], { vectors, width }, elementGrid(vectors), {
    flops: 0,
    bytes: 8 * vectors * (bytesOf(k.dtype) + bytesOf(cachedK.dtype)),
  });
}

const move = programFamily("move_rows", (dtype: Dtype) => ({
  bindings: [{ name: "x", dtype, access: "write" }],
  uniforms: { vectors: "u32", first: "u32", place: "u32" },
  body: elementMain("store_x(u.place + i, load_x(u.first + i));"),
}));

/** Copies `rows` rows of x from row `from` on to row `to` on; the two ranges do not overlap. */
export function moveRows(
  gpu: Gpu,
  { x, from, to, rows }: { x: Tensor; from: number; to: number; rows: number },
): void {
  if (Math.abs(from - to) < rows || Math.max(from, to) + rows > x.shape[0]) {
    throw new Error(`${x.name}: ${rows} rows can't be copied from ${from} to ${to}`);
  }
  const width = x.rowSize / 4, vectors = rows * width;
  const uniforms = { vectors, first: from * width, place: to * width };
  gpu.run(move(x.dtype), [x], uniforms, elementGrid(vectors), {
    flops: 0,
    bytes: 8 * vectors * bytesOf(x.dtype),
  });
}
