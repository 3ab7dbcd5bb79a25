/**
 * Answers that have to be given tokens.
 *
 * @module
 */
import type { TokenMask } from "../../model/engine/engine.ts";

/** Lets only given tokens come, one after the other. */
export class GivenTokens implements TokenMask {
  #next = 0;

  /** @param vocab The tokens that there are. */
  constructor(readonly ids: readonly number[], readonly vocab: number) {}

  allowed(): Promise<Uint32Array> {
    const bits = new Uint32Array(Math.ceil(this.vocab / 32)), id = this.ids[this.#next];
    bits[id >>> 5] = 1 << (id & 31);
    return Promise.resolve(bits);
  }

  accept(): void {
    this.#next++;
  }
}
