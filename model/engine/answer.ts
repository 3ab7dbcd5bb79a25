/**
 * An answer as it is made: from tokens to printed text, which ends before a stop text.
 *
 * @module
 */
import { TextStream } from "./text_stream.ts";

/** The longest end of `text` that one of `stops` begins with. */
function partialStop(text: string, stops: readonly string[]): number {
  const longest = Math.max(0, ...stops.map(({ length }) => length - 1));
  for (let length = Math.min(longest, text.length); length > 0; length--) {
    const end = text.slice(-length);
    if (stops.some((stop) => stop.startsWith(end))) return length;
  }
  return 0;
}

/** Takes tokens, prints whole characters, and knows when a stop text has come. */
export class Answer {
  readonly ids: number[] = [];
  /** Text printed so far: the whole answer after {@linkcode end}. */
  text = "";
  /** Whether a stop text ended it. */
  stopped = false;
  readonly #textStream: TextStream;
  #pending = "";

  /**
   * @param decode Text of ids from the first on.
   * @param stops Texts that end the answer and are not part of it.
   * @param print Given the text piece by piece, none of it twice.
   */
  constructor(
    decode: (ids: readonly number[]) => string,
    readonly stops: readonly string[],
    readonly print: (text: string) => void,
  ) {
    this.#textStream = new TextStream(decode);
  }

  /** Takes the next tokens; false where a stop text is complete. */
  push(...ids: readonly number[]): boolean {
    this.ids.push(...ids);
    return this.#advance(this.#textStream.push(...ids));
  }

  /** Prints what was held back: it was no stop text. */
  end(): void {
    if (this.stopped || !this.#advance(this.#textStream.end())) return;
    this.#give(this.#pending.length);
  }

  #advance(piece: string): boolean {
    this.#pending += piece;
    const found = this.stops.map((stop) => this.#pending.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) {
      this.#give(Math.min(...found));
      this.stopped = true;
      return false;
    }
    this.#give(this.#pending.length - partialStop(this.#pending, this.stops));
    return true;
  }

  #give(length: number): void {
    const text = this.#pending.slice(0, length);
    this.#pending = this.#pending.slice(length);
    this.text += text;
    if (text !== "") this.print(text);
  }
}
