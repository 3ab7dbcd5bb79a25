/**
 * JSON text of which a part is held at a time, and what is said of its rows.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { UTF8 } from "../../files/whole_file.ts";
import { MOST_ROW_BYTES } from "./file.ts";
import { type JsonFault, JsonValues } from "./json_values.ts";
import { type Extent, parsePlain, parseValue, type Row, type Value } from "./row.ts";

/** Text of a file in UTF-8, from the rows on that are not read yet. */
export class JsonText {
  /** What is held. */
  bytes: Uint8Array = new Uint8Array();
  /** What lies before is done with. */
  at = 0;
  /** Whether no more is to come. */
  isWhole = false;
  /** Where it is held, with room behind it. */
  #buffer = new Uint8Array();
  /** Bytes of the text before those that are held. */
  #passed = 0;
  /** Bytes before `#counted` hold `#lines` line breaks, those that are no longer held included. */
  #counted = 0;
  #lines = 0;
  /** A place in the line that was looked at last, and where it ends; the end is -1 where it is not held. */
  #lineBegin = Infinity;
  #lineEnd = -1;
  readonly #begin: number | undefined;

  /** @param begin Where it begins in the file, in which it lies just so. */
  constructor(readonly file: string, begin: number | undefined) {
    this.#begin = begin;
  }

  /** Adds a piece, and lets go of what was read. */
  push(piece: Uint8Array): void {
    this.line(this.at);
    this.#passed += this.at;
    this.#counted -= this.at;
    const rest = this.bytes.subarray(this.at), size = rest.length + piece.length;
    if (size <= this.#buffer.length) this.#buffer.copyWithin(0, this.at, this.bytes.length);
    else {
      const larger = new Uint8Array(rest.length === 0 ? size : Math.max(size, 2 * rest.length));
      larger.set(rest);
      this.#buffer = larger;
    }
    this.#buffer.set(piece, rest.length);
    this.bytes = this.#buffer.subarray(0, size);
    this.at = 0;
    this.#lineBegin = Infinity;
  }

  /** Line of a byte that is held, from 1. */
  line(at: number): number {
    if (at < this.#counted) return this.#lines + 1 - this.#breaks(at, this.#counted);
    this.#lines += this.#breaks(this.#counted, at);
    this.#counted = at;
    return this.#lines + 1;
  }

  /** Goes past the line that ends with the break at `end`. */
  passLine(end: number): void {
    this.line(this.at);
    this.#lines++;
    this.#counted = this.at = end + 1;
  }

  /** Where the line ends that a byte lies in; -1 where its end is not held. */
  lineEnd(at: number): number {
    // A long line has many rows, for each of which it is not looked through again.
    if (at < this.#lineBegin || (this.#lineEnd >= 0 && at > this.#lineEnd)) {
      this.#lineBegin = at;
      this.#lineEnd = this.bytes.indexOf(0x0a, at);
    }
    return this.#lineEnd;
  }

  #breaks(begin: number, end: number): number {
    const part = this.bytes.subarray(begin, end);
    let breaks = 0;
    for (let at = part.indexOf(0x0a); at >= 0; at = part.indexOf(0x0a, at + 1)) breaks++;
    return breaks;
  }

  values(extent: Extent = { begin: this.at, end: this.bytes.length }): JsonValues {
    return new JsonValues(this.bytes, extent);
  }

  /** Where a byte that is held lies in the file. */
  placeOf(at: number): number {
    return this.#passed + (this.#begin ?? 0) + at;
  }

  /**
   * A row without numbers and booleans, and with nothing beside it.
   *
   * @returns undefined where it has some; `broken` where the bytes are no JSON.
   */
  plainRow({ begin, end }: Extent, number: number): Row | "broken" | undefined {
    let value: Value | undefined;
    try {
      value = parsePlain(UTF8.decode(this.bytes.subarray(begin, end)));
    } catch {
      return "broken";
    }
    return value === undefined ? undefined : this.#row({ begin, end }, value, number);
  }

  /** A row as a value. @throws {UserError} Where it is none. */
  row(extent: Extent, number: number, list = ""): Row {
    const row = this.#row(extent, null, number, list);
    row.value = rowValue(this.bytes.subarray(extent.begin, extent.end), row.where);
    return row;
  }

  #row({ begin, end }: Extent, value: Value, number: number, list = ""): Row {
    const line = this.line(begin), isInFile = this.#begin !== undefined;
    return {
      where: () => `data file "${this.file}", ${list}row ${number} (line ${line})`,
      value,
      size: end - begin,
      extent: isInFile ? { begin: this.placeOf(begin), end: this.placeOf(end) } : undefined,
    };
  }

  /** A fault as one sentence. */
  refusal({ message, at, ended, line = this.line(at) }: JsonFault, number: number): UserError {
    const where = `${message} (row ${number}, line ${line})`;
    return new UserError(
      `data file "${this.file}" is ${ended ? "truncated" : "not JSON"}: ${where}; ` +
        "expected a list of rows, JSON Lines, or objects one after another",
    );
  }
}

/** The value of a row's bytes. @throws {UserError} Where they are none, too many or no UTF-8. */
export function rowValue(bytes: Uint8Array, where: () => string): Value {
  if (bytes.length > MOST_ROW_BYTES) {
    throw new UserError(
      `${where()} has ${bytes.length} bytes; expected rows of at most ${MOST_ROW_BYTES}`,
    );
  }
  let text: string;
  try {
    text = UTF8.decode(bytes);
  } catch {
    throw new UserError(`${where()} is not UTF-8 text; expected JSON in UTF-8`);
  }
  try {
    return parseValue(text);
  } catch (error) {
    const message = (error as Error).message.replaceAll(/\s+/g, " ");
    throw new UserError(`${where()} is not JSON (${message}); expected an object with its fields`);
  }
}
