/**
 * A file of lines that a program is still adding to, read on from where it was left.
 *
 * @module
 */

/** Bytes of the longest line, its newline included, that is read; a longer one is left out. */
export const LONGEST_LINE: number = 2 ** 20;
/** Bytes before the place read up to, by which it is known again. */
const REMEMBERED = 256;
const NEWLINE = 10;
/** What is no UTF-8 becomes a replacement character: the run's data may be anything. */
const DECODER = new TextDecoder();

/** Who takes what is read. */
export interface LineReader {
  /** Forgets all lines: the file is another one, or was cut back. */
  restart(): void;
  /** Takes the text of one or more whole lines, without the last newline. */
  lines(text: string): void;
}

/** What is at a path, no link followed; undefined where there is nothing that can be looked at. */
export async function look(path: string): Promise<Deno.FileInfo | undefined> {
  return await Deno.lstat(path).catch(() => undefined);
}

/** A file's bytes from `offset` on, as many as `buffer` holds. @returns Those read. */
async function readAt(file: Deno.FsFile, offset: number, buffer: Uint8Array): Promise<Uint8Array> {
  await file.seek(offset, Deno.SeekMode.Start);
  let length = 0;
  while (length < buffer.length) {
    const count = await file.read(buffer.subarray(length));
    if (count === null) break;
    length += count;
  }
  return buffer.subarray(0, length);
}

/**
 * Reads the whole lines that were added to a file since the last look. A last line without its newline waits for it.
 * A file that was replaced, or cut back and written on, is noticed and read from its start.
 */
export class Tail {
  #seen: Deno.FileInfo | undefined;
  /** Where the next line begins. */
  #offset = 0;
  /** The last bytes before it. */
  #last = new Uint8Array(0);
  /** Whether the bytes at the offset belong to a line that was too long. */
  #skipping = false;

  constructor(readonly path: string) {}

  /**
   * Hands on what is new. A file that is not there, or is no file, has no lines.
   *
   * @param buffer Working space of {@linkcode LONGEST_LINE} bytes, which calls at the same time may not share.
   * @returns Whether anything changed.
   */
  async poll(reader: LineReader, buffer: Uint8Array): Promise<boolean> {
    const info = await look(this.path), seen = this.#seen;
    if (!info?.isFile) {
      if (seen !== undefined) this.#restart(reader);
      this.#seen = undefined;
      return seen !== undefined;
    }
    const same = info.size === seen?.size && info.ino === seen.ino &&
      info.mtime?.getTime() === seen.mtime?.getTime();
    if (same) return false;
    using file = await Deno.open(this.path);
    const replaced = seen !== undefined && info.ino !== seen.ino;
    if (replaced || info.size < this.#offset || !await this.#isKnown(file, buffer)) {
      this.#restart(reader);
    }
    await this.#readOn(file, reader, buffer);
    this.#seen = info;
    return true;
  }

  #restart(reader: LineReader): void {
    this.#offset = 0;
    this.#last = new Uint8Array(0);
    this.#skipping = false;
    reader.restart();
  }

  /** Whether the bytes before the offset are those that were there. */
  async #isKnown(file: Deno.FsFile, buffer: Uint8Array): Promise<boolean> {
    const last = this.#last, { length } = last;
    const now = await readAt(file, this.#offset - length, buffer.subarray(0, length));
    return now.length === length && now.every((byte, i) => byte === last[i]);
  }

  async #readOn(file: Deno.FsFile, reader: LineReader, buffer: Uint8Array): Promise<void> {
    while (true) {
      const bytes = await readAt(file, this.#offset, buffer);
      const end = bytes.lastIndexOf(NEWLINE) + 1;
      if (end > 0) this.#handOn(bytes.subarray(0, end), reader);
      else if (bytes.length < buffer.length) return;
      else this.#skipping = true;
      this.#advance(bytes.subarray(0, end > 0 ? end : bytes.length));
      if (bytes.length < buffer.length) return;
    }
  }

  /** Hands on whole lines. */
  #handOn(bytes: Uint8Array, reader: LineReader): void {
    let start = 0;
    if (this.#skipping) {
      start = bytes.indexOf(NEWLINE) + 1;
      this.#skipping = false;
    }
    if (start < bytes.length) reader.lines(DECODER.decode(bytes.subarray(start, -1)));
  }

  #advance(bytes: Uint8Array): void {
    this.#offset += bytes.length;
    this.#last = bytes.slice(-REMEMBERED);
  }
}
