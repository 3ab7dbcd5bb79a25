/**
 * Rows of data that can be read again, each on its own: in the data file where they lie in it as JSON, else in a
 * temporary file.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { present } from "../../../kernels/present.ts";
import type { DataFile } from "./file.ts";
import { rowValue } from "./json_text.ts";
import { offsets, wholeNumbers } from "./numbers.ts";
import { type Extent, Literal, type Row, type Value } from "./row.ts";
import type { SamplesFingerprint } from "./sample_list.ts";
import { Spool } from "./spool.ts";

/** Rows that can be read again. */
export interface StoredRows extends Disposable {
  readonly length: number;
  /** Bytes of all of them. */
  readonly bytes: number;
  /** @throws {UserError} where it is no JSON. */
  at(index: number): Row;
  /** What the rows hold, by which a run knows them again. @param read How samples are made of them, where rows don't tell. */
  fingerprint(read: string): SamplesFingerprint;
}

/** Up to so many bytes of rows are all looked at for a fingerprint; of more, some every so many. */
const MOST_HASHED = 2 ** 30, SAMPLE_BYTES = 4096, SAMPLE_EVERY = 1 << 20;
/** Bytes of a file that are read at a time. */
const PIECE_BYTES = 1 << 20;
/** Bytes that are read at once where rows are read one after another, and bytes between two such at most. */
const BLOCK_BYTES = 1 << 17, MOST_BETWEEN = 16;

/** Where rows lie. */
class Places {
  readonly #begins = offsets();
  readonly #sizes = wholeNumbers();
  /** Bytes of all rows. */
  bytes = 0;

  get length(): number {
    return this.#begins.length;
  }

  add(begin: number, end: number): void {
    this.#begins.push(begin);
    this.#sizes.push(end - begin);
    this.bytes += end - begin;
  }

  at(index: number): Extent {
    const begin = this.#begins.at(index);
    return { begin, end: begin + this.#sizes.at(index) };
  }

  /** The bytes of numbers of 64 and 32 bits that tell where they lie. */
  *written(): Generator<Uint8Array, void> {
    for (const { buffer, byteOffset, byteLength } of this.#begins.blocks()) {
      yield new Uint8Array(buffer, byteOffset, byteLength);
    }
    for (const { buffer, byteOffset, byteLength } of this.#sizes.blocks()) {
      yield new Uint8Array(buffer, byteOffset, byteLength);
    }
  }
}

/** Rows of JSON that lie in a data file, which they keep open. */
export class RowsInFile implements StoredRows {
  readonly #file: DataFile;
  readonly #places = new Places();
  /** Bytes that were read, and where they lie; and where the row ends that was read last. */
  #block = new Uint8Array();
  #blockBegin = 0;
  #lastEnd = -1;

  constructor(file: DataFile) {
    this.#file = file;
  }

  get length(): number {
    return this.#places.length;
  }

  get bytes(): number {
    return this.#places.bytes;
  }

  /** Adds a row that has a place in the file. */
  add({ extent }: Pick<Row, "extent">): void {
    const { begin, end } = present(extent, "a row's place in its file");
    this.#places.add(begin, end);
  }

  /** Adds the row that lies there. */
  addPlace(begin: number, end: number): void {
    this.#places.add(begin, end);
  }

  at(index: number): Row {
    const { begin, end } = this.#places.at(index), bytes = this.#read(begin, end);
    const where = () => `data file "${this.#file.path}", line ${this.#line(begin)} (byte ${begin})`;
    return { where, value: rowValue(bytes, where), size: bytes.length };
  }

  /**
   * Of up to {@linkcode MOST_HASHED} bytes it covers all from the first row to the last. Of more it covers where each row
   * begins and how long it is, and samples of their bytes.
   */
  fingerprint(read: string): SamplesFingerprint {
    const { begin } = this.#places.at(0), { end } = this.#places.at(this.length - 1);
    const hash = createHash("sha256").update(read), isWhole = end - begin <= MOST_HASHED;
    const step = isWhole ? PIECE_BYTES : SAMPLE_EVERY;
    const buffer = new Uint8Array(isWhole ? PIECE_BYTES : SAMPLE_BYTES);
    for (let at = begin; at < end; at += step) {
      const part = buffer.subarray(0, Math.min(buffer.length, end - at));
      this.#file.read(at, part);
      hash.update(part);
    }
    if (!isWhole) { for (const bytes of this.#places.written()) hash.update(bytes); }
    return { samples: this.length, bytes: end - begin, sha256: hash.digest("hex") };
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  /** Bytes of the file: of rows that follow one another, many are read at once. */
  #read(begin: number, end: number): Uint8Array {
    const isNext = begin >= this.#lastEnd && begin - this.#lastEnd < MOST_BETWEEN;
    this.#lastEnd = end;
    if (begin < this.#blockBegin || end > this.#blockBegin + this.#block.length) {
      const wanted = Math.max(end - begin, isNext ? BLOCK_BYTES : 0);
      this.#block = new Uint8Array(Math.min(wanted, this.#file.size - begin));
      this.#blockBegin = begin;
      this.#file.read(begin, this.#block);
    }
    return this.#block.subarray(begin - this.#blockBegin, end - this.#blockBegin);
  }

  /** The line of a byte, from 1. */
  #line(byte: number): number {
    const buffer = new Uint8Array(PIECE_BYTES);
    let line = 1;
    for (let at = 0; at < byte; at += PIECE_BYTES) {
      const part = buffer.subarray(0, Math.min(PIECE_BYTES, byte - at));
      this.#file.read(at, part);
      for (let i = part.indexOf(0x0a); i >= 0; i = part.indexOf(0x0a, i + 1)) line++;
    }
    return line;
  }
}

/** Rows as JSON in a temporary file. */
export class SpooledRows implements StoredRows {
  readonly #path: string;
  readonly #spool = new Spool();
  readonly #places = new Places();
  readonly #hash = createHash("sha256");
  readonly #encoder = new TextEncoder();

  /** @param path The data file, for messages. */
  constructor(path: string) {
    this.#path = path;
  }

  get length(): number {
    return this.#places.length;
  }

  get bytes(): number {
    return this.#places.bytes;
  }

  add({ value }: Pick<Row, "value">): void {
    const bytes = this.#encoder.encode(jsonOf(value) + "\n"), begin = this.#spool.size;
    this.#spool.append(bytes);
    this.#hash.update(bytes);
    this.#places.add(begin, begin + bytes.length);
  }

  at(index: number): Row {
    const { begin, end } = this.#places.at(index), bytes = new Uint8Array(end - begin);
    this.#spool.read(begin, bytes);
    const where = () => `data file "${this.#path}", sample ${index + 1}`;
    return { where, value: rowValue(bytes, where), size: bytes.length };
  }

  fingerprint(read: string): SamplesFingerprint {
    const { size } = this.#spool, hash = this.#hash.copy().update(read);
    return { samples: this.length, bytes: size, sha256: hash.digest("hex") };
  }

  [Symbol.dispose](): void {
    this.#spool[Symbol.dispose]();
  }
}

/** JSON of a value, from which it is read as it was. */
function jsonOf(value: Value): string {
  if (value instanceof Literal) {
    // Not every number of a table is one of JSON; as text it means the same.
    return /^(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false)$/.test(value.source)
      ? value.source
      : JSON.stringify(value.source);
  }
  if (Array.isArray(value)) return `[${value.map(jsonOf).join(",")}]`;
  if (value === null || typeof value === "string") return JSON.stringify(value);
  const members = Object.entries(value).map(([name, inner]) =>
    `${JSON.stringify(name)}:${jsonOf(inner)}`
  );
  return `{${members.join(",")}}`;
}
