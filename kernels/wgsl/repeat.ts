/**
 * WGSL that is written out several times.
 *
 * @module
 */

/** `count` lines of WGSL made from 0, 1, …, joined. */
export function repeat(count: number, line: (i: number) => string): string {
  return Array.from({ length: count }, (_, i) => line(i)).join("\n");
}

/** WGSL of the largest of `count` values, of vectors by component. */
export function maximum(count: number, value: (i: number) => string): string {
  const values = Array.from({ length: count }, (_, i) => value(i));
  return values.reduce((largest, next) => `max(${largest}, ${next})`);
}
