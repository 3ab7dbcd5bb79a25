/**
 * Writes zip archives, pickles and `.pth` files by hand, right ones and wrong ones, for tests of what
 * reads them.
 */
import { crc32 } from "node:zlib";
import type { FileDtype } from "../../../model/formats/weights.ts";

/** Bytes laid end to end. */
export function concat(...parts: ArrayLike<number>[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** A little-endian number. */
export function little(value: number, bytes: 1 | 2 | 4 | 8): Uint8Array {
  const out = new DataView(new ArrayBuffer(8));
  out.setBigUint64(0, BigInt(value), true);
  return new Uint8Array(out.buffer, 0, bytes);
}

export const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

/** An entry of an archive; what isn't given is right. */
export interface EntryToWrite {
  name: string | Uint8Array;
  content: Uint8Array;
  flags?: number;
  method?: number;
  crc?: number;
  /** What the directory says that the entry's sizes and place are. */
  size?: number;
  stored?: number;
  header?: number;
  /** What the local header says. */
  local?: { name?: string; flags?: number; method?: number };
  /** Puts sizes and place into a zip64 extra field, after one of another kind. */
  zip64?: boolean;
}

/** Puts little-endian numbers and bytes after each other. */
class Writer {
  readonly #view: DataView<ArrayBuffer>;
  at = 0;

  constructor(most: number) {
    this.#view = new DataView(new ArrayBuffer(most));
  }

  u16(...values: number[]): void {
    for (const value of values) this.#view.setUint16((this.at += 2) - 2, value, true);
  }

  u32(...values: number[]): void {
    for (const value of values) this.#view.setUint32((this.at += 4) - 4, value, true);
  }

  u64(...values: number[]): void {
    for (const value of values) this.#view.setBigUint64((this.at += 8) - 8, BigInt(value), true);
  }

  bytes(bytes: ArrayLike<number>): void {
    this.written(this.at + bytes.length).set(bytes, this.at);
    this.at += bytes.length;
  }

  /** What is written up to here. */
  written(end = this.at): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#view.buffer, 0, end);
  }
}

/** A zip archive of stored entries whose contents begin at multiples of 64, as PyTorch aligns them. */
export function zipFile(
  entries: readonly EntryToWrite[],
  { zip64 = false, comment = "", align = 64 } = {},
): Uint8Array<ArrayBuffer> {
  const encode = (name: string | Uint8Array) => typeof name === "string" ? ascii(name) : name;
  const contents = entries.reduce((sum, { name, content }) => {
    return sum + content.length + 2 * name.length + align + 200;
  }, 0);
  const out = new Writer(contents + comment.length + 200), headers: number[] = [];
  for (const { name, content, flags = 0, method = 0, local = {} } of entries) {
    headers.push(out.at);
    const localName = encode(local.name ?? name);
    const padding = (align - (out.at + 30 + localName.length + 4) % align) % align;
    out.u32(0x04034b50);
    out.u16(0, local.flags ?? flags, local.method ?? method);
    out.u32(0, 0, 0, 0); // time, checksum and sizes may be left out here
    out.u16(localName.length, 4 + padding);
    out.bytes(localName);
    out.u16(0x4246, padding);
    out.at += padding;
    out.bytes(content);
  }
  const begin = out.at;
  entries.forEach((entry, i) => {
    const { content, flags = 0, method = 0, crc = crc32(content) } = entry;
    const { size = content.length, stored = content.length, header = headers[i] } = entry;
    const name = encode(entry.name), field = (value: number) => entry.zip64 ? 0xffffffff : value;
    out.u32(0x02014b50);
    out.u16(0, 0, flags, method);
    out.u32(0, crc, field(stored), field(size));
    out.u16(name.length, entry.zip64 ? 35 : 0, 0, 0, 0);
    out.u32(0, field(header));
    out.bytes(name);
    if (!entry.zip64) return;
    out.u16(0x5858, 3); // an extra field of another kind comes first
    out.bytes([1, 2, 3]);
    out.u16(1, 24);
    out.u64(size, stored, header);
  });
  const end = out.at, count = entries.length;
  if (zip64) {
    out.u32(0x06064b50);
    out.u64(44);
    out.u32(0, 0, 0);
    out.u64(count, count, end - begin, begin);
    out.u32(0x07064b50, 0);
    out.u64(end);
    out.u32(1);
  }
  const [c, b, o] = zip64 ? [0xffff, 0xffffffff, 0xffffffff] : [count, end - begin, begin];
  out.u32(0x06054b50, 0);
  out.u16(c, c);
  out.u32(b, o);
  out.u16(comment.length);
  out.bytes(ascii(comment));
  return out.written().slice();
}

/** Opcodes with their arguments, as Python's pickler writes them in protocol 2. */
export const op = {
  proto: (version: number): Uint8Array => Uint8Array.of(0x80, version),
  text: (text: string): Uint8Array => concat([0x58], little(ascii(text).length, 4), ascii(text)),
  int: (value: number): Uint8Array => concat([0x8a, 8], little(value, 8)),
  global: (module: string, name: string): Uint8Array => ascii(`c${module}\n${name}\n`),
  mark: Uint8Array.of(0x28),
  tuple: Uint8Array.of(0x74),
  emptyTuple: Uint8Array.of(0x29),
  emptyDict: Uint8Array.of(0x7d),
  emptyList: Uint8Array.of(0x5d),
  setItems: Uint8Array.of(0x75),
  none: Uint8Array.of(0x4e),
  false: Uint8Array.of(0x89),
  persistentId: Uint8Array.of(0x51),
  reduce: Uint8Array.of(0x52),
  build: Uint8Array.of(0x62),
  stop: Uint8Array.of(0x2e),
};

const STORAGES = { F32: "FloatStorage", F16: "HalfStorage", BF16: "BFloat16Storage" };

/** A tensor's description; strides are those of a contiguous tensor where they aren't given. */
export interface TensorToPickle {
  dtype: FileDtype;
  shape: readonly number[];
  key: string;
  /** Numbers in the storage. */
  count: number;
  offset?: number;
  stride?: readonly number[];
}

const tupleOf = (values: readonly number[]) => concat(op.mark, ...values.map(op.int), op.tuple);

/** The opcodes that push a tensor. */
export function pickleTensor({ dtype, shape, key, count, ...more }: TensorToPickle): Uint8Array {
  const contiguous = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  return concat(
    op.global("torch._utils", "_rebuild_tensor_v2"),
    op.mark,
    op.mark,
    op.text("storage"),
    op.global("torch", STORAGES[dtype]),
    op.text(key),
    op.text("cpu"),
    op.int(count),
    op.tuple,
    op.persistentId,
    op.int(more.offset ?? 0),
    tupleOf(shape),
    tupleOf(more.stride ?? contiguous),
    op.false,
    op.global("collections", "OrderedDict"),
    op.emptyTuple,
    op.reduce,
    op.tuple,
    op.reduce,
  );
}

/** A pickle of a dictionary whose values are pushed by these opcodes. */
export function pickleDictionary(values: Record<string, Uint8Array>): Uint8Array {
  const items = Object.entries(values).flatMap(([name, value]) => [op.text(name), value]);
  return concat(op.proto(2), op.emptyDict, op.mark, ...items, op.setItems, op.stop);
}

/** A tensor with its bytes. */
export interface PthTensorToWrite {
  dtype: FileDtype;
  shape: readonly number[];
  bytes: Uint8Array;
}

/** A `.pth` file of a dictionary of tensors, a storage each. */
export function pthFile(tensors: Record<string, PthTensorToWrite>): Uint8Array<ArrayBuffer> {
  const list = Object.entries(tensors);
  const values = list.map(([name, { dtype, shape }], i) => {
    const count = shape.reduce((a, b) => a * b, 1);
    return [name, pickleTensor({ dtype, shape, key: String(i), count })];
  });
  return zipFile([
    { name: "archive/data.pkl", content: pickleDictionary(Object.fromEntries(values)) },
    { name: "archive/byteorder", content: ascii("little") },
    ...list.map(([, { bytes }], i) => ({ name: `archive/data/${i}`, content: bytes })),
    { name: "archive/version", content: ascii("3\n") },
  ], { zip64: true });
}
