/**
 * What the products of LoRA adapters (lora.ts) share as WGSL.
 *
 * Each product is a function that a workgroup calls for one tile of its result. A tensor of module m is bound
 * under its name and m. Everything is counted in vectors of four: `u.rank` is r/4, and a row of `loraHidden` and
 * `loraHiddenGrad` has modules·u.rank.
 *
 * @module
 */
import { repeat } from "../../wgsl/repeat.ts";
import type { LoraTiles } from "./tiles.ts";

/** Components of a vector. */
export const LANES: readonly string[] = ["x", "y", "z", "w"];

/** `code(m)` for the module that the tile belongs to. */
export function perModule(modules: number, code: (m: number) => string): string {
  return repeat(modules, (m) => `  if (layer == ${m}u) {\n${code(m)}\n  }`);
}

/** Numbers of a thread that go through workgroup memory at once. */
export const CHUNK = 16;

/** Workgroup memory of every program. A row has 16 places more, so that rows lie in different banks. */
export function partialsMemory({ threads }: LoraTiles): string {
  return `var<workgroup> partials: array<array<f32, ${threads + 16}>, ${CHUNK}>;`;
}

/**
 * A loop over i = from, from + stride, … below `end`, `ahead` steps at a time: `load` for step k reads at `i_k`,
 * which stays below `end`, and `use` must leave out what it read where `in_k` is false.
 */
export function steps(
  { ahead, from, stride, end }: { ahead: number; from: string; stride: number; end: string },
  { load, use }: { load: (k: number) => string; use: (k: number) => string },
): string {
  return `
  for (var i = ${from}; i < ${end}; i += ${ahead * stride}u) {
${
    repeat(ahead, (k) =>
      `    let i_${k} = ${k === 0 ? "i" : `min(i + ${k * stride}u, ${end} - 1u)`};
    let in_${k} = ${k === 0 ? "true" : `i + ${k * stride}u < ${end}`};
${load(k)}`)
  }
${repeat(ahead, use)}
  }`;
}

/** sum += v.x·w0 + v.y·w1 + v.z·w2 + v.w·w3. */
export function addScaled(sum: string, v: string): string {
  return repeat(4, (l) => `    ${sum} = fma(vec4<f32>(${v}.${LANES[l]}), w${l}, ${sum});`);
}
