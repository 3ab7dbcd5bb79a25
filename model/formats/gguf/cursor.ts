/**
 * A file read from its beginning to its end, or from some place on, with every length checked before it is used.
 *
 * @module
 */

import { UserError } from "../../../kernels/errors.ts";
import type { FileReader } from "../../files/file_reader.ts";

/** Bytes read at a time. */
const PAGE_BYTES = 1 << 18;
/** Bytes of the longest number. */
const MOST_WIDTH = 8;

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A place in a file. Numbers are little-endian. */
export class Cursor {
  readonly #file: FileReader;
  readonly #page: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  /** Bytes `#start` to `#end` of the file are in the page. */
  #start = 0;
  #end = 0;
  #position: number;

  constructor(file: FileReader, position = 0) {
    this.#file = file;
    this.#page = new Uint8Array(Math.min(PAGE_BYTES, file.size));
    this.#view = new DataView(this.#page.buffer);
    this.#position = position;
  }

  get position(): number {
    return this.#position;
  }

  /** Bytes up to the file's end. */
  get left(): number {
    return this.#file.size - this.#position;
  }

  /** @throws UserError that names the file. */
  fail(problem: string): never {
    throw new UserError(`${this.#file.path}: ${problem}`);
  }

  /** @param what What the bytes are, for the message where they are not there. */
  #claim(bytes: number, what: string): void {
    if (bytes > this.left) {
      this.fail(
        `is truncated: ${what} needs ${bytes} bytes, but ${this.left} are left in the file`,
      );
    }
  }

  /** Takes so many bytes, which fit in a page; returns where in the page they begin. */
  #take(bytes: number, what: string): number {
    this.#claim(bytes, what);
    const begin = this.#position;
    if (begin < this.#start || begin + bytes > this.#end) {
      this.#start = begin;
      this.#end = begin + Math.min(this.#page.length, this.left);
      this.#file.readSync(begin, this.#page.subarray(0, this.#end - begin));
    }
    this.#position += bytes;
    return begin - this.#start;
  }

  u8(what: string): number {
    return this.#view.getUint8(this.#take(1, what));
  }

  u16(what: string): number {
    return this.#view.getUint16(this.#take(2, what), true);
  }

  u32(what: string): number {
    return this.#view.getUint32(this.#take(4, what), true);
  }

  u64(what: string): bigint {
    return this.#view.getBigUint64(this.#take(MOST_WIDTH, what), true);
  }

  /** One number of a width that `read` takes. */
  number<T>(width: number, read: (view: DataView, at: number) => T, what: string): T {
    return read(this.#view, this.#take(width, what));
  }

  /**
   * A count of things that follow, each of so many bytes at least.
   *
   * @throws UserError where the file has no room for them.
   */
  count(leastBytes: number, what: string): number {
    const count = this.u64(`the number of ${what}`);
    if (count > BigInt(Math.floor(this.left / leastBytes))) {
      this.fail(`says that it has ${count} ${what}, more than its ${this.left} bytes hold`);
    }
    return Number(count);
  }

  /** The length of a text, which is in the file. A vocabulary has very many: no u64 is made of each. */
  #textLength(what: string): number {
    const at = this.#take(MOST_WIDTH, what);
    const length = this.#view.getUint32(at + 4, true) * 2 ** 32 + this.#view.getUint32(at, true);
    if (length > this.left) {
      this.fail(`${what} has ${length} bytes, but ${this.left} are left in the file`);
    }
    return length;
  }

  /** A text with its length before it. */
  text(what: string): string {
    const length = this.#textLength(what);
    const bytes = length <= this.#page.length
      ? this.#page.subarray(this.#take(length, what)).subarray(0, length)
      : this.bytes(length, what);
    try {
      return UTF8.decode(bytes);
    } catch {
      return this.fail(`${what} is not valid UTF-8`);
    }
  }

  skipText(what: string): void {
    const length = this.#textLength(what);
    this.#position += length;
  }

  skip(bytes: number, what: string): void {
    this.#claim(bytes, what);
    this.#position += bytes;
  }

  /** So many bytes, in memory of their own. */
  bytes(count: number, what: string): Uint8Array<ArrayBuffer> {
    this.#claim(count, what);
    const bytes = new Uint8Array(count);
    if (count > 0) this.#file.readSync(this.#position, bytes);
    this.#position += count;
    return bytes;
  }
}
