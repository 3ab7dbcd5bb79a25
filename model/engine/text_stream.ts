/**
 * Text as it is made: from tokens, which may hold part of a character, to whole characters.
 *
 * @module
 */

/** A character is up to four bytes, so up to three can wait for the rest of it. */
const UNFINISHED = /\uFFFD{1,3}$/;

/** Tokens are forgotten down to `CONTEXT_TOKENS` when there are `MOST_TOKENS`. */
const CONTEXT_TOKENS = 16, MOST_TOKENS = 48;

/**
 * Turns tokens into pieces of text that never end inside a character.
 *
 * A token's text depends on its neighbours: several byte tokens are one character, and the space that
 * begins the first word is dropped. So the last tokens are decoded together each time. Earlier ones can
 * be forgotten once the kept ones alone have a text of four characters or more: it has begun, so no space
 * will be dropped, and it holds the three bytes that can still become part of a character.
 */
export class TextStream {
  #ids: number[] = [];
  /** The text of `#ids`, of which the first `#told` UTF-16 units were given out. */
  #tail = "";
  #told = 0;
  #given = "";

  /** @param decode Text of ids from the first on; bytes that are no character become U+FFFD. */
  constructor(readonly decode: (ids: readonly number[]) => string) {}

  /** Takes the next tokens; returns the text that is certain now and was not before. */
  push(...ids: readonly number[]): string {
    this.#ids.push(...ids);
    this.#tail = this.decode(this.#ids);
    const piece = this.#tell(this.#tail.replace(UNFINISHED, "").length);
    if (this.#ids.length >= MOST_TOKENS) this.#forget();
    return piece;
  }

  /** What was held back: bytes that the end left unfinished. */
  end(): string {
    return this.#tell(this.#tail.length);
  }

  /** The whole text. */
  get text(): string {
    return this.#given + this.#tail.slice(this.#told);
  }

  /** Gives out the tail's text up to `end`. */
  #tell(end: number): string {
    const piece = this.#tail.slice(this.#told, end);
    this.#told = Math.max(this.#told, end);
    this.#given += piece;
    return piece;
  }

  #forget(): void {
    const ids = this.#ids.slice(-CONTEXT_TOKENS);
    const tail = this.decode(ids);
    if (tail.length < 4) return;
    this.#told -= this.#tail.length - tail.length;
    this.#ids = ids;
    this.#tail = tail;
  }
}
