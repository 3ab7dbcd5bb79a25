/**
 * The middle of repeated measurements, which a hiccup does not move.
 *
 * @module
 */

/** The median of at least one number; of an even count the upper of the two in the middle. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}
