/**
 * What several examples compute with: sums, norms, repeatable random numbers, and how a number is
 * written.
 *
 * @module
 */

/** Sum of `count` terms. */
export function sum(count: number, term: (i: number) => number): number {
  let total = 0;
  for (let i = 0; i < count; i++) total += term(i);
  return total;
}

/** Euclidean norm; of a matrix's elements, its Frobenius norm. */
export function norm(values: ArrayLike<number>): number {
  return Math.sqrt(sum(values.length, (i) => values[i] ** 2));
}

/** ‖actual − expected‖ / ‖expected‖. */
export function deviation(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  return Math.sqrt(sum(actual.length, (i) => (actual[i] - expected[i]) ** 2)) / norm(expected);
}

/** A repeatable stream of numbers in (−1, 1): a linear congruential generator modulo 2³¹ − 1. */
export function uniform(seed: number): () => number {
  const modulus = 2 ** 31 - 1;
  let state = seed;
  return () => {
    state = (state * 48271) % modulus;
    return 2 * state / modulus - 1;
  };
}

/** With thousands separated, and so many decimals. */
export function grouped(value: number, decimals = 0): string {
  const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return value.toLocaleString("en-US", digits);
}

/** A table of texts, the first column to the left and the others to the right. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) =>
    row.map((cell, column) => column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))
      .join("  ").trimEnd()
  );
}

/** Bounds in per cent that results are compared with. */
const BOUNDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99];
/** Room between a result and its bound: results in f32 differ a little from one GPU to another. */
const MARGIN = 1.2;

/** A bound in per cent that a share is well above. */
export function moreThan(share: number): string {
  return `more than ${BOUNDS.findLast((bound) => bound * MARGIN < 100 * share) ?? 0} %`;
}

/** A bound in per cent that a share is well below. */
export function lessThan(share: number): string {
  return `less than ${BOUNDS.find((bound) => bound > 100 * share * MARGIN) ?? 100} %`;
}
