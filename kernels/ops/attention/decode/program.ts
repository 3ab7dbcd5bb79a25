/**
 * The WGSL of one range of keys (attention_decode.ts): the token's queries, key and value (decode_token.ts), the
 * tiles of the cached keys and values (decode_tile.ts), and the sums over all threads.
 *
 * @module
 */
import {
  type Binding,
  positionalFamily,
  reads,
  readsScalars,
  repeat,
  writes,
} from "../../../gpu/program.ts";
import type { Dtype } from "../../../gpu/tensor.ts";
import { type DecodeLayout, decodeLayout } from "./layout.ts";
import { beginTiles, tileDeclarations, walkTiles } from "./key_tiles.ts";
import { addToken, storeToken, tokenDeclarations, turnToken } from "./own_token.ts";

/** Threads that share a column when the places are added up. */
function partsOf({ threads, columns, places }: DecodeLayout): number {
  return Math.min(Math.floor(threads / columns), Math.ceil(Math.sqrt(places)));
}

/** From the threads' sums to the result of the range, or of all keys where there is one range. */
function addUp(h: number, layout: DecodeLayout): string {
  const { vectors, perLoad, places } = layout, parts = partsOf(layout);
  return `
  if (place < ${places}u) {
    ${repeat(perLoad, (p) => `partial[place][${perLoad}u * lane + ${p}u] = sum${h}_${p};`)}
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
    ${repeat(parts, (p) => `sum += partial[${p}][column];\n    total += part_totals[${p}];`)}
    var top = top${h};
    ${addToken(h, layout)}
    if (u.ranges == 1u) {
      store_out((row * u.heads + head + ${h}u) * ${vectors}u + out_column, sum / total);
    } else {
      let at = (row * u.ranges + group.y) * u.heads + head + ${h}u;
      store_sums(at * ${vectors}u + out_column, sum);
      if (out_column == 0u) { tops[2u * at] = top; tops[2u * at + 1u] = total; }
    }
  }`;
}

function body(layout: DecodeLayout): string {
  const { heads, threads, columnGroups, subgroups, sharing, valueLanes, columns, places } = layout;
  const subgroupIds =
    "@builtin(subgroup_size) size: u32,\n  @builtin(subgroup_invocation_id) subgroup_thread: u32,";
  return `${tokenDeclarations(layout)}
${tileDeclarations(layout)}
var<workgroup> partial: array<array<vec4<f32>, ${columns}>, ${places}>;
var<workgroup> totals: array<f32, ${places}>;
var<workgroup> part_totals: array<f32, ${partsOf(layout)}>;

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  ${subgroups ? subgroupIds : ""}
) {
  let head = group.x / ${columnGroups}u * ${heads}u;
  let columns = group.x % ${columnGroups}u;
  let kv_head = head / (u.heads / u.kv_heads);
  let row = group.z;
  let first = starts[row] + group.y * u.keys_per_range;
  let end = min(ends[row], first + u.keys_per_range);
  // The range with the token itself, which is not in the cache yet.
  let has_own = first < end && end == ends[row];
  let cached_end = select(end, end - 1u, has_own);
  let last_row = max(cached_end, 1u) - 1u;
  let share = thread % ${sharing}u;
  let key = thread / ${sharing}u;
  let lane = thread % ${valueLanes}u;
  let place = thread / ${valueLanes}u;

  // Keys and values of the first tile are on their way while the query is turned.
  ${beginTiles(layout)}
  ${turnToken(layout)}
  ${storeToken(layout)}
  ${walkTiles(layout)}

  let column = thread % ${columns}u;
  let part = thread / ${columns}u;
  let out_column = columns * ${columns}u + column;
  ${Array.from({ length: heads }, (_, h) => addUp(h, layout)).join("\n  workgroupBarrier();")}
}`;
}

/** The program of a {@linkcode DecodeShape}. */
export const decodeProgram = positionalFamily("attention_decode", (
  ...[q, kv, headDim, heads, threads, columnGroups, keyLoads, subgroups]: [
    ...[q: Dtype, kv: Dtype, headDim: number, heads: number],
    ...[threads: number, columnGroups: number, keyLoads: number, subgroups: boolean],
  ]
) => {
  const cached = (name: string): Binding => ({ name, dtype: kv, access: "write", raw: true });
  const shape = { q, kv, headDim, heads, threads, columnGroups, keyLoads, subgroups };
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
      heads: "u32",
      kv_heads: "u32",
      ranges: "u32",
      keys_per_range: "u32",
      scale: "f32",
    },
    extensions: subgroups ? ["subgroups"] : [],
    body: body(decodeLayout(shape)),
  };
});
