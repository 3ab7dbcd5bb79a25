/**
 * Sums and maxima over a workgroup, as WGSL.
 *
 * @module
 */
import { repeat } from "./repeat.ts";

/** Numbers that one thread combines between two barriers. */
const FOLD = 8;

function ofThreads(name: string, threads: number, combine: (a: string, b: string) => string) {
  let folds = "", left = threads;
  while (left > FOLD) {
    const to = left /= FOLD;
    folds += `
  if (thread < ${to}u) {
    var own = ${name}Partials[thread];
${
      repeat(FOLD - 1, (k) =>
        `    own = ${combine("own", `${name}Partials[thread + ${(k + 1) * to}u]`)};`)
    }
    ${name}Partials[thread] = own;
  }
  workgroupBarrier();`;
  }
  return `
var<workgroup> ${name}Partials: array<f32, ${threads}>;
fn ${name}OfThreads(thread: u32, value: f32) -> f32 {
  ${name}Partials[thread] = value;
  workgroupBarrier();${folds}
  var all = ${name}Partials[0];
${repeat(left - 1, (k) => `  all = ${combine("all", `${name}Partials[${k + 1}]`)};`)}
  return all;
}`;
}

/**
 * The function `sumOfThreads(thread, value)`, which every thread of a workgroup of `threads` (a power of
 * two) calls once with its own index and number; all get the sum, added up in the same order every time.
 */
export function sumOfThreads(threads: number): string {
  return ofThreads("sum", threads, (a, b) => `${a} + ${b}`);
}

/** The same for `maxOfThreads(thread, value)`; whether a NaN counts is up to the device. */
export function maxOfThreads(threads: number): string {
  return ofThreads("max", threads, (a, b) => `max(${a}, ${b})`);
}
