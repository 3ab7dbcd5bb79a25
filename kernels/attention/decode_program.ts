/**
 * The WGSL of one range of keys (attention_decode.ts). A tile goes three ways over the threads: each has parts of
 * keys' dot products, then the score of one key, then a few columns of values that lie rows apart.
 *
 * What arrives late is asked for first: the first tile's keys and values before the query is turned, the
 * next tile's before the scores of this one.
 *
 * @module
 */
import { type Binding, programFamily, reads, readsScalars, repeat, writes } from "../program.ts";
import type { Dtype } from "../tensor.ts";

/** Loads that a thread has under way at once: of keys, and of values. */
const KEY_LOADS = 16, VALUE_LOADS = 8;

/** How the work of one head dimension is laid out over a workgroup's threads. */
export interface DecodeLayout {
  threads: number;
  /** Elements of one load, which is 16 bytes, and loads of a row of keys or values. */
  wide: number;
  lanes: number;
  /** Threads that share a key; each makes `perKey` loads of it. */
  sharing: number;
  perKey: number;
  /** Keys of a thread, and of all threads together. */
  rounds: number;
  tile: number;
  /** Loads of a workgroup's columns of a row of values, and rows that are read side by side. */
  valueLanes: number;
  places: number;
}

/** The layout for a head dimension, a multiple of 8, whose value columns go to `columnGroups` workgroups. */
export function decodeLayout(
  kv: Dtype,
  headDim: number,
  { threads, columnGroups }: { threads: number; columnGroups: number },
): DecodeLayout {
  const wide = kv === "f16" ? 8 : 4, lanes = headDim / wide;
  const sharing = [4, 2, 1].find((count) => lanes % count === 0)!;
  const perKey = lanes / sharing;
  const rounds = Math.max(1, Math.min(sharing, Math.floor(KEY_LOADS / perKey)));
  const valueLanes = lanes / columnGroups, places = Math.floor(threads / valueLanes);
  return {
    ...{ threads, wide, lanes, sharing, perKey, rounds },
    ...{ tile: rounds * threads / sharing, valueLanes, places },
  };
}

/** A list of WGSL expressions, joined. */
const list = (count: number, item: (i: number) => string, joint: string) =>
  Array.from({ length: count }, (_, i) => item(i)).join(joint);

/** WGSL of 16 bytes of a cache as vectors of four, and back. */
function conversions(kv: Dtype): string {
  if (kv === "f32") {
    return `
fn rounded(x: vec4<f32>) -> vec4<f32> { return x; }
fn values(x: vec4<u32>) -> array<vec4<f32>, 1> { return array<vec4<f32>, 1>(bitcast<vec4<f32>>(x)); }
fn words(x: array<vec4<f32>, 1>) -> vec4<u32> { return bitcast<vec4<u32>>(x[0]); }`;
  }
  return `
fn halves(x: vec4<f32>) -> vec2<u32> { return vec2<u32>(pack2x16float(x.xy), pack2x16float(x.zw)); }
fn whole(x: vec2<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(x.x), unpack2x16float(x.y)); }
fn rounded(x: vec4<f32>) -> vec4<f32> { return whole(halves(x)); }
fn values(x: vec4<u32>) -> array<vec4<f32>, 2> {
  return array<vec4<f32>, 2>(whole(vec2<u32>(x.x, x.y)), whole(vec2<u32>(x.z, x.w)));
}
fn words(x: array<vec4<f32>, 2>) -> vec4<u32> { return vec4<u32>(halves(x[0]), halves(x[1])); }`;
}

/** The program of a layout, for `heads` query heads a workgroup. */
export const decodeProgram = programFamily(
  "attention_decode",
  (
    q: Dtype,
    kv: Dtype,
    headDim: number,
    heads: number,
    threads: number,
    columnGroups: number,
    subgroups: boolean,
  ) => {
    const layout = decodeLayout(kv, headDim, { threads, columnGroups });
    const { wide, lanes, sharing, perKey, rounds, tile, valueLanes, places } = layout;
    /** Vectors of four of a workgroup's columns. */
    const columns = headDim / 4 / columnGroups;
    const vectors = headDim / 4, perLoad = wide / 4;
    /** Loads of values that a thread has under way at once, and rounds of them for a tile. */
    const valueLoads = Math.min(VALUE_LOADS, Math.ceil(tile / places));
    const batches = Math.ceil(tile / (places * valueLoads));
    /** Threads that share a column when the places are added up. */
    const parts = Math.min(Math.floor(threads / columns), Math.ceil(Math.sqrt(places)));
    const slots = subgroups ? Math.ceil(threads / 4) : threads;
    const cached = (name: string): Binding => ({ name, dtype: kv, access: "write", raw: true });
    const eachHead = (line: (h: number) => string) => repeat(heads, line);
    const eachPart = (line: (p: number) => string) => repeat(perLoad, line);
    const cacheRow = (key: string) => `((${key}) * u.kv_heads + kv_head) * ${lanes}u`;
    /** Loads that lie past the end become those of the last row: they are not counted. */
    const loadKeys = (first: string) =>
      repeat(rounds, (r) =>
        `{
      let at = ${cacheRow(`min(${first} + ${r * threads / sharing}u + key, last_row)`)} + share;
      ${repeat(perKey, (i) => `k${r}_${i} = cached_k[at + ${i * sharing}u];`)}
    }`);
    const loadValues = (first: string) =>
      repeat(
        valueLoads,
        (i) =>
          `v${i} = cached_v[${
            cacheRow(`min(${first} + ${i * places}u + place, last_row)`)
          } + columns * ${valueLanes}u + lane];`,
      );
    const highest = subgroups
      ? `${
        eachHead((h) =>
          `let top_here${h} = subgroupMax(score${h});
    if (subgroup_thread == 0u) { highest[${h}][thread / size] = top_here${h}; }`
        )
      }
    workgroupBarrier();
    ${eachHead((h) => `var new_top${h} = top${h};`)}
    for (var s = 0u; s < ${threads}u / size; s++) {
      ${eachHead((h) => `new_top${h} = max(new_top${h}, highest[${h}][s]);`)}
    }`
      : `${eachHead((h) => `highest[${h}][thread] = score${h};`)}
    for (var stride = ${threads / 2}u; stride > 0u; stride /= 2u) {
      workgroupBarrier();
      if (thread < stride) {
        ${
        eachHead((h) =>
          `highest[${h}][thread] = max(highest[${h}][thread], highest[${h}][thread + stride]);`
        )
      }
      }
    }
    workgroupBarrier();
    ${eachHead((h) => `let new_top${h} = max(top${h}, highest[${h}][0]);`)}`;
    return {
      bindings: [
        ...reads(q, "qkv"),
        ...[cached("cached_k"), cached("cached_v")],
        ...reads("f32", "table"),
        ...readsScalars("u32", "positions", "starts", "ends"),
        ...writes(q, "out"),
        ...writes("f32", "sums"),
        { name: "tops", dtype: "f32", access: "write", scalar: true },
      ],
      uniforms: {
        ...{ heads: "u32", kv_heads: "u32", splits: "u32", keys_per_split: "u32", scale: "f32" },
      },
      extensions: subgroups ? ["subgroups"] : [],
      body: `
// A score that is no score. A true one may be NaN or infinite and must stay so.
const MASKED = -3.4028234e38;
var<workgroup> queries: array<array<vec4<f32>, ${vectors}>, ${heads}>;
var<workgroup> own_key: array<vec4<f32>, ${vectors}>;
var<workgroup> own_value: array<vec4<f32>, ${vectors}>;
var<workgroup> own_products: array<array<f32, ${vectors}>, ${heads}>;
var<workgroup> products: array<array<array<f32, ${sharing}>, ${tile}>, ${heads}>;
var<workgroup> weights: array<array<f32, ${tile}>, ${heads}>;
var<workgroup> highest: array<array<f32, ${slots}>, ${heads}>;
var<workgroup> partial: array<array<vec4<f32>, ${columns}>, ${places}>;
var<workgroup> totals: array<f32, ${places}>;
var<workgroup> part_totals: array<f32, ${parts}>;
${conversions(kv)}

/** Vectors \`at\` and half a head further, turned by the angles of a position. */
fn turned(at: u32, angle: u32) -> array<vec4<f32>, 2> {
  let a = load_qkv(at);
  let b = load_qkv(at + ${vectors / 2}u);
  let c = load_table(angle);
  let s = load_table(angle + ${vectors / 2}u);
  return array<vec4<f32>, 2>(a * c - b * s, b * c + a * s);
}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  ${
        subgroups
          ? "@builtin(subgroup_size) size: u32,\n  @builtin(subgroup_invocation_id) subgroup_thread: u32,"
          : ""
      }
) {
  let head = group.x / ${columnGroups}u * ${heads}u;
  let columns = group.x % ${columnGroups}u;
  let kv_head = head / (u.heads / u.kv_heads);
  let row = group.z;
  let first = starts[row] + group.y * u.keys_per_split;
  let end = min(ends[row], first + u.keys_per_split);
  // The range with the token itself, which is not in the cache yet.
  let has_own = first < end && end == ends[row];
  let cached_end = select(end, end - 1u, has_own);
  let last_row = max(cached_end, 1u) - 1u;
  let share = thread % ${sharing}u;
  let key = thread / ${sharing}u;
  let lane = thread % ${valueLanes}u;
  let place = thread / ${valueLanes}u;

  // Keys and values of the first tile are on their way while the query is turned.
  ${repeat(rounds, (r) => repeat(perKey, (i) => `var k${r}_${i}: vec4<u32>;`))}
  ${repeat(valueLoads, (i) => `var v${i}: vec4<u32>;`)}
  ${loadKeys("first")}
  ${loadValues("first")}

  let angles = positions[row] * ${vectors}u;
  let row_start = row * (u.heads + 2u * u.kv_heads) * ${vectors}u;
  for (var i = thread; i < ${heads * vectors / 2}u; i += ${threads}u) {
    let h = i / ${vectors / 2}u;
    let l = i % ${vectors / 2}u;
    let pair = turned(row_start + (head + h) * ${vectors}u + l, angles + l);
    queries[h][l] = pair[0];
    queries[h][l + ${vectors / 2}u] = pair[1];
  }
  if (has_own && thread < ${vectors / 2}u) {
    let other = thread + ${vectors / 2}u;
    let pair = turned(row_start + (u.heads + kv_head) * ${vectors}u + thread, angles + thread);
    own_key[thread] = rounded(pair[0]);
    own_key[other] = rounded(pair[1]);
    let at = row_start + (u.heads + u.kv_heads + kv_head) * ${vectors}u;
    own_value[thread] = rounded(load_qkv(at + thread));
    own_value[other] = rounded(load_qkv(at + other));
  }
  workgroupBarrier();
  // One of the workgroups that share a key head stores it.
  if (has_own && thread < ${lanes}u && columns == 0u && head % (u.heads / u.kv_heads) == 0u) {
    let at = ${cacheRow("end - 1u")} + thread;
    cached_k[at] = words(array<vec4<f32>, ${perLoad}>(${
        list(perLoad, (p) => `own_key[${perLoad}u * thread + ${p}u]`, ", ")
      }));
    cached_v[at] = words(array<vec4<f32>, ${perLoad}>(${
        list(perLoad, (p) => `own_value[${perLoad}u * thread + ${p}u]`, ", ")
      }));
  }
  if (has_own && thread < ${vectors}u) {
    ${eachHead((h) => `own_products[${h}][thread] = dot(queries[${h}][thread], own_key[thread]);`)}
  }
  ${
        eachHead((h) =>
          `${eachPart((p) => `var sum${h}_${p} = vec4<f32>();`)}
  var total${h} = 0.0;
  var top${h} = MASKED;`
        )
      }

  for (var tile = first; tile < cached_end; tile += ${tile}u) {
    ${
        repeat(rounds, (r) =>
          `{
      ${eachHead((h) => `var part${h} = 0.0;`)}
      ${
            repeat(perKey, (i) =>
              `{
        let x = values(k${r}_${i});
        ${
                eachHead((h) =>
                  eachPart((p) =>
                    `part${h} += dot(queries[${h}][(share + ${
                      i * sharing
                    }u) * ${perLoad}u + ${p}u], x[${p}]);`
                  )
                )
              }
      }`)
          }
      ${eachHead((h) => `products[${h}][${r * threads / sharing}u + key][share] = part${h};`)}
    }`)
      }
    let next_tile = tile + ${tile}u;
    if (next_tile < cached_end) {
      ${loadKeys("next_tile")}
    }
    workgroupBarrier();
    // A key for each thread.
    ${
        eachHead((h) =>
          `var score${h} = MASKED;
    if (thread < min(${tile}u, cached_end - tile)) {
      score${h} = (${
            list(sharing, (i) => `products[${h}][thread][${i}]`, " + ")
          }) * (u.scale * ${Math.LOG2E});
    }`
        )
      }
    ${highest}
    ${
        eachHead((h) =>
          `let correction${h} = exp2(top${h} - new_top${h});
    top${h} = new_top${h};
    ${eachPart((p) => `sum${h}_${p} *= correction${h};`)}
    total${h} *= correction${h};
    ${tile < threads ? `if (thread < ${tile}u) {` : "{"}
      weights[${h}][thread] = select(exp2(score${h} - top${h}), 0.0, score${h} == MASKED);
    }`
        )
      }
    workgroupBarrier();
    for (var b = 0u; b < ${batches}u; b++) {
      let origin = b * ${valueLoads * places}u;
      ${
        repeat(valueLoads, (i) =>
          `{
        let at = origin + ${i * places}u + place;
        let x = values(v${i});
        ${
            eachHead((h) =>
              `let w${h} = select(0.0, weights[${h}][min(at, ${tile - 1}u)], at < ${tile}u);
        ${eachPart((p) => `sum${h}_${p} += w${h} * x[${p}];`)}
        total${h} += w${h};`
            )
          }
      }`)
      }
      let next = origin + ${valueLoads * places}u;
      if (next >= ${tile}u || tile + next >= cached_end) { break; }
      ${loadValues(`tile + next`)}
    }
    if (next_tile < cached_end) {
      ${loadValues("next_tile")}
    }
  }

  let column = thread % ${columns}u;
  let part = thread / ${columns}u;
  let out_column = columns * ${columns}u + column;
  ${
        eachHead((h) =>
          `if (place < ${places}u) {
    ${eachPart((p) => `partial[place][${perLoad}u * lane + ${p}u] = sum${h}_${p};`)}
    if (lane == 0u) { totals[place] = total${h}; }
  }
  workgroupBarrier();
  if (part < ${parts}u) {
    var sum = vec4<f32>();
    var total = 0.0;
    for (var p = part; p < ${places}u; p += ${parts}u) {
      sum += partial[p][column];
      total += totals[p];
    }
    // Only this thread reads what it overwrites.
    partial[part][column] = sum;
    if (column == 0u) { part_totals[part] = total; }
  }
  workgroupBarrier();
  if (part == 0u) {
    var sum = vec4<f32>();
    var total = 0.0;
    ${
            repeat(parts, (p) =>
              `sum += partial[${p}][column];
    total += part_totals[${p}];`)
          }
    var top = top${h};
    if (has_own) {
      var score = 0.0;
      ${repeat(vectors, (l) => `score += own_products[${h}][${l}];`)}
      score *= u.scale * ${Math.LOG2E};
      top = max(top${h}, score);
      let correction = exp2(top${h} - top);
      let weight = exp2(score - top);
      sum = sum * correction + weight * own_value[out_column];
      total = total * correction + weight;
    }
    if (u.splits == 1u) {
      store_out((row * u.heads + head + ${h}u) * ${vectors}u + out_column, sum / total);
    } else {
      let at = (row * u.splits + group.y) * u.heads + head + ${h}u;
      store_sums(at * ${vectors}u + out_column, sum);
      if (out_column == 0u) { tops[2u * at] = top; tops[2u * at + 1u] = total; }
    }
  }
  ${
            h < heads - 1
              ? "workgroupBarrier();"
              : ""
          }`
        )
      }
}`,
    };
  },
);
