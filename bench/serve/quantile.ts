/**
 * Quantiles of measurements.
 *
 * @module
 */

/** The value that a part of at least one number lies at or below: the nearest one, with none in between. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(part * sorted.length) - 1))];
}
