/**
 * The WGSL of one split of the keys (attention_decode.ts): the token's queries, key and value (own_token.ts), the
 * tiles of the cached keys and values (key_tiles.ts), and the sums over all threads.
 *
 * @module
 */
import {
  type Binding,
  programFamily,
  reads,
  readsScalars,
  writes,
  writesScalars,
} from "../../../gpu/program.ts";
import { repeat } from "../../../wgsl/repeat.ts";
import { softcapUniform } from "../../../wgsl/softcap.ts";
import { type RowField, type RowWord, rowWords } from "../row_index.ts";
import { columnThreads, type DecodeLayout, decodeLayout, type DecodeShape } from "./layout.ts";
import { beginTiles, tileDeclarations, walkTiles } from "./key_tiles.ts";
import { addToken, rotateToken, storeToken, tokenDeclarations } from "./own_token.ts";

/** From the threads' sums to the result of the split, or of all keys where there is one split. */
function addUp(h: number, layout: DecodeLayout): string {
  const { vectors, perLoad, places } = layout, parts = columnThreads(layout);
  return `
  if (place < ${places}u) {
    ${repeat(perLoad, (p) => `partial[place][${perLoad}u * lane + ${p}u] = sum${h}_${p};`)}
    if (lane == 0u) { denominators[place] = denominator${h}; }
  }
  workgroupBarrier();
  if (part < ${parts}u) {
    var sum = vec4<f32>();
    var denominator = 0.0;
    for (var p = part; p < ${places}u; p += ${parts}u) {
      sum += partial[p][column];
      denominator += denominators[p];
    }
    // Only this thread reads what it overwrites.
    partial[part][column] = sum;
    if (column == 0u) { part_denominators[part] = denominator; }
  }
  workgroupBarrier();
  if (part == 0u) {
    var sum = vec4<f32>();
    var denominator = 0.0;
    ${
    repeat(
      parts,
      (p) => `sum += partial[${p}][column];\n    denominator += part_denominators[${p}];`,
    )
  }
    var maximum = maximum${h};
    ${addToken(h, layout)}
    if (u.splits == 1u) {
      store_out((row * u.heads + head + ${h}u) * ${vectors}u + out_column, sum / denominator);
    } else {
      let at = (row * u.splits + group.y) * u.heads + head + ${h}u;
      store_partial_out(at * ${vectors}u + out_column, sum);
      if (out_column == 0u) { softmax_stats[2u * at] = maximum; softmax_stats[2u * at + 1u] = denominator; }
    }
  }`;
}

function body(layout: DecodeLayout, word: RowWord): string {
  const { heads, threads, columnGroups, subgroups, sharing, valueLanes, columns, places } = layout;
  const subgroupIds =
    "@builtin(subgroup_size) size: u32,\n  @builtin(subgroup_invocation_id) subgroup_thread: u32,";
  return `${tokenDeclarations(layout)}
${tileDeclarations(layout)}
var<workgroup> partial: array<array<vec4<f32>, ${columns}>, ${places}>;
var<workgroup> denominators: array<f32, ${places}>;
var<workgroup> part_denominators: array<f32, ${columnThreads(layout)}>;

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
  let first = ${word("starts", "row")} + group.y * u.keys_per_split;
  let end = min(${word("ends", "row")}, first + u.keys_per_split);
  // The split with the token itself, which is not in the cache yet.
  let has_own = first < end && end == ${word("ends", "row")};
  let cached_end = select(end, end - 1u, has_own);
  let last_row = max(cached_end, 1u) - 1u;
  let share = thread % ${sharing}u;
  let key = thread / ${sharing}u;
  let lane = thread % ${valueLanes}u;
  let place = thread / ${valueLanes}u;

  // Keys and values of the first tile are on their way while the query is rotated.
  ${beginTiles(layout)}
  ${rotateToken(layout, word)}
  ${storeToken(layout)}
  ${walkTiles(layout)}

  let column = thread % ${columns}u;
  let part = thread / ${columns}u;
  let out_column = columns * ${columns}u + column;
  ${Array.from({ length: heads }, (_, h) => addUp(h, layout)).join("\n  workgroupBarrier();")}
}`;
}

/** What programs differ in. */
export interface DecodeVariant extends DecodeShape {
  /** Positions, starts and ends are packed (row_index.ts). */
  packed: boolean;
}

/** What the program reads of each row. */
export function decodeFields({ pairs }: Pick<DecodeShape, "pairs">): readonly RowField[] {
  return pairs === "none" ? ["starts", "ends"] : ["positions", "starts", "ends"];
}

/** The program of a variant. */
export const decodeProgram = programFamily("attention_decode", (variant: DecodeVariant) => {
  const { q, kv, subgroups, softcap, pairs, packed } = variant, fields = decodeFields(variant);
  const cached = (name: string): Binding => ({ name, dtype: kv, access: "write", words: 4 });
  return {
    bindings: [
      ...reads(q, "qkv"),
      cached("cached_k"),
      cached("cached_v"),
      ...pairs === "none" ? [] : reads("f32", "table"),
      ...readsScalars("u32", ...packed ? ["row_index"] : fields),
      ...writes(q, "out"),
      ...writes("f32", "partial_out"),
      ...writesScalars("f32", "softmax_stats"),
    ],
    uniforms: {
      heads: "u32",
      kv_heads: "u32",
      splits: "u32",
      keys_per_split: "u32",
      scale: "f32",
      ...softcapUniform(softcap),
    },
    extensions: subgroups ? ["subgroups"] : [],
    body: body(decodeLayout(variant), rowWords(packed ? fields : undefined)),
  };
});
