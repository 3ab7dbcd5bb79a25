/**
 * Sums over a workgroup, as WGSL.
 *
 * @module
 */

/**
 * The function `sumOfThreads(thread, partial)`, which every thread of a workgroup of `threads` (a power of
 * two) calls with its own index and number; all get the sum, added up in the same order every time.
 */
export function sumOfThreads(threads: number): string {
  return `
var<workgroup> sums: array<f32, ${threads}>;
fn sumOfThreads(thread: u32, partial: f32) -> f32 {
  sums[thread] = partial;
  for (var stride = ${threads / 2}u; stride > 0u; stride /= 2u) {
    workgroupBarrier();
    if (thread < stride) { sums[thread] += sums[thread + stride]; }
  }
  workgroupBarrier();
  return sums[0];
}`;
}
