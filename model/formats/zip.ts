/**
 * Random access into zip archives as `torch.save` writes them: entries are stored, not compressed, so
 * that an entry is a range of the file. With the zip64 records that PyTorch always adds.
 *
 * Format: PKWARE's APPNOTE 6.3.10, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { UserError } from "../../kernels/errors.ts";
import type { FileReader } from "../files/file_reader.ts";
import { brief } from "../files/json_file.ts";
import { kindOf, UTF8 } from "../files/whole_file.ts";

/** One stored entry, as the archive's directory at its end describes it. */
export interface ZipEntry {
  readonly name: string;
  /** Bytes of the content. */
  readonly size: number;
  readonly crc: number;
  /** Where its local header begins in the file. */
  readonly header: number;
}

const LOCAL_HEADER = 0x04034b50, DIRECTORY_HEADER = 0x02014b50, END = 0x06054b50;
const ZIP64_END = 0x06064b50, ZIP64_LOCATOR = 0x07064b50;
/** Sizes of the records above without their names and comments. */
const LOCAL_BYTES = 30,
  DIRECTORY_BYTES = 46,
  END_BYTES = 22,
  ZIP64_END_BYTES = 56,
  LOCATOR_BYTES = 20;
/** Says that the true value is in a zip64 record. */
const IN_ZIP64 = 0xffffffff, COUNT_IN_ZIP64 = 0xffff;
/** Flags: encrypted, strongly encrypted, directory encrypted. */
const ENCRYPTED = 0x0001 | 0x0040 | 0x2000;

/** The largest Llama has some 1,200 tensors. */
const MAX_ENTRIES = 20_000, MAX_DIRECTORY = 16 * 2 ** 20;

/** Little-endian numbers of a byte array. */
function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A 64-bit number of a record; one beyond 2^53 becomes inexact, but stays beyond any file. */
function u64(record: DataView, at: number): number {
  return Number(record.getBigUint64(at, true));
}

/** A zip archive's directory. */
export class ZipArchive {
  readonly entries: ReadonlyMap<string, ZipEntry>;
  readonly #file: FileReader;
  /** Where the directory begins: entries lie before it. */
  #directory = 0;

  /**
   * Reads the directory.
   *
   * @throws UserError that names the file where it is no zip archive, is damaged, or has an entry that
   *   is compressed or encrypted.
   */
  constructor(file: FileReader) {
    this.#file = file;
    this.entries = this.#readDirectory();
  }

  #fail(problem: string): never {
    throw new UserError(`${this.#file.path}: ${problem}`);
  }

  #readAt(position: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.#file.readSync(position, bytes);
    return bytes;
  }

  /** Where the directory is: `begin` to `end`, and how many entries it has. */
  #findDirectory(): { begin: number; bytes: number; count: number } {
    const { size } = this.#file;
    // The end record is the file's last, but for a comment of up to 65,535 bytes.
    const start = Math.max(0, size - END_BYTES - 0xffff);
    const tail = this.#readAt(start, size - start), record = view(tail);
    let at = tail.length - END_BYTES;
    while (
      at >= 0 && (record.getUint32(at, true) !== END ||
        record.getUint16(at + 20, true) !== tail.length - END_BYTES - at)
    ) at--;
    if (at < 0) {
      const kind = kindOf(this.#file.head);
      if (kind?.startsWith("a zip")) {
        this.#fail("is truncated: it begins as a zip archive, but has no directory at its end");
      }
      const not = kind === undefined ? "" : `: it is ${kind}`;
      this.#fail(`is no whole zip archive, which torch.save writes${not}`);
    }
    const disks = record.getUint32(at + 4, true);
    let count = record.getUint16(at + 10, true);
    let bytes = record.getUint32(at + 12, true), begin = record.getUint32(at + 16, true);
    let limit = start + at;
    if (disks === 0 && limit >= LOCATOR_BYTES) {
      const locator = view(this.#readAt(limit - LOCATOR_BYTES, LOCATOR_BYTES));
      if (locator.getUint32(0, true) === ZIP64_LOCATOR) {
        const zip64 = u64(locator, 8);
        if (zip64 + ZIP64_END_BYTES > limit - LOCATOR_BYTES) {
          this.#fail("is damaged: its zip64 end record lies outside the file");
        }
        const end = view(this.#readAt(zip64, ZIP64_END_BYTES));
        if (end.getUint32(0, true) !== ZIP64_END) {
          this.#fail("is damaged: its zip64 end record is not where it should be");
        }
        [count, bytes, begin, limit] = [u64(end, 32), u64(end, 40), u64(end, 48), zip64];
      } else if (count === COUNT_IN_ZIP64 || bytes === IN_ZIP64 || begin === IN_ZIP64) {
        this.#fail("is damaged: its zip64 end record is missing");
      }
    }
    if (disks !== 0) this.#fail("is one part of a zip archive of several, expected a whole one");
    if (begin + bytes > limit) this.#fail("is damaged: its zip directory lies outside the file");
    if (count > MAX_ENTRIES || bytes > MAX_DIRECTORY) {
      this.#fail(`has a zip directory of ${count} entries, more than any model's`);
    }
    return { begin, bytes, count };
  }

  #readDirectory(): Map<string, ZipEntry> {
    const { begin, bytes, count } = this.#findDirectory();
    this.#directory = begin;
    const directory = this.#readAt(begin, bytes), record = view(directory);
    const entries = new Map<string, ZipEntry>();
    let at = 0;
    for (let i = 0; i < count; i++) {
      if (at + DIRECTORY_BYTES > bytes || record.getUint32(at, true) !== DIRECTORY_HEADER) {
        this.#fail(`is damaged: entry ${i} of its zip directory is not where it should be`);
      }
      const nameEnd = at + DIRECTORY_BYTES + record.getUint16(at + 28, true);
      const extraEnd = nameEnd + record.getUint16(at + 30, true);
      const end = extraEnd + record.getUint16(at + 32, true);
      if (end > bytes) this.#fail(`is damaged: entry ${i} of its zip directory has no end`);
      const name = this.#name(directory.subarray(at + DIRECTORY_BYTES, nameEnd), i);
      const fail = (problem: string) => this.#fail(`entry ${brief(name)} ${problem}`);
      if (entries.has(name)) fail("is there twice");
      if ((record.getUint16(at + 8, true) & ENCRYPTED) !== 0) {
        fail("is encrypted, expected plain content as torch.save writes it");
      }
      const method = record.getUint16(at + 10, true);
      if (method !== 0) {
        fail(`is compressed (method ${method}), expected stored content as torch.save writes it`);
      }
      // Whichever of these a 32-bit field can't hold stands in the zip64 extra field, in this order.
      const fields = [24, 20, 42].map((field) => record.getUint32(at + field, true));
      const wide = zip64Extra(directory.subarray(nameEnd, extraEnd));
      const [size, stored, header] = fields.map((value) => {
        return value === IN_ZIP64 ? wide.shift() ?? Infinity : value;
      });
      if (size !== stored) fail(`has ${stored} bytes stored for ${size}, expected the same`);
      if (header + LOCAL_BYTES + size > begin) fail("lies outside the file");
      entries.set(name, { name, size, crc: record.getUint32(at + 16, true), header });
      at = end;
    }
    if (at !== bytes) this.#fail("is damaged: its zip directory is longer than its entries");
    return entries;
  }

  #name(bytes: Uint8Array, index: number): string {
    try {
      return UTF8.decode(bytes);
    } catch {
      return this.#fail(`is damaged: the name of zip entry ${index} is not valid UTF-8`);
    }
  }

  /**
   * Where an entry's content begins in the file. Asked of the entry's local header, since its length
   * is known there only: PyTorch pads it so that contents begin at multiples of 64 bytes.
   *
   * @throws UserError where the local header is not that of this entry.
   */
  position({ name, size, header }: ZipEntry): number {
    const encoded = new TextEncoder().encode(name);
    const bytes = this.#readAt(
      header,
      Math.min(LOCAL_BYTES + encoded.length, this.#directory - header),
    );
    const record = view(bytes);
    const same = record.getUint32(0, true) === LOCAL_HEADER && record.getUint16(8, true) === 0 &&
      (record.getUint16(6, true) & ENCRYPTED) === 0 &&
      record.getUint16(26, true) === encoded.length &&
      encoded.every((byte, i) => byte === bytes[LOCAL_BYTES + i]);
    const begin = header + LOCAL_BYTES + encoded.length + record.getUint16(28, true);
    if (!same || begin + size > this.#directory) {
      this.#fail(`entry ${brief(name)} is damaged: its header differs from the zip directory`);
    }
    return begin;
  }

  /**
   * A small entry's whole content, its checksum verified.
   *
   * @throws UserError where it is damaged or has more than `limit` bytes.
   */
  content(entry: ZipEntry, limit: number): Uint8Array {
    const { name, size, crc } = entry;
    if (size > limit) {
      this.#fail(`entry ${brief(name)} has ${size} bytes, more than the limit of ${limit}`);
    }
    const bytes = this.#readAt(this.position(entry), size);
    if (crc32(bytes) !== crc) {
      this.#fail(`entry ${brief(name)} is damaged: its checksum is not that of its content`);
    }
    return bytes;
  }
}

/** The 64-bit numbers of the extra field with id 1. */
function zip64Extra(extra: Uint8Array): number[] {
  const record = view(extra), values: number[] = [];
  for (let at = 0; at + 4 <= extra.length;) {
    const id = record.getUint16(at, true), end = at + 4 + record.getUint16(at + 2, true);
    if (id === 1) {
      for (let value = at + 4; value + 8 <= Math.min(end, extra.length); value += 8) {
        values.push(u64(record, value));
      }
      return values;
    }
    at = end;
  }
  return values;
}
