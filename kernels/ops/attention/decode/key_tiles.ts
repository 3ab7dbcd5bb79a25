/**
 * WGSL of a tile of cached keys (program.ts). It goes three ways over the threads: each has parts of
 * keys' dot products, then the score of one key, then a few columns of values that lie rows apart.
 *
 * What arrives late is asked for first: the next tile's keys before the scores of this one, and its values
 * before its scores.
 *
 * @module
 */
import { repeat } from "../../../wgsl/repeat.ts";
import { DECLARE_MASKED, maskedWeight, weightOf } from "../../../wgsl/online_softmax.ts";
import { declareSoftcap } from "../../../wgsl/softcap.ts";
import { scoreForExp2 } from "../score.ts";
import { type DecodeLayout, maximumSlots } from "./layout.ts";
import { cacheRow } from "./own_token.ts";

/** Declarations of what follows. */
export function tileDeclarations(layout: DecodeLayout): string {
  const { heads, sharing, tile, softcap } = layout;
  return `
${DECLARE_MASKED}${declareSoftcap(softcap, "f32")}
var<workgroup> products: array<array<array<f32, ${sharing}>, ${tile}>, ${heads}>;
var<workgroup> weights: array<array<f32, ${tile}>, ${heads}>;
var<workgroup> maxima: array<array<f32, ${maximumSlots(layout)}>, ${heads}>;`;
}

/** Asks for a tile's keys. Loads past the end become those of the last row: they are not counted. */
function loadKeys(first: string, layout: DecodeLayout): string {
  const { rounds, perKey, sharing, threads } = layout;
  return repeat(rounds, (r) => {
    const key = `min(${first} + ${r * threads / sharing}u + key, last_row)`;
    return `{
      let at = ${cacheRow(key, layout)} + share;
      ${repeat(perKey, (i) => `k${r}_${i} = cached_k[at + ${i * sharing}u];`)}
    }`;
  });
}

/** Asks for the values of a tile's rows from \`first\` on. */
function loadValues(first: string, layout: DecodeLayout): string {
  const { valueLoads, valueLanes, places } = layout;
  return repeat(valueLoads, (i) => {
    const row = cacheRow(`min(${first} + ${i * places}u + place, last_row)`, layout);
    return `v${i} = cached_v[${row} + columns * ${valueLanes}u + lane];`;
  });
}

/** Asks for the first tile. */
export function beginTiles(layout: DecodeLayout): string {
  const { rounds, perKey, valueLoads } = layout;
  return `
  ${repeat(rounds, (r) => repeat(perKey, (i) => `var k${r}_${i}: vec4<u32>;`))}
  ${repeat(valueLoads, (i) => `var v${i}: vec4<u32>;`)}
  ${loadKeys("first", layout)}
  ${loadValues("first", layout)}`;
}

/** Leaves the threads' parts of the dot products. */
function multiplyKeys({ heads, rounds, perKey, perLoad, sharing, threads }: DecodeLayout): string {
  const product = (h: number, i: number, p: number) =>
    `part${h} += dot(queries[${h}][(share + ${i * sharing}u) * ${perLoad}u + ${p}u], x[${p}]);`;
  return repeat(rounds, (r) =>
    `{
      ${repeat(heads, (h) => `var part${h} = 0.0;`)}
      ${
      repeat(perKey, (i) =>
        `{
        let x = values(k${r}_${i});
        ${repeat(heads, (h) => repeat(perLoad, (p) => product(h, i, p)))}
      }`)
    }
      ${repeat(heads, (h) => `products[${h}][${r * threads / sharing}u + key][share] = part${h};`)}
    }`);
}

/** The highest score of a tile and those before it, \`new_maximum\`, of each head. */
function highestScores({ heads, threads, subgroups }: DecodeLayout): string {
  const eachHead = (line: (h: number) => string) => repeat(heads, line);
  if (subgroups) {
    return `${
      eachHead((h) =>
        `let tile_maximum${h} = subgroupMax(score${h});
    if (subgroup_thread == 0u) { maxima[${h}][thread / size] = tile_maximum${h}; }`
      )
    }
    workgroupBarrier();
    ${eachHead((h) => `var new_maximum${h} = maximum${h};`)}
    for (var s = 0u; s < ${threads}u / size; s++) {
      ${eachHead((h) => `new_maximum${h} = max(new_maximum${h}, maxima[${h}][s]);`)}
    }`;
  }
  return `${eachHead((h) => `maxima[${h}][thread] = score${h};`)}
    for (var stride = ${threads / 2}u; stride > 0u; stride /= 2u) {
      workgroupBarrier();
      if (thread < stride) {
        ${
    eachHead((h) =>
      `maxima[${h}][thread] = max(maxima[${h}][thread], maxima[${h}][thread + stride]);`
    )
  }
      }
    }
    workgroupBarrier();
    ${eachHead((h) => `let new_maximum${h} = max(maximum${h}, maxima[${h}][0]);`)}`;
}

/** Leaves the weight of each key, and corrects the sums for the new highest score. */
function weighKeys(layout: DecodeLayout): string {
  const { heads, tile, threads, sharing, perLoad, softcap } = layout;
  const whole = (h: number) =>
    Array.from({ length: sharing }, (_, i) => `products[${h}][thread][${i}]`).join(" + ");
  return `
    // A key for each thread.
    ${
    repeat(heads, (h) =>
      `var score${h} = MASKED;
    if (thread < min(${tile}u, cached_end - tile)) {
      score${h} = ${scoreForExp2(`(${whole(h)})`, softcap)};
    }`)
  }
    ${highestScores(layout)}
    ${
    repeat(heads, (h) =>
      `let correction${h} = ${weightOf(`maximum${h}`, `new_maximum${h}`)};
    maximum${h} = new_maximum${h};
    ${repeat(perLoad, (p) => `sum${h}_${p} *= correction${h};`)}
    denominator${h} *= correction${h};
    ${tile < threads ? `if (thread < ${tile}u) {` : "{"}
      weights[${h}][thread] = ${maskedWeight(`score${h}`, `maximum${h}`)};
    }`)
  }`;
}

/** Adds the weighted values to the sums. */
function addValues(layout: DecodeLayout): string {
  const { heads, tile, valueLoads, places, batches, perLoad } = layout;
  const added = (h: number) =>
    `let w${h} = select(0.0, weights[${h}][min(at, ${tile - 1}u)], at < ${tile}u);
        ${repeat(perLoad, (p) => `sum${h}_${p} += w${h} * x[${p}];`)}
        denominator${h} += w${h};`;
  return `
    for (var b = 0u; b < ${batches}u; b++) {
      let origin = b * ${valueLoads * places}u;
      ${
    repeat(valueLoads, (i) =>
      `{
        let at = origin + ${i * places}u + place;
        let x = values(v${i});
        ${repeat(heads, added)}
      }`)
  }
      let next = origin + ${valueLoads * places}u;
      if (next >= ${tile}u || tile + next >= cached_end) { break; }
      ${loadValues(`tile + next`, layout)}
    }`;
}

/** Leaves each thread's weighted sum of values and of weights, and the highest score, of each head. */
export function walkTiles(layout: DecodeLayout): string {
  const { heads, perLoad, tile } = layout;
  return `
  ${
    repeat(heads, (h) =>
      `${repeat(perLoad, (p) => `var sum${h}_${p} = vec4<f32>();`)}
  var denominator${h} = 0.0;
  var maximum${h} = MASKED;`)
  }
  for (var tile = first; tile < cached_end; tile += ${tile}u) {
    ${multiplyKeys(layout)}
    let next_tile = tile + ${tile}u;
    if (next_tile < cached_end) {
      ${loadKeys("next_tile", layout)}
    }
    workgroupBarrier();
    ${weighKeys(layout)}
    workgroupBarrier();
    ${addValues(layout)}
    if (next_tile < cached_end) {
      ${loadValues("next_tile", layout)}
    }
  }`;
}
