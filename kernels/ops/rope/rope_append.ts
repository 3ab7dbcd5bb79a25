/**
 * RoPE and the append to the KV cache, in one launch where it {@linkcode fuses}: queries are rotated in place, and
 * rotated keys, and values, go to their rows of a cache:
 * q[t] = rope(q[t]), cachedK[index[t]] = rope(k[t]), cachedV[index[t]] = v[t].
 *
 * Shapes: qkv `[T, (heads + 2·kvHeads) · D]` f32 or f16, the columns of q, then k, then v; cachedK and cachedV
 * `[L, kvHeads · D]` f32 or f16; index `[T]` u32; the rotation is rope.ts's. D is a multiple of 8.
 * What is left in the columns of k is undefined.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, readsScalars, writes } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";
import { type RotaryPairs, rotate } from "../../wgsl/rotate.ts";
import { fuses, rope, type RowRotation } from "./rope.ts";

/** WGSL that rotates the vectors of queries and keys by the angles of their position. */
function rotated(pairs: RotaryPairs | "none"): string {
  if (pairs === "none") return "";
  const pair = rotate({ first: "a", second: "b", cos: "c", sin: "s" }, pairs);
  return `
  if (head < u.heads + u.kv_heads) {
    let angle = positions[token] * size + lane;
    let c = load_table(angle);
    let s = load_table(angle + u.half);
    let rotated = ${pair.first};
    b = ${pair.second};
    a = rotated;
  }`;
}

/** What programs differ in; pairs are `none` where the queries and keys were rotated before. */
interface AppendVariant {
  qkv: Dtype;
  cache: Dtype;
  pairs: RotaryPairs | "none";
}

const program = programFamily("rope_append", ({ qkv, cache, pairs }: AppendVariant) => ({
  bindings: [
    ...writes(qkv, "qkv"),
    ...writes(cache, "cached_k", "cached_v"),
    ...pairs === "none" ? [] : reads("f32", "table"),
    ...readsScalars("u32", ...pairs === "none" ? ["index"] : ["positions", "index"]),
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
  var b = load_qkv(at + u.half);${rotated(pairs)}
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
  { qkv, cachedK, cachedV, rotation, index, rows, heads, kvHeads, headDim }: {
    qkv: Tensor;
    cachedK: Tensor;
    cachedV: Tensor;
    rotation: RowRotation;
    index: Tensor;
    rows: number;
    heads: number;
    kvHeads: number;
    headDim: number;
  },
): void {
  const half = headDim / 8, vectors = rows * (heads + 2 * kvHeads) * half;
  const { table, positions, rotary } = rotation, isFused = fuses(rotation, headDim);
  if (!isFused) rope(gpu, { x: qkv, rotation, rows, heads: heads + kvHeads, headDim });
  const pairs = isFused ? rotary.pairs : "none";
  gpu.run(
    program({ qkv: qkv.dtype, cache: cachedK.dtype, pairs }),
    [qkv, cachedK, cachedV, ...isFused ? [table, positions] : [], index],
    { vectors, heads, kv_heads: kvHeads, half },
    elementGrid(vectors),
    {
      flops: 3 * rows * (heads + kvHeads) * headDim,
      bytes: 2 * rows * headDim *
        (bytesOf(qkv.dtype) * (heads + kvHeads) + kvHeads * bytesOf(cachedK.dtype)),
    },
  );
}
