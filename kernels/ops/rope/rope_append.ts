/**
 * RoPE and the append to the KV cache, in one launch: queries are rotated in place, and rotated keys, and values, go
 * to their rows of a cache:
 * q[t] = rope(q[t]), cachedK[index[t]] = rope(k[t]), cachedV[index[t]] = v[t].
 *
 * Shapes: qkv `[T, (heads + 2·kvHeads) · D]` f32 or f16, the columns of q, then k, then v; cachedK and cachedV
 * `[L, kvHeads · D]` f32 or f16; positions and index `[T]` u32; table `[positions, D]` f32, as rope.ts makes it
 * and rotates by it. D is a multiple of 8.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, readsScalars, writes } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";
import { rotate } from "../../wgsl/rotate.ts";

const pair = rotate({ first: "a", second: "b", cos: "c", sin: "s" });

const program = programFamily("rope_append", ({ qkv, cache }: { qkv: Dtype; cache: Dtype }) => ({
  bindings: [
    ...writes(qkv, "qkv"),
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
  let head = i / u.half % (u.heads + 2u * u.kv_heads);
  let token = i / u.half / (u.heads + 2u * u.kv_heads);
  let size = 2u * u.half;
  let at = i / u.half * size + lane;
  var a = load_qkv(at);
  var b = load_qkv(at + u.half);
  if (head < u.heads + u.kv_heads) {
    let angle = positions[token] * size + lane;
    let c = load_table(angle);
    let s = load_table(angle + u.half);
    let rotated = ${pair.first};
    b = ${pair.second};
    a = rotated;
  }
  if (head < u.heads) {
    store_qkv(at, a);
    store_qkv(at + u.half, b);
    return;
  }
  let to = (index[token] * u.kv_heads + (head - u.heads) % u.kv_heads) * size + lane;
  if (head < u.heads + u.kv_heads) {
    store_cached_k(to, a);
    store_cached_k(to + u.half, b);
  } else {
    store_cached_v(to, a);
    store_cached_v(to + u.half, b);
  }`),
}));

/** Rotates the queries of the first `rows` rows of qkv, and appends their keys and values to the cache. */
export function ropeAppend(
  gpu: Gpu,
  { qkv, cachedK, cachedV, table, positions, index, rows, heads, kvHeads, headDim }: {
    qkv: Tensor;
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
    program({ qkv: qkv.dtype, cache: cachedK.dtype }),
    [qkv, cachedK, cachedV, table, positions, index],
    { vectors, heads, kv_heads: kvHeads, half },
    elementGrid(vectors),
    {
      flops: 3 * rows * (heads + kvHeads) * headDim,
      bytes: 2 * rows * headDim *
        (bytesOf(qkv.dtype) * (heads + kvHeads) + kvHeads * bytesOf(cachedK.dtype)),
    },
  );
}
