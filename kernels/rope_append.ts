/**
 * What a KV cache asks of a block's projections, in one launch: queries and keys are turned by their
 * positions, in place, and keys and values go to their rows of the cache:
 * cachedK[index[t]] = rope(k[t]), cachedV[index[t]] = v[t].
 *
 * Shapes: q `[T, heads · D]`, k and v `[T, kvHeads · D]`, cachedK and cachedV `[L, kvHeads · D]`, each
 * of the three in a dtype of its own, f32 or f16; positions and index `[T]` u32; table `[positions, D]` f32,
 * as rope.ts makes it and turns by it. D is a multiple of 8.
 *
 * @module
 */
import { elementGrid, elementMain } from "./elementwise.ts";
import type { Gpu } from "./gpu.ts";
import { programFamily, reads, readsScalars, writes } from "./program.ts";
import { bytesOf, type Dtype, type Tensor } from "./tensor.ts";

const program = programFamily("rope_append", (q: Dtype, kv: Dtype, cache: Dtype) => ({
  bindings: [
    ...writes(q, "q"),
    ...writes(kv, "k"),
    ...reads(kv, "v"),
    ...writes(cache, "cached_k", "cached_v"),
    ...reads("f32", "table"),
    ...readsScalars("u32", "positions", "index"),
  ],
  // `half` is half a head's vectors.
  uniforms: { vectors: "u32", heads: "u32", kv_heads: "u32", half: "u32" },
  // One thread for two vectors, half a head apart: of all query heads of a token, then key heads, then
  // value heads.
  body: elementMain(`
  let lane = i % u.half;
  let each = u.heads + 2u * u.kv_heads;
  let head = i / u.half % each;
  let token = i / u.half / each;
  let size = 2u * u.half;
  if (head >= u.heads + u.kv_heads) {
    let kv_head = head - u.heads - u.kv_heads;
    let at = (token * u.kv_heads + kv_head) * size + lane;
    let to = (index[token] * u.kv_heads + kv_head) * size + lane;
    store_cached_v(to, load_v(at));
    store_cached_v(to + u.half, load_v(at + u.half));
    return;
  }
  let angle = positions[token] * size + lane;
  let c = load_table(angle);
  let s = load_table(angle + u.half);
  if (head < u.heads) {
    let at = (token * u.heads + head) * size + lane;
    let a = load_q(at);
    let b = load_q(at + u.half);
    store_q(at, a * c - b * s);
    store_q(at + u.half, b * c + a * s);
    return;
  }
  let kv_head = head - u.heads;
  let at = (token * u.kv_heads + kv_head) * size + lane;
  let to = (index[token] * u.kv_heads + kv_head) * size + lane;
  let a = load_k(at);
  let b = load_k(at + u.half);
  store_k(at, a * c - b * s);
  store_k(at + u.half, b * c + a * s);
  // Read back, so that a cache of more precision holds what attention within a pass sees.
  store_cached_k(to, load_k(at));
  store_cached_k(to + u.half, load_k(at + u.half));`),
}));

/** Turns the first `rows` rows of q and k, and appends k and v to the cache. */
export function ropeAppend(
  gpu: Gpu,
  { q, k, v, cachedK, cachedV, table, positions, index, rows, heads, kvHeads, headDim }: {
    q: Tensor;
    k: Tensor;
    v: Tensor;
    cachedK: Tensor;
    cachedV: Tensor;
    table: Tensor;
    positions: Tensor;
    index: Tensor;
    rows: number;
    heads: number;
    kvHeads: number;
    headDim: number;
  },
): void {
  const half = headDim / 8, vectors = rows * (heads + 2 * kvHeads) * half;
  gpu.run(
    program(q.dtype, k.dtype, cachedK.dtype),
    [q, k, v, cachedK, cachedV, table, positions, index],
    { vectors, heads, kv_heads: kvHeads, half },
    elementGrid(vectors),
    {
      flops: 3 * rows * (heads + kvHeads) * headDim,
      bytes: rows * headDim * (bytesOf(q.dtype) * 2 * heads +
        kvHeads * (3 * bytesOf(k.dtype) + 2 * bytesOf(cachedK.dtype))),
    },
  );
}
