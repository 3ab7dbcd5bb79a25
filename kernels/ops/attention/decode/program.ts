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
import type { Dtype } from "../../../gpu/tensor.ts";
import { repeat } from "../../../wgsl/repeat.ts";
import { weightOf } from "../../../wgsl/online_softmax.ts";
import { softcapUniform } from "../../../wgsl/softcap.ts";
import { type RowField, type RowWord, rowWords } from "../row_index.ts";
import { type DecodeLayout, decodeLayout, type DecodeShape } from "./layout.ts";
import { beginTiles, tileDeclarations, walkTiles } from "./key_tiles.ts";
import { addToken, rotateToken, storeToken, tokenDeclarations } from "./own_token.ts";
import { beginSums } from "./slot_sums.ts";

/** Slots whose sums are written out side by side at most: there may be one for each thread. */
const SLOTS_AT_ONCE = 16;

/** WGSL for all slots, by lines for the slot of an expression. */
function forSlots({ slots }: DecodeLayout, line: (slot: string) => string): string {
  if (slots <= SLOTS_AT_ONCE) return repeat(slots, (s) => line(`${s}`));
  return `for (var s = 0u; s < ${slots}u; s += ${SLOTS_AT_ONCE}u) {
      ${repeat(SLOTS_AT_ONCE, (i) => line(`s + ${i}u`))}
    }`;
}

/** From the slots' sums to the result of the split, or of all keys where there is one split. */
function addUp(layout: DecodeLayout): string {
  const { heads, vectors, perKey, perLoad, sharing, threads } = layout;
  const column = (i: number, p: number) => `(share + ${i * sharing}u) * ${perLoad}u + ${p}u`;
  const storeHead = (h: number) =>
    repeat(perKey, (i) =>
      repeat(
        perLoad,
        (p) => `slot_sums[${h}][slot][${column(i, p)}] = sum${h}_${i}_${p};`,
      ));
  return `
  ${
    repeat(heads, (h) =>
      `${storeHead(h)}
  if (share == 0u) { slot_stats[${h}][slot] = vec2<f32>(maximum${h}, denominator${h}); }`)
  }
  workgroupBarrier();
  for (var t = thread; t < ${heads * vectors}u; t += ${threads}u) {
    let h = t / ${vectors}u;
    let column = t % ${vectors}u;
    var maximum = MASKED;
    ${forSlots(layout, (s) => `maximum = max(maximum, slot_stats[h][${s}].x);`)}
    var sum = vec4<f32>();
    var denominator = 0.0;
    ${
    forSlots(layout, (s) =>
      `{
      let stats = slot_stats[h][${s}];
      let factor = ${weightOf("stats.x", "maximum")};
      sum += factor * slot_sums[h][${s}][column];
      denominator += factor * stats.y;
    }`)
  }
    if (u.splits == 1u) {
      store_out((row * u.heads + head + h) * ${vectors}u + column, sum / denominator);
    } else {
      let at = (row * u.splits + group.y) * u.heads + head + h;
      store_partial_out(at * ${vectors}u + column, sum);
      if (column == 0u) { softmax_stats[2u * at] = maximum; softmax_stats[2u * at + 1u] = denominator; }
    }
  }`;
}

function body(layout: DecodeLayout, word: RowWord): string {
  const { heads, threads, sharing, slots, vectors } = layout;
  return `${tokenDeclarations(layout)}
${tileDeclarations(layout)}
var<workgroup> slot_sums: array<array<array<vec4<f32>, ${vectors}>, ${slots}>, ${heads}>;
var<workgroup> slot_stats: array<array<vec2<f32>, ${slots}>, ${heads}>;

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let head = group.x * ${heads}u;
  let kv_head = head / (u.heads / u.kv_heads);
  let row = group.z;
  let first = ${word("starts", "row")} + group.y * u.keys_per_split;
  let end = min(${word("ends", "row")}, first + u.keys_per_split);
  // The split with the token itself, which is not in the cache yet.
  let has_own = first < end && end == ${word("ends", "row")};
  let cached_end = select(end, end - 1u, has_own);
  let last_row = max(cached_end, 1u) - 1u;
  let share = thread % ${sharing}u;
  let slot = thread / ${sharing}u;

  // Keys and values of the first tile are on their way while the query is rotated.
  ${beginTiles(layout)}
  ${rotateToken(layout, word)}
  ${storeToken(layout)}
  ${beginSums(layout)}
  ${walkTiles(layout)}
  ${addToken(layout)}
  ${addUp(layout)}
}`;
}

/** What programs differ in. */
export interface DecodeVariant extends DecodeShape {
  /** Positions, starts and ends are packed (row_index.ts). */
  packed: boolean;
  /** What products on tensor cores round their input to, where one follows. */
  out: Dtype;
}

/** What the program reads of each row. */
export function decodeFields({ pairs }: Pick<DecodeShape, "pairs">): readonly RowField[] {
  return pairs === "none" ? ["starts", "ends"] : ["positions", "starts", "ends"];
}

/** The program of a variant. */
export const decodeProgram = programFamily("attention_decode", (variant: DecodeVariant) => {
  const { q, kv, subgroup, softcap, pairs, packed, out } = variant, fields = decodeFields(variant);
  const cached = (name: string): Binding => ({ name, dtype: kv, access: "write", words: 4 });
  return {
    bindings: [
      ...reads(q, "qkv"),
      cached("cached_k"),
      cached("cached_v"),
      ...pairs === "none" ? [] : reads("f32", "table"),
      ...readsScalars("u32", ...packed ? ["row_index"] : fields),
      ...writes(out, "out"),
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
    extensions: subgroup > 0 ? ["subgroups"] : [],
    body: body(decodeLayout(variant), rowWords(packed ? fields : undefined)),
  };
});
