/**
 * WGSL of a slot's softmax (key_tiles.ts): the parts of scores that threads add up, and the weighted sums of values.
 *
 * @module
 */
import { repeat } from "../../../wgsl/repeat.ts";
import { corrected, maskedWeight, weightOf } from "../../../wgsl/online_softmax.ts";
import type { DecodeLayout } from "./layout.ts";

/** A thread's parts of its queries, and what it adds up. */
export function beginSums({ heads, perKey, perLoad, sharing }: DecodeLayout): string {
  return repeat(
    heads,
    (h) =>
      repeat(
        perKey,
        (i) =>
          repeat(perLoad, (p) =>
            `let q${h}_${i}_${p} = queries[${h}][(share + ${i * sharing}u) * ${perLoad}u + ${p}u];
  var sum${h}_${i}_${p} = vec4<f32>();`),
      ) +
      `
  var denominator${h} = 0.0;
  var maximum${h} = MASKED;`,
  );
}

/** Sums of values over the threads that share a key, each for all of them: of variables. */
export function addShares(names: readonly string[], { sharing, subgroup }: DecodeLayout): string {
  if (sharing === 1) return "";
  const each = (line: (name: string, n: number) => string) => names.map(line).join("\n    ");
  if (subgroup > 0) {
    return Array.from(
      { length: Math.log2(sharing) },
      (_, e) => each((name) => `${name} += subgroupShuffleXor(${name}, ${2 ** e}u);`),
    ).join("\n    ");
  }
  const total = (n: number) =>
    Array.from({ length: sharing }, (_, s) => `parts[${n}][slot * ${sharing}u + ${s}u]`)
      .join(" + ");
  return `${each((name, n) => `parts[${n}][thread] = ${name};`)}
    workgroupBarrier();
    ${each((name, n) => `${name} = ${total(n)};`)}
    workgroupBarrier();`;
}

/** A thread's part of a query's product with a key, whose loads are these expressions of arrays of vectors. */
export function keyPart(h: number, loads: readonly string[], { perLoad }: DecodeLayout): string {
  return loads.flatMap((x, i) =>
    Array.from({ length: perLoad }, (_, p) => `dot(q${h}_${i}_${p}, ${x}[${p}])`)
  ).join(" + ");
}

/** The weights of keys with these scores, after which a head's sums are relative to the new highest score. */
export function weigh(
  h: number,
  scores: readonly string[],
  { perKey, perLoad }: DecodeLayout,
): string {
  const highest = scores.reduce((most, score) => `max(${most}, ${score})`, `maximum${h}`);
  const weights = scores.map((_, r) => `weight${h}_${r}`);
  return `let highest${h} = ${highest};
    let correction${h} = ${weightOf(`maximum${h}`, `highest${h}`)};
    maximum${h} = highest${h};
    ${
    scores.map((score, r) => `let ${weights[r]} = ${maskedWeight(score, `maximum${h}`)};`)
      .join("\n    ")
  }
    denominator${h} = ${corrected(`denominator${h}`, `correction${h}`, weights.join(" + "))};
    ${repeat(perKey, (i) => repeat(perLoad, (p) => `sum${h}_${i}_${p} *= correction${h};`))}`;
}

/** Adds a value, whose loads are these expressions of arrays of vectors, to a head's sums. */
export function addValue(
  h: number,
  weight: string,
  loads: readonly string[],
  { perLoad }: DecodeLayout,
): string {
  return loads.map((x, i) => repeat(perLoad, (p) => `sum${h}_${i}_${p} += ${weight} * ${x}[${p}];`))
    .join("\n");
}
