/**
 * Numbers by pairs of numbers: a hash table with open addressing in typed arrays, since a `Map` with a key for each of
 * Llama 3's 280,000 pairs takes most of the time of a start.
 *
 * @module
 */

/** A table of at most `count` pairs. */
export class PairTable {
  readonly #mask: number;
  readonly #lefts: Int32Array;
  readonly #rights: Int32Array;
  /** -1 where a place is free. */
  readonly #values: Int32Array;

  constructor(count: number) {
    let places = 16;
    while (places < 2 * count) places *= 2;
    this.#mask = places - 1;
    this.#lefts = new Int32Array(places);
    this.#rights = new Int32Array(places);
    this.#values = new Int32Array(places).fill(-1);
  }

  /** Where the pair is, or the free place that it would have. */
  #place(left: number, right: number): number {
    const mixed = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    let place = (mixed ^ (mixed >>> 15)) & this.#mask;
    while (
      this.#values[place] >= 0 && (this.#lefts[place] !== left || this.#rights[place] !== right)
    ) place = (place + 1) & this.#mask;
    return place;
  }

  /** @param value From 0 on. */
  set(left: number, right: number, value: number): void {
    const place = this.#place(left, right);
    this.#lefts[place] = left;
    this.#rights[place] = right;
    this.#values[place] = value;
  }

  /** -1 where the pair has none. */
  get(left: number, right: number): number {
    return this.#values[this.#place(left, right)];
  }
}
