/**
 * Text as it is made: from tokens, which may hold part of a character, to whole characters.
 *
 * @module
 */

/** Bytes that are no character yet, as decoders show them. */
const UNFINISHED = /\uFFFD+$/;

/**
 * Turns tokens into pieces of text that never end inside a character. All tokens so far are decoded
 * each time, because a token's text depends on its neighbours: several byte tokens are one
 * character, and a space may belong to the next word.
 */
export class TextStream {
  readonly #ids: number[] = [];
  #given = 0;

  /** @param decode Text of ids from the first on; bytes that are no character become U+FFFD. */
  constructor(readonly decode: (ids: readonly number[]) => string) {}

  /** Takes the next token; returns the text that is certain now and was not before. */
  push(id: number): string {
    this.#ids.push(id);
    return this.#advance(this.text.replace(UNFINISHED, ""));
  }

  /** What was held back: bytes that the end left unfinished. */
  end(): string {
    return this.#advance(this.text);
  }

  /** The whole text. */
  get text(): string {
    return this.decode(this.#ids);
  }

  #advance(text: string): string {
    const piece = text.slice(this.#given);
    this.#given = Math.max(this.#given, text.length);
    return piece;
  }
}
