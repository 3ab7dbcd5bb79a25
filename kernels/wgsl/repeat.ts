/**
 * WGSL that is written out several times.
 *
 * @module
 */

/** `count` lines of WGSL made from 0, 1, …, joined. */
export function repeat(count: number, line: (i: number) => string): string {
  return Array.from({ length: count }, (_, i) => line(i)).join("\n");
}
