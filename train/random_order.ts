/**
 * Orders by chance that are the same on every machine, and at any place without those before.
 *
 * @module
 */

/** The finaliser of MurmurHash3: every bit of the result depends on every bit of `x`. */
function mix(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** A state and one more coordinate as a state. */
function mixIn(state: number, coordinate: number): number {
  return mix(state ^ mix(coordinate + 0x9e3779b9));
}

/** 0 … count − 1. */
export function ascending(count: number): Uint32Array {
  const order = new Uint32Array(count);
  for (let i = 0; i < count; i++) order[i] = i;
  return order;
}

/**
 * A Fisher-Yates shuffle of 0 … count − 1. Its 32-bit random numbers are functions of four coordinates, the last of
 * which is the position (a counter-based generator).
 *
 * @param purpose What it is for: orders of other purposes don't repeat one another.
 */
export function permutation(
  count: number,
  seed: number,
  { purpose, epoch }: { purpose: number; epoch: number },
): Uint32Array {
  const order = ascending(count);
  const state = mixIn(mixIn(mix(seed + 0x9e3779b9), purpose), epoch);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(mixIn(state, i) / 2 ** 32 * (i + 1)), swapped = order[i];
    order[i] = order[j];
    order[j] = swapped;
  }
  return order;
}
