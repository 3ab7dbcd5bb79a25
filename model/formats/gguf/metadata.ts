/**
 * The keys and values at the beginning of a GGUF file. Lists (a vocabulary has hundreds of thousands of texts) are
 * passed over when the file is opened, and read when they are asked for.
 *
 * @module
 */

import { UserError } from "../../../kernels/errors.ts";
import type { FileReader } from "../../files/file_reader.ts";
import { brief } from "../../files/json_file.ts";
import { Cursor } from "./cursor.ts";

/** A type of numbers: its width and how one is read. */
interface NumberType {
  name: string;
  width: number;
  read: (view: DataView, at: number) => number | bigint;
  /** A list of them. */
  list: (buffer: ArrayBuffer) => Numbers;
}

/** Numbers of one type. */
type Numbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

const NUMBER_TYPES: Readonly<Record<number, NumberType>> = {
  0: { name: "u8", width: 1, read: (v, at) => v.getUint8(at), list: (b) => new Uint8Array(b) },
  1: { name: "i8", width: 1, read: (v, at) => v.getInt8(at), list: (b) => new Int8Array(b) },
  2: {
    name: "u16",
    width: 2,
    read: (v, at) => v.getUint16(at, true),
    list: (b) => new Uint16Array(b),
  },
  3: {
    name: "i16",
    width: 2,
    read: (v, at) => v.getInt16(at, true),
    list: (b) => new Int16Array(b),
  },
  4: {
    name: "u32",
    width: 4,
    read: (v, at) => v.getUint32(at, true),
    list: (b) => new Uint32Array(b),
  },
  5: {
    name: "i32",
    width: 4,
    read: (v, at) => v.getInt32(at, true),
    list: (b) => new Int32Array(b),
  },
  6: {
    name: "f32",
    width: 4,
    read: (v, at) => v.getFloat32(at, true),
    list: (b) => new Float32Array(b),
  },
  10: {
    name: "u64",
    width: 8,
    read: (v, at) => v.getBigUint64(at, true),
    list: (b) => new BigUint64Array(b),
  },
  11: {
    name: "i64",
    width: 8,
    read: (v, at) => v.getBigInt64(at, true),
    list: (b) => new BigInt64Array(b),
  },
  12: {
    name: "f64",
    width: 8,
    read: (v, at) => v.getFloat64(at, true),
    list: (b) => new Float64Array(b),
  },
};
const BOOL = 7, STRING = 8, ARRAY = 9;

/** A list that is still in the file. */
class StoredArray {
  constructor(readonly type: number, readonly count: number, readonly position: number) {}

  /** As messages show it. */
  toJSON(): string {
    return `a list of ${this.count}`;
  }
}

type Value = number | bigint | boolean | string | StoredArray;

/** Lists in lists, at most so deep. */
const MAX_DEPTH = 8;
/** Bytes of the shortest list: the type of its elements and their number. */
const LEAST_ARRAY = 12;
/** Bytes of the shortest entry: a length, a type and a value of one byte. */
const LEAST_ENTRY = 13;

function skipArray(cursor: Cursor, what: string, depth: number): StoredArray {
  if (depth > MAX_DEPTH) cursor.fail(`${what} is nested more than ${MAX_DEPTH} levels deep`);
  const type = cursor.u32(`the type of ${what}`);
  const width = type === BOOL ? 1 : NUMBER_TYPES[type]?.width;
  const least = width ?? (type === STRING ? 8 : LEAST_ARRAY);
  if (width === undefined && type !== STRING && type !== ARRAY) {
    cursor.fail(`${what} is a list of values of type ${type}, expected 0 to 12`);
  }
  const count = cursor.count(least, `values in ${what}`), { position } = cursor;
  if (width !== undefined) cursor.skip(count * width, what);
  else {
    for (let i = 0; i < count; i++) {
      if (type === STRING) cursor.skipText(what);
      else skipArray(cursor, what, depth + 1);
    }
  }
  return new StoredArray(type, count, position);
}

function readFlag(cursor: Cursor, what: string): boolean {
  const value = cursor.u8(what);
  if (value > 1) cursor.fail(`${what} is ${value}, expected 0 or 1 for false or true`);
  return value === 1;
}

function readValue(cursor: Cursor, what: string): Value {
  const type = cursor.u32(`the type of ${what}`);
  if (type === BOOL) return readFlag(cursor, what);
  if (type === STRING) return cursor.text(what);
  if (type === ARRAY) return skipArray(cursor, what, 1);
  const number = NUMBER_TYPES[type];
  if (number === undefined) {
    return cursor.fail(`${what} has a value of type ${type}, expected 0 to 12`);
  }
  const value = cursor.number(number.width, number.read, what);
  const isSafe = typeof value === "bigint" && BigInt.asIntN(53, value) === value;
  return isSafe ? Number(value) : value;
}

/** What a GGUF file says of its model. */
export class Metadata {
  readonly #values = new Map<string, Value>();

  /** @param file Stays open as long as lists are asked for. */
  constructor(readonly file: FileReader) {}

  /** Reads so many entries. @throws UserError that names the file and the key. */
  read(cursor: Cursor, count: number): void {
    for (let i = 0; i < count; i++) {
      const key = cursor.text(`the name of metadata entry ${i + 1}`);
      if (this.#values.has(key)) cursor.fail(`has the metadata key ${brief(key)} twice`);
      this.#values.set(key, readValue(cursor, shown(key)));
    }
  }

  /** Bytes of the shortest entry. */
  static readonly leastEntry = LEAST_ENTRY;

  get path(): string {
    return this.file.path;
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** @throws UserError that names the file, the key and its value. */
  fail(key: string, expected: string): never {
    const value = this.#values.get(key);
    const text = typeof value === "bigint" ? String(value) : brief(value);
    const has = value === undefined ? "is missing" : `is ${text}`;
    throw new UserError(`${this.path}: ${shown(key)} ${has}, expected ${expected}`);
  }

  /** Whether a key has this value. */
  is(key: string, value: unknown): boolean {
    return this.#values.get(key) === value;
  }

  text(key: string): string | undefined {
    const value = this.#values.get(key);
    if (value !== undefined && typeof value !== "string") this.fail(key, "a text");
    return value;
  }

  flag(key: string): boolean | undefined {
    const value = this.#values.get(key);
    if (value !== undefined && typeof value !== "boolean") this.fail(key, "true or false");
    return value;
  }

  number(key: string): number | undefined {
    const value = this.#values.get(key);
    if (value !== undefined && (typeof value !== "number" || !Number.isFinite(value))) {
      this.fail(key, "a finite number");
    }
    return value;
  }

  /** A whole number of at least `least`, or a list of one for each layer that are all the same. */
  count(key: string, most: number, least = 1): number | undefined {
    const listed = this.#values.get(key) instanceof StoredArray ? this.numbers(key) : undefined;
    const first = listed === undefined ? this.number(key) : Number(listed[0]);
    if (first === undefined) return undefined;
    if (listed?.some((value) => Number(value) !== first)) this.fail(key, "the same in every layer");
    if (!Number.isSafeInteger(first) || first < least || first > most) {
      this.fail(key, `a whole number from ${least} to ${most}`);
    }
    return first;
  }

  /** Elements of a list. */
  length(key: string): number | undefined {
    const value = this.#values.get(key);
    if (value !== undefined && !(value instanceof StoredArray)) this.fail(key, "a list");
    return value?.count;
  }

  /** A list of numbers. */
  numbers(key: string): Numbers | undefined {
    const place = this.#values.get(key);
    if (place === undefined) return undefined;
    const type = place instanceof StoredArray ? NUMBER_TYPES[place.type] : undefined;
    if (!(place instanceof StoredArray) || type === undefined) {
      return this.fail(key, "a list of numbers");
    }
    const bytes = new Uint8Array(place.count * type.width);
    if (bytes.length > 0) this.file.readSync(place.position, bytes);
    return type.list(bytes.buffer);
  }

  /** A list of flags, or of numbers that stand for them. */
  flags(key: string): boolean[] | undefined {
    const place = this.#values.get(key);
    if (!(place instanceof StoredArray) || place.type !== BOOL) {
      const numbers = this.numbers(key);
      const all: Iterable<number | bigint> | undefined = numbers;
      return all && Array.from(all, (number) => Number(number) !== 0);
    }
    const bytes = new Uint8Array(place.count);
    if (bytes.length > 0) this.file.readSync(place.position, bytes);
    return Array.from(bytes, (byte) => byte !== 0);
  }

  /** Whether a key has a list. */
  isList(key: string): boolean {
    return this.#values.get(key) instanceof StoredArray;
  }

  /** A list of texts. */
  texts(key: string): string[] | undefined {
    const place = this.#values.get(key);
    if (place === undefined) return undefined;
    if (!(place instanceof StoredArray) || place.type !== STRING) {
      return this.fail(key, "a list of texts");
    }
    const cursor = new Cursor(this.file, place.position), what = shown(key);
    return Array.from({ length: place.count }, () => cursor.text(what));
  }
}

/** A key as it stands in messages: it may be anything. */
function shown(key: string): string {
  return /^[\w.-]{1,80}$/.test(key) ? key : brief(key);
}
