/**
 * Where the values of JSON text begin and end, so that rows can be parsed one at a time.
 *
 * @module
 */

import type { Extent } from "./row.ts";

/** A fault of JSON text that is no JSON, at a byte. */
export class JsonFault extends Error {
  /** Whether the text ended before its value did. */
  readonly ended: boolean;
  /** Its line, from 1, where that is known. */
  readonly line?: number;

  constructor(message: string, readonly at: number, { ended = false, line }: {
    ended?: boolean;
    line?: number;
  } = {}) {
    super(message);
    this.ended = ended;
    this.line = line;
  }
}

/** A member of an object. */
export interface Member extends Extent {
  key: string;
}

/** Deeper nesting is no row of data, and `JSON.parse` with a reviver would run out of stack. */
const MOST_DEPTH = 500;

const [QUOTE, COMMA, COLON, BACKSLASH] = [0x22, 0x2c, 0x3a, 0x5c];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/**
 * Walks through JSON in UTF-8 whose structure is ASCII, so that no byte of another character is taken for it.
 * Only brackets and strings are looked at: a value that is found may still not be JSON.
 */
export class JsonValues {
  #at: number;
  readonly #end: number;

  constructor(readonly bytes: Uint8Array, { begin, end }: Extent) {
    this.#at = begin;
    this.#end = end;
  }

  /** The first character that is no blank (a byte order mark is one), or undefined at the end. */
  next(): string | undefined {
    const { bytes } = this;
    for (;;) {
      if (this.#at >= this.#end) return undefined;
      const byte = bytes[this.#at];
      if (isSpace(byte)) this.#at++;
      else if (byte === 0xef && bytes[this.#at + 1] === 0xbb && bytes[this.#at + 2] === 0xbf) {
        this.#at += 3;
      } else return String.fromCharCode(byte);
    }
  }

  /** Goes past a character where it is the next; tells whether it was. */
  take(character: string): boolean {
    if (this.next() !== character) return false;
    this.#at++;
    return true;
  }

  /** Where it is. */
  get at(): number {
    return this.#at;
  }

  /** Goes past the value that comes next. */
  value(): Extent {
    const begin = this.#at, first = this.bytes[begin];
    if (first === QUOTE) this.#string();
    else if (first === OPEN_LIST || first === OPEN_OBJECT) this.#brackets();
    else this.#word();
    return { begin, end: this.#at };
  }

  /**
   * Elements of the list that comes next, each as it is come to.
   *
   * @throws {JsonFault} Where commas are missing or the list does not end.
   */
  *elements(): Generator<Extent, void> {
    const begin = this.#at++;
    if (this.take("]")) return;
    for (;;) {
      if (this.next() === undefined) {
        throw new JsonFault("the list does not end", begin, { ended: true });
      }
      yield this.value();
      if (this.take("]")) return;
      if (this.next() === undefined) {
        throw new JsonFault("the list does not end", begin, { ended: true });
      }
      if (!this.take(",")) throw new JsonFault('expected "," or "]" after a row', this.#at);
      if (this.next() === "]") throw new JsonFault('"," before the end of the list', this.#at);
    }
  }

  /** Members of the object that comes next, in its order. */
  members(): Member[] {
    const members: Member[] = [];
    this.#at++;
    while (!this.take("}")) {
      if (this.next() !== '"') throw new JsonFault("expected a name in quotes", this.#at);
      const { begin, end } = this.value();
      let key: string;
      try {
        key = JSON.parse(new TextDecoder().decode(this.bytes.subarray(begin, end)));
      } catch {
        throw new JsonFault("a name is no JSON string", begin);
      }
      if (!this.take(":")) throw new JsonFault('expected ":" after a name', this.#at);
      this.next();
      members.push({ key, ...this.value() });
      if (!this.take(",") && this.next() !== "}") {
        throw new JsonFault('expected "," or "}" after a value', this.#at);
      }
    }
    return members;
  }

  #string(): void {
    const begin = this.#at++, { bytes } = this;
    for (; this.#at < this.#end; this.#at++) {
      const byte = bytes[this.#at];
      if (byte === BACKSLASH) this.#at++;
      else if (byte === QUOTE) {
        this.#at++;
        return;
      } else if (byte === 0x0a) {
        if (this.next() === undefined) break;
        throw new JsonFault("a string does not end on its line", begin);
      }
    }
    throw new JsonFault("a string does not end", begin, { ended: true });
  }

  #brackets(): void {
    const begin = this.#at, { bytes } = this;
    for (let depth = 0; this.#at < this.#end;) {
      const byte = bytes[this.#at];
      if (byte === QUOTE) {
        this.#string();
        continue;
      }
      this.#at++;
      if (byte === OPEN_OBJECT || byte === OPEN_LIST) {
        if (++depth > MOST_DEPTH) throw new JsonFault(`nested more than ${MOST_DEPTH} deep`, begin);
      } else if ((byte === CLOSE_OBJECT || byte === CLOSE_LIST) && --depth === 0) return;
    }
    throw new JsonFault("a value does not end", begin, { ended: true });
  }

  #word(): void {
    const begin = this.#at, { bytes } = this;
    for (; this.#at < this.#end; this.#at++) {
      const byte = bytes[this.#at];
      const ends = isSpace(byte) || byte === COMMA || byte === COLON || byte === QUOTE ||
        byte === OPEN_LIST || byte === CLOSE_LIST || byte === OPEN_OBJECT || byte === CLOSE_OBJECT;
      if (ends) break;
    }
    if (this.#at === begin) throw new JsonFault("expected a value", begin);
  }
}
