/**
 * Lists of numbers in typed arrays, which grow a block at a time.
 *
 * @module
 */

/** Numbers of a block. */
const BLOCK_BITS = 14, BLOCK = 1 << BLOCK_BITS;

/** A list of numbers that grows. */
export class Numbers<A extends Uint32Array<ArrayBuffer> | Float64Array<ArrayBuffer>> {
  #length = 0;
  readonly #blocks: A[] = [];
  readonly #make: (length: number) => A;

  /** @param make Makes an array of their type. */
  constructor(make: (length: number) => A) {
    this.#make = make;
  }

  get length(): number {
    return this.#length;
  }

  push(number: number): void {
    const place = this.#length & (BLOCK - 1);
    if (place === 0) this.#blocks.push(this.#make(BLOCK));
    this.#blocks[this.#length >>> BLOCK_BITS][place] = number;
    this.#length++;
  }

  /** The number at a place that was filled. */
  at(index: number): number {
    return this.#blocks[index >>> BLOCK_BITS][index & (BLOCK - 1)];
  }

  /** The arrays that hold them, without what is not filled. */
  *blocks(): Generator<A, void> {
    for (const [i, block] of this.#blocks.entries()) {
      yield block.subarray(0, Math.min(BLOCK, this.#length - i * BLOCK)) as A;
    }
  }
}

/** Whole numbers below 2^32. */
export function wholeNumbers(): Numbers<Uint32Array<ArrayBuffer>> {
  return new Numbers((length) => new Uint32Array(length));
}

/** Offsets in files of any size. */
export function offsets(): Numbers<Float64Array<ArrayBuffer>> {
  return new Numbers((length) => new Float64Array(length));
}
