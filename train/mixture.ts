/**
 * The order of an epoch whose samples come from several files by weights.
 *
 * @module
 */
import { permutation } from "./random_order.ts";

/** Purposes that random numbers are drawn for, beside those of {@linkcode permutation}'s other callers. */
const INTERLEAVE = 3, SOURCES = 16;

/** The samples of a file, and its weight among the others. */
export interface Source {
  /** Indexes of the samples to train on. */
  samples: ArrayLike<number>;
  /** Above 0. */
  weight: number;
}

/**
 * How many samples of an epoch come from each file: `total` shared out by weight, rounded so that the sum is exact
 * (the largest remainders are rounded up, of equal ones the first).
 */
export function sharesOf(total: number, weights: readonly number[]): number[] {
  const sum = weights.reduce((sum, weight) => sum + weight, 0);
  const exact = weights.map((weight) => total * weight / sum), shares = exact.map(Math.floor);
  const left = total - shares.reduce((sum, share) => sum + share, 0);
  const byRemainder = exact.map((share, i) => ({ i, remainder: share - shares[i] }))
    .sort((a, b) => b.remainder - a.remainder || a.i - b.i);
  for (const { i } of byRemainder.slice(0, left)) shares[i]++;
  return shares;
}

/** The files that the places of an epoch belong to, evenly spread: each place is of the file that lags behind most. */
function spread(shares: readonly number[], total: number): Uint32Array {
  const order = new Uint32Array(total), given = shares.map(() => 0);
  for (let place = 0; place < total; place++) {
    let next = 0, most = -Infinity;
    for (const [i, share] of shares.entries()) {
      const lag = share * (place + 1) / total - given[i];
      if (given[i] < share && lag > most) [next, most] = [i, lag];
    }
    order[place] = next;
    given[next]++;
  }
  return order;
}

/**
 * The samples of an epoch in order: as many as all files have, of each file its share. A file goes on where it stopped in the
 * epoch before; where it has no more it begins again, in a new order. Everything follows from the seed and the
 * epoch, so that a run can be resumed at any step.
 *
 * @param shuffle Whether files alternate by chance and each is in an order of its own; otherwise they are spread evenly and
 *   in their own order.
 */
export function mixtureOrder(
  sources: readonly Source[],
  epoch: number,
  { seed, shuffle }: { seed: number; shuffle: boolean },
): Uint32Array {
  const total = sources.reduce((sum, { samples }) => sum + samples.length, 0);
  const shares = sharesOf(total, sources.map(({ weight }) => weight));
  const evenly = spread(shares, total);
  const chance = shuffle ? permutation(total, seed, { purpose: INTERLEAVE, epoch }) : undefined;
  const draws = sources.map(({ samples }, i) =>
    drawn(
      samples,
      epoch * shares[i],
      (pass) =>
        shuffle
          ? permutation(samples.length, seed, { purpose: SOURCES + i, epoch: pass })
          : undefined,
    )
  );
  const order = new Uint32Array(total);
  for (let place = 0; place < total; place++) {
    order[place] = draws[evenly[chance?.[place] ?? place]].next().value;
  }
  return order;
}

/** A file's samples from the `done`-th draw on, pass after pass. */
function* drawn(
  samples: ArrayLike<number>,
  done: number,
  orderOf: (pass: number) => Uint32Array | undefined,
): Generator<number, never> {
  for (let pass = Math.floor(done / samples.length), at = done % samples.length;; pass++, at = 0) {
    const order = orderOf(pass);
    for (; at < samples.length; at++) yield samples[order?.[at] ?? at];
  }
}
