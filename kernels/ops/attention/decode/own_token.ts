/**
 * WGSL of the token that asks (program.ts): its queries and its key rotated by its position, its key and
 * value into the cache, and its own part in the attention of its queries.
 *
 * @module
 */
import { repeat } from "../../../wgsl/repeat.ts";
import type { Dtype } from "../../../gpu/tensor.ts";
import { rotate } from "../../../wgsl/rotate.ts";
import type { RowWord } from "../row_index.ts";
import { scoreForExp2 } from "../score.ts";
import { addShares, addValue, keyPart, weigh } from "./slot_sums.ts";
import type { DecodeLayout } from "./layout.ts";

/** WGSL of four elements as a cache stores them, and of 16 bytes of a cache. */
function conversions(kv: Dtype): string {
  if (kv === "f32") {
    return `
alias Stored = vec4<f32>;
fn stored(x: vec4<f32>) -> Stored { return x; }
fn value(x: Stored) -> vec4<f32> { return x; }
fn values(x: vec4<u32>) -> array<vec4<f32>, 1> { return array<vec4<f32>, 1>(bitcast<vec4<f32>>(x)); }
fn words(x: array<Stored, 1>) -> vec4<u32> { return bitcast<vec4<u32>>(x[0]); }`;
  }
  return `
alias Stored = vec2<u32>;
fn stored(x: vec4<f32>) -> Stored { return vec2<u32>(pack2x16float(x.xy), pack2x16float(x.zw)); }
fn value(x: Stored) -> vec4<f32> { return vec4<f32>(unpack2x16float(x.x), unpack2x16float(x.y)); }
fn values(x: vec4<u32>) -> array<vec4<f32>, 2> {
  return array<vec4<f32>, 2>(value(vec2<u32>(x.x, x.y)), value(vec2<u32>(x.z, x.w)));
}
fn words(x: array<Stored, 2>) -> vec4<u32> { return vec4<u32>(x[0], x[1]); }`;
}

/** First load of a key's or value's row in the cache. */
export function cacheRow(key: string, { lanes }: DecodeLayout): string {
  return `((${key}) * u.kv_heads + kv_head) * ${lanes}u`;
}

/** Declarations of what follows. */
export function tokenDeclarations({ kv, heads, vectors, pairs }: DecodeLayout): string {
  return `${conversions(kv)}
var<workgroup> queries: array<array<vec4<f32>, ${vectors}>, ${heads}>;
// As they are stored: NVIDIA's compiler leaves a value as it was that is packed and unpacked in one place.
var<workgroup> own_key: array<Stored, ${vectors}>;
var<workgroup> own_value: array<Stored, ${vectors}>;

${rotatedVectors(vectors, pairs)}`;
}

/** WGSL of the vectors that attention reads. */
function rotatedVectors(vectors: number, pairs: DecodeLayout["pairs"]): string {
  if (pairs === "none") {
    return `/** Vectors \`at\` and half a head further, which were rotated before. */
fn rotated(at: u32, angle: u32) -> array<vec4<f32>, 2> {
  return array<vec4<f32>, 2>(load_qkv(at), load_qkv(at + ${vectors / 2}u));
}`;
  }
  const pair = rotate({ first: "a", second: "b", cos: "c", sin: "s" }, pairs);
  return `/** Vectors \`at\` and half a head further, rotated by the angles of a position. */
fn rotated(at: u32, angle: u32) -> array<vec4<f32>, 2> {
  let a = load_qkv(at);
  let b = load_qkv(at + ${vectors / 2}u);
  let c = load_table(angle);
  let s = load_table(angle + ${vectors / 2}u);
  return array<vec4<f32>, 2>(${pair.first}, ${pair.second});
}`;
}

/** Leaves the rotated queries for all threads to read, and where the split has the token its key and value. */
export function rotateToken(
  { heads, threads, vectors, pairs }: DecodeLayout,
  word: RowWord,
): string {
  return `
  let angles = ${pairs === "none" ? "0u" : `${word("positions", "row")} * ${vectors}u`};
  let row_start = row * (u.heads + 2u * u.kv_heads) * ${vectors}u;
  for (var i = thread; i < ${heads * vectors / 2}u; i += ${threads}u) {
    let h = i / ${vectors / 2}u;
    let l = i % ${vectors / 2}u;
    let pair = rotated(row_start + (head + h) * ${vectors}u + l, angles + l);
    queries[h][l] = pair[0];
    queries[h][l + ${vectors / 2}u] = pair[1];
  }
  if (has_own && thread < ${vectors / 2}u) {
    let other = thread + ${vectors / 2}u;
    let pair = rotated(row_start + (u.heads + kv_head) * ${vectors}u + thread, angles + thread);
    own_key[thread] = stored(pair[0]);
    own_key[other] = stored(pair[1]);
    let at = row_start + (u.heads + u.kv_heads + kv_head) * ${vectors}u;
    own_value[thread] = stored(load_qkv(at + thread));
    own_value[other] = stored(load_qkv(at + other));
  }
  workgroupBarrier();`;
}

/** Appends key and value to the cache. */
export function storeToken(layout: DecodeLayout): string {
  const { lanes } = layout;
  return `
  // One of the workgroups that share a key head stores it.
  if (has_own && thread < ${lanes}u && head % (u.heads / u.kv_heads) == 0u) {
    let at = ${cacheRow("end - 1u", layout)} + thread;
    cached_k[at] = ${ownLoad("key", "thread", layout)};
    cached_v[at] = ${ownLoad("value", "thread", layout)};
  }`;
}

/** A load of the token's own key or value, as the cache has it. */
function ownLoad(x: "key" | "value", load: string, { perLoad }: DecodeLayout): string {
  const parts = Array.from(
    { length: perLoad },
    (_, p) => `own_${x}[${perLoad}u * (${load}) + ${p}u]`,
  );
  return `words(array<Stored, ${perLoad}>(${parts.join(", ")}))`;
}

/** Adds the token's own key and value to the sums of the first slot. */
export function addToken(layout: DecodeLayout): string {
  const { heads, perKey, sharing, softcap } = layout;
  const loads = (x: string) => Array.from({ length: perKey }, (_, i) => `${x}${i}`);
  const scores = Array.from({ length: heads }, (_, h) => `score${h}`);
  return `
  if (has_own) {
    ${
    repeat(perKey, (i) =>
      `let k${i} = values(${ownLoad("key", `share + ${i * sharing}u`, layout)});
    let v${i} = values(${ownLoad("value", `share + ${i * sharing}u`, layout)});`)
  }
    ${repeat(heads, (h) => `var score${h} = ${keyPart(h, loads("k"), layout)};`)}
    ${addShares(scores, layout)}
    ${
    repeat(heads, (h) =>
      `score${h} = select(MASKED, ${scoreForExp2(`score${h}`, softcap)}, slot == 0u);
    ${weigh(h, [`score${h}`], layout)}
    ${addValue(h, `weight${h}_0`, loads("v"), layout)}`)
  }
  }`;
}
