/**
 * The bytes of a data file in pieces: unpacked, and refused by name where they are no data at all.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { infoOf, regularFileSize } from "../../../kernels/regular_file.ts";
import { FileReader } from "../../files/file_reader.ts";
import { refuseStandIn } from "../../files/whole_file.ts";

/** What data files may be, for messages. */
export const FORMATS = "JSON, JSON Lines, CSV, TSV or Parquet";

/** Bytes at most of what has to be read whole: what one array holds everywhere. */
export const MOST_WHOLE_BYTES = 2 ** 31 - 1;

/** Bytes of a row at most: V8's strings hold some five times as much, and no model reads a hundredth of it. */
export const MOST_ROW_BYTES = 100_000_000;

/** Bytes that are read, or unpacked, at a time. */
const PIECE_BYTES = 1 << 20, PACKED_BYTES = 1 << 18, UNPACKED_BYTES = 1 << 18;

/** So many first bytes tell what a file is. */
export const HEAD_BYTES = 4096;

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

/** Joins pieces. */
export function joined(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let end = 0;
  for (const piece of pieces) {
    whole.set(piece, end);
    end += piece.length;
  }
  return whole;
}

/** Takes pieces until they have so many bytes, or there are no more, and joins them. */
export async function takeBytes(
  pieces: AsyncIterator<Uint8Array>,
  bytes: number,
): Promise<Uint8Array> {
  const first: Uint8Array[] = [];
  for (let have = 0; have < bytes;) {
    const { value, done } = await pieces.next();
    if (done) break;
    first.push(value.slice());
    have += value.length;
  }
  return joined(first);
}

/** Opens a file. @throws {UserError} where it is missing, a folder or a pipe. */
function openReader(path: string): FileReader | undefined {
  const file = `data file "${path}"`;
  try {
    if (infoOf(path).isDirectory) {
      throw new UserError(`data "${path}" is a folder; expected one file of ${FORMATS}`);
    }
    // Files of /proc have no size, and some of them no end.
    return regularFileSize(path) === 0 ? undefined : new FileReader(path);
  } catch (error) {
    if (error instanceof UserError) throw error;
    if (error instanceof Deno.errors.NotFound) {
      throw new UserError(`${file} does not exist; expected ${FORMATS}`);
    }
    throw new UserError(
      `${file} can't be read (${(error as Error).message}); expected ${FORMATS}`,
    );
  }
}

/** A data file that is open. Its content is unpacked where it is gzip's; which it is, its bytes tell. */
export class DataFile implements Disposable {
  /** The content's first bytes, {@linkcode HEAD_BYTES} at least where it has so many. */
  head: Uint8Array = new Uint8Array();
  readonly #reader: FileReader | undefined;

  private constructor(readonly path: string) {
    this.#reader = openReader(path);
  }

  /**
   * Opens a file.
   *
   * @throws {UserError} where it is missing, a folder, a Git LFS pointer, damaged, or of a kind that holds no rows.
   */
  static async open(path: string): Promise<DataFile> {
    const file = new DataFile(path);
    try {
      const pieces = file.pieces(HEAD_BYTES);
      file.head = await takeBytes(pieces, HEAD_BYTES);
      await pieces.return();
      if (file.isPacked && startsWith(file.head, "\x1f\x8b")) {
        throw new UserError(`data file "${path}" is packed twice by gzip; unpack it once`);
      }
      if (!file.isPacked && file.head.length > 0) {
        refuseStandIn(path, file.head, file.head.length);
      }
      const other = OTHERS.find(([magic]) => startsWith(file.head, magic));
      if (other) throw new UserError(`data file "${path}" is ${other[1]}; expected ${FORMATS}`);
      return file;
    } catch (error) {
      file[Symbol.dispose]();
      throw error;
    }
  }

  /** Whether gzip packed the content, so that it is only read from its beginning on. */
  get isPacked(): boolean {
    return this.#reader !== undefined && startsWith(this.#reader.head, "\x1f\x8b");
  }

  /** Whether the content is a Parquet file. */
  get isParquet(): boolean {
    return startsWith(this.head, "PAR1");
  }

  /** Bytes of the file as it lies there. */
  get size(): number {
    return this.#reader?.size ?? 0;
  }

  /** Fills `target` from byte `position` of the file on. @throws {UserError} where it can't be read. */
  read(position: number, target: Uint8Array): void {
    this.#reader?.readSync(position, target);
  }

  /**
   * The content in pieces, from its beginning on. A piece is good until the next one is asked for, which may take its place.
   *
   * @throws {UserError} where it can't be unpacked.
   */
  async *pieces(bytes: number = PIECE_BYTES): AsyncGenerator<Uint8Array, void> {
    if (this.isPacked) yield* this.#unpacked();
    else yield* this.#stored(bytes);
  }

  /** All of the content, unpacked. @throws {UserError} where it is too large for that. */
  async whole(): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let size = 0;
    for await (const piece of this.#unpacked()) {
      pieces.push(piece);
      size += piece.length;
      if (size > MOST_WHOLE_BYTES) throw this.#tooLarge();
    }
    return joined(pieces);
  }

  #tooLarge(): UserError {
    return new UserError(
      `data file "${this.path}" has more than 2 GiB unpacked; expected less (split or unpack it)`,
    );
  }

  [Symbol.dispose](): void {
    this.#reader?.close();
  }

  *#stored(bytes: number): Generator<Uint8Array, void> {
    const buffer = new Uint8Array(Math.min(bytes, this.size));
    for (let at = 0; at < this.size; at += bytes) {
      const piece = buffer.subarray(0, Math.min(bytes, this.size - at));
      this.read(at, piece);
      yield piece;
    }
  }

  /** Pieces that stay, as a stream holds several of them. */
  *#packed(): Generator<Uint8Array, void> {
    for (const piece of this.#stored(PACKED_BYTES)) yield piece.slice();
  }

  /** `DecompressionStream` would not take a file of several members, as joined files are. */
  async *#unpacked(): AsyncGenerator<Uint8Array, void> {
    const [{ createGunzip }, { Readable }] = await Promise.all([
      import("node:zlib"),
      import("node:stream"),
    ]);
    const packed = Readable.from(this.#packed());
    const gunzip = createGunzip({ chunkSize: UNPACKED_BYTES });
    let readFault: unknown;
    packed.on("error", (error) => {
      readFault = error;
      gunzip.destroy(error);
    });
    try {
      for await (const piece of packed.pipe(gunzip)) yield piece;
    } catch (error) {
      if (readFault !== undefined || !(error instanceof Error)) throw readFault ?? error;
      const fault = /end of file/.test(error.message) ? "is truncated" : "is damaged";
      throw new UserError(
        `data file "${this.path}" ${fault}: gzip can't unpack it (${error.message})`,
      );
    } finally {
      packed.destroy();
      gunzip.destroy();
    }
  }
}
