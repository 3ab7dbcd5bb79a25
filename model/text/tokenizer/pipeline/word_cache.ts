/**
 * Tokens of words that a model has cut before: texts repeat most of their words.
 *
 * @module
 */

/** Words that are remembered at most. */
const MOST_WORDS = 100_000;

/** A text that was cut out of a longer one would keep that in memory; words are short. */
const MOST_LENGTH = 256;

/** Ids by word; where it is full it begins anew. */
export class WordCache {
  #ids = new Map<string, readonly number[]>();

  get(word: string): readonly number[] | undefined {
    return this.#ids.get(word);
  }

  set(word: string, ids: readonly number[]): void {
    if (word.length > MOST_LENGTH) return;
    if (this.#ids.size >= MOST_WORDS) this.#ids = new Map();
    this.#ids.set(word, ids);
  }
}
