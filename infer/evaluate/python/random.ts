/**
 * Python's `random.Random`: the Mersenne Twister MT19937 with the seeding and the draws of CPython's Modules/_randommodule.c
 * and Lib/random.py, so that what is drawn here is what a Python program draws.
 *
 * @module
 */

/** Words of the state, and how far back a word is mixed in (Matsumoto and Nishimura, 1998). */
const WORDS = 624, MIDDLE = 397;

/** A generator of random numbers. */
export class Random {
  readonly #state = new Uint32Array(WORDS);
  #next = WORDS;

  /** @param seed A whole number; its sign does not count. */
  constructor(seed: bigint) {
    const key: number[] = [];
    for (let rest = seed < 0n ? -seed : seed; rest > 0n; rest >>= 32n) {
      key.push(Number(rest & 0xffffffffn));
    }
    this.#seed(key.length === 0 ? [0] : key);
  }

  /** `init_by_array` of the reference implementation. */
  #seed(key: readonly number[]): void {
    const state = this.#state;
    state[0] = 19650218;
    for (let i = 1; i < WORDS; i++) state[i] = Math.imul(1812433253, mixed(state[i - 1])) + i;
    let i = 1, j = 0;
    const advance = () => {
      if (++i >= WORDS) {
        state[0] = state[WORDS - 1];
        i = 1;
      }
    };
    for (let k = Math.max(WORDS, key.length); k > 0; k--) {
      state[i] = (state[i] ^ Math.imul(mixed(state[i - 1]), 1664525)) + key[j] + j;
      advance();
      j = (j + 1) % key.length;
    }
    for (let k = WORDS - 1; k > 0; k--) {
      state[i] = (state[i] ^ Math.imul(mixed(state[i - 1]), 1566083941)) - i;
      advance();
    }
    state[0] = 0x80000000;
  }

  #refill(): void {
    const state = this.#state;
    for (let i = 0; i < WORDS; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % WORDS] & 0x7fffffff);
      state[i] = state[(i + MIDDLE) % WORDS] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#next = 0;
  }

  /** 32 random bits. */
  #word(): number {
    if (this.#next >= WORDS) this.#refill();
    let y = this.#state[this.#next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** A number of at least 0 and less than 1, of 53 bits. */
  random(): number {
    const high = this.#word() >>> 5, low = this.#word() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** A whole number of at least 0 and less than `bound`, which is at most 2^32. */
  below(bound: number): number {
    const bits = bound.toString(2).length;
    for (;;) {
      const drawn = this.#word() >>> (32 - bits);
      if (drawn < bound) return drawn;
    }
  }

  /** So many items at places that are drawn without replacement, which are in the order of the draws. */
  sample<T>(items: readonly T[], count: number): T[] {
    const n = items.length;
    // As Python has it: by exchanges in a pool where a set of what was drawn would take more memory than the pool.
    const setSize = count > 5 ? 21 + 4 ** Math.ceil(roundedLog4(3 * count)) : 21;
    if (n <= setSize) {
      const pool = [...items];
      return Array.from({ length: count }, (_, i) => {
        const j = this.below(n - i), drawn = pool[j];
        pool[j] = pool[n - i - 1];
        return drawn;
      });
    }
    const drawn = new Set<number>();
    return Array.from({ length: count }, () => {
      let j = this.below(n);
      while (drawn.has(j)) j = this.below(n);
      drawn.add(j);
      return items[j];
    });
  }
}

const mixed = (word: number) => word ^ (word >>> 30);

/** `math.log(x, 4)` of Python. */
const roundedLog4 = (x: number) => Math.log(x) / Math.log(4);
