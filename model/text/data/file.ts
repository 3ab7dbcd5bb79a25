/**
 * The bytes of a data file: unpacked, and refused by name where they are no data at all.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { infoOf, regularFileSize } from "../../../kernels/regular_file.ts";
import { refuseStandIn } from "../../files/whole_file.ts";

/** What data files may be, for messages. */
export const FORMATS = "JSON, JSON Lines, CSV, TSV or Parquet";

/** Bytes of a data file at most, unpacked: what one array holds everywhere. */
const MOST_BYTES = 2 ** 31 - 1;

/** Bytes of a row at most: V8's strings hold some five times as much, and no model reads a hundredth of it. */
export const MOST_ROW_BYTES = 100_000_000;

/** Kinds of files by their first bytes, which can't be read, and what to do about it. */
const OTHERS: [magic: string, kind: string][] = [
  ["PK\x03\x04", "a ZIP archive (as .xlsx files are, too); unpack it, or save the table as CSV"],
  ["(\xb5/\xfd", "compressed by zstd; unpack it first"],
  ["BZh", "compressed by bzip2; unpack it first"],
  ["\xfd7zXZ", "compressed by xz; unpack it first"],
  ["7z\xbc\xaf", "a 7z archive; unpack it first"],
  ["ARROW1", "an Arrow file; write its rows with to_json or to_parquet of Python's datasets"],
  ["\xff\xff\xff\xff", "an Arrow stream; write its rows with to_json or to_parquet of datasets"],
  ["PARE", "encrypted Parquet; decrypt it first"],
  ["SQLite format 3", "an SQLite data base; write its rows as JSON Lines"],
  ["<", "HTML or XML"],
];

/** Whether bytes begin with these characters, a byte each. */
export function startsWith(bytes: Uint8Array, magic: string): boolean {
  return bytes.length >= magic.length &&
    [...magic].every((character, i) => bytes[i] === character.charCodeAt(0));
}

/**
 * Reads a whole file, unpacked where it is gzip's; which it is, its bytes tell.
 *
 * @throws {UserError} Where it is missing, a folder, a Git LFS pointer, damaged, too large, or of a kind
 * that holds no rows.
 */
export async function readDataFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const file = `data file "${path}"`;
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    if (infoOf(path).isDirectory) {
      throw new UserError(`data "${path}" is a folder; expected one file of ${FORMATS}`);
    }
    const size = regularFileSize(path);
    if (size > MOST_BYTES) throw tooLarge(file);
    // Files of /proc have no size, and some of them no end.
    bytes = size === 0 ? new Uint8Array() : Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof UserError) throw error;
    if (error instanceof Deno.errors.NotFound) {
      throw new UserError(`${file} does not exist; expected ${FORMATS}`);
    }
    throw new UserError(
      `${file} can't be read (${(error as Error).message}); expected ${FORMATS}`,
    );
  }
  if (bytes.length > 0) refuseStandIn(path, bytes, bytes.length);
  if (startsWith(bytes, "\x1f\x8b")) bytes = await unpack(bytes, file);
  const other = OTHERS.find(([magic]) => startsWith(bytes, magic));
  if (other) throw new UserError(`${file} is ${other[1]}; expected ${FORMATS}`);
  return bytes;
}

function tooLarge(file: string): UserError {
  return new UserError(`${file} has more than 2 GiB; expected less (split it)`);
}

/** `DecompressionStream` would not take a file of several members, as joined files are. */
async function unpack(bytes: Uint8Array, file: string): Promise<Uint8Array<ArrayBuffer>> {
  const { gunzipSync } = await import("node:zlib");
  let unpacked: Uint8Array<ArrayBuffer>;
  try {
    const { buffer, byteOffset, length } = gunzipSync(bytes, { maxOutputLength: MOST_BYTES });
    unpacked = new Uint8Array(buffer as ArrayBuffer, byteOffset, length);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if ("code" in error && error.code === "ERR_BUFFER_TOO_LARGE") throw tooLarge(file);
    const fault = /end of file/.test(error.message) ? "is truncated" : "is damaged";
    throw new UserError(`${file} ${fault}: gzip can't unpack it (${error.message})`);
  }
  if (startsWith(unpacked, "\x1f\x8b")) {
    throw new UserError(`${file} is packed twice by gzip; unpack it once`);
  }
  return unpacked;
}
