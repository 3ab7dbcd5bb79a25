/**
 * How long the string is that a JSON text is in the middle of, as the text grows.
 *
 * @module
 */

/** Follows a text of JSON. */
export class StringLength {
  /** Characters (code points) of the string so far; undefined outside of one. */
  length?: number;
  /** Characters that an escape still has, its first one being told by `begins`. */
  #escape = 0;
  #begins = false;

  /** Takes more of the text. */
  push(text: string): void {
    for (const character of text) this.#take(character);
  }

  /** Takes a character that comes byte by byte. */
  pushPart(): void {
    if (this.length !== undefined) this.length++;
  }

  #take(character: string): void {
    if (this.length === undefined) {
      if (character === '"') this.length = 0;
      return;
    }
    if (this.#escape > 0) {
      // Of \\uXXXX four more characters come.
      this.#escape = this.#begins && character === "u" ? 4 : this.#escape - 1;
      this.#begins = false;
      if (this.#escape === 0) this.length++;
    } else if (character === "\\") {
      this.#escape = 1;
      this.#begins = true;
    } else if (character === '"') this.length = undefined;
    else this.length++;
  }
}
