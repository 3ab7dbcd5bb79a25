/**
 * WGSL of a tile of cached keys and values (program.ts). Threads share keys in slots: those of a slot have the parts of its
 * keys and of their values, and a softmax of their own, so that slots meet only at the end.
 *
 * What arrives late is asked for first: all loads of a tile at once, and the next tile's keys before this one's scores are
 * used.
 *
 * @module
 */
import { repeat } from "../../../wgsl/repeat.ts";
import { DECLARE_MASKED } from "../../../wgsl/online_softmax.ts";
import { declareSoftcap } from "../../../wgsl/softcap.ts";
import { scoreForExp2 } from "../score.ts";
import type { DecodeLayout } from "./layout.ts";
import { cacheRow } from "./own_token.ts";
import { addShares, addValue, keyPart, weigh } from "./slot_sums.ts";

/** Declarations of what follows. */
export function tileDeclarations(
  { heads, rounds, threads, subgroup, softcap }: DecodeLayout,
): string {
  return `
${DECLARE_MASKED}${declareSoftcap(softcap, "f32")}
${subgroup > 0 ? "" : `var<workgroup> parts: array<array<f32, ${threads}>, ${heads * rounds}>;`}`;
}

/** Asks for a tile's keys or values. Loads past the end become those of the last row: they are not counted. */
function loadRows(x: "k" | "v", first: string, layout: DecodeLayout): string {
  const { rounds, perKey, sharing, slots } = layout;
  return repeat(rounds, (r) =>
    `{
      let at = ${cacheRow(`min(${first} + ${r * slots}u + slot, last_row)`, layout)} + share;
      ${repeat(perKey, (i) => `${x}${r}_${i} = cached_${x}[at + ${i * sharing}u];`)}
    }`);
}

/** Asks for the first tile. */
export function beginTiles(layout: DecodeLayout): string {
  const { rounds, perKey } = layout;
  const declared = (x: string) =>
    repeat(rounds, (r) => repeat(perKey, (i) => `var ${x}${r}_${i}: vec4<u32>;`));
  return `
  ${declared("k")}
  ${declared("v")}
  ${loadRows("k", "first", layout)}
  ${loadRows("v", "first", layout)}`;
}

/** Leaves each slot's weighted sum of values and of weights, and its highest score, of each head. */
export function walkTiles(layout: DecodeLayout): string {
  const { heads, rounds, perKey, slots, tile, softcap } = layout;
  const eachHead = (line: (h: number) => string) => repeat(heads, line);
  const all = Array.from({ length: rounds }, (_, r) => r);
  const loads = Array.from({ length: perKey }, (_, i) => `x${i}`);
  const scores = all.flatMap((r) => Array.from({ length: heads }, (_, h) => `score${h}_${r}`));
  const unpacked = (x: string, r: number) =>
    repeat(perKey, (i) => `let x${i} = values(${x}${r}_${i});`);
  return `
  for (var tile = first; tile < cached_end; tile += ${tile}u) {
    ${scores.map((name) => `var ${name}: f32;`).join("\n    ")}
    ${
    repeat(rounds, (r) =>
      `{
      ${unpacked("k", r)}
      ${eachHead((h) => `score${h}_${r} = ${keyPart(h, loads, layout)};`)}
    }`)
  }
    let next_tile = tile + ${tile}u;
    if (next_tile < cached_end) {
      ${loadRows("k", "next_tile", layout)}
    }
    ${addShares(scores, layout)}
    ${
    repeat(rounds, (r) =>
      `let is_key${r} = tile + ${r * slots}u + slot < cached_end;
    ${
        eachHead((h) =>
          `score${h}_${r} = select(MASKED, ${scoreForExp2(`score${h}_${r}`, softcap)}, is_key${r});`
        )
      }`)
  }
    ${eachHead((h) => weigh(h, all.map((r) => `score${h}_${r}`), layout))}
    ${
    repeat(rounds, (r) =>
      `{
      ${unpacked("v", r)}
      ${eachHead((h) => addValue(h, `weight${h}_${r}`, loads, layout))}
    }`)
  }
    if (next_tile < cached_end) {
      ${loadRows("v", "next_tile", layout)}
    }
  }`;
}
