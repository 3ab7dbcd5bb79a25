/**
 * Random access to a file of weights, several reads at a time.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import { regularFileSize } from "../../kernels/regular_file.ts";
import { fileError, HEAD_BYTES, refuseStandIn } from "./whole_file.ts";

/** Random access to one file; several reads may be under way at once (each on a handle of its own). */
export class FileReader {
  readonly path: string;
  /** Bytes of the file when it was opened. */
  readonly size: number;
  /** Its first bytes. */
  readonly head: Uint8Array;
  readonly #identity: string;
  /** Handles that no read uses now, and all of them. */
  readonly #idle: Deno.FsFile[] = [];
  readonly #open = new Set<Deno.FsFile>();

  /** @throws UserError where the file can't be read, is a folder, a pipe, a pointer of Git LFS, empty ... */
  constructor(path: string) {
    this.path = path;
    let file: Deno.FsFile | undefined;
    try {
      regularFileSize(path);
      file = Deno.openSync(path);
      const info = file.statSync();
      this.size = info.size;
      this.#identity = identity(info);
      this.#open.add(file);
      this.#idle.push(file);
      this.head = new Uint8Array(Math.min(HEAD_BYTES, this.size));
      this.readSync(0, this.head);
      refuseStandIn(path, this.head, this.size);
    } catch (error) {
      file?.close();
      throw fileError(path, "read", error);
    }
  }

  /**
   * Fills `target` from byte `position` on.
   *
   * @throws UserError where the file became shorter, was replaced by another or can't be read.
   */
  async read(position: number, target: Uint8Array): Promise<void> {
    try {
      const file = this.#take();
      file.seekSync(position, Deno.SeekMode.Start);
      for (let done = 0; done < target.length;) {
        done += this.#some(await file.read(target.subarray(done)));
      }
      this.#idle.push(file);
    } catch (error) {
      throw fileError(this.path, "read", error);
    }
  }

  /** The same without a promise, for headers. */
  readSync(position: number, target: Uint8Array): void {
    try {
      const file = this.#take();
      file.seekSync(position, Deno.SeekMode.Start);
      for (let done = 0; done < target.length;) {
        done += this.#some(file.readSync(target.subarray(done)));
      }
      this.#idle.push(file);
    } catch (error) {
      throw fileError(this.path, "read", error);
    }
  }

  /** Closes every handle. */
  close(): void {
    for (const file of this.#open) file.close();
    this.#open.clear();
    this.#idle.length = 0;
  }

  /** A handle that nobody uses. A path can name another file by now, which must not be mixed in. */
  #take(): Deno.FsFile {
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    if (this.#open.size === 0) throw new Error(`${this.path} is closed`);
    const file = Deno.openSync(this.path);
    this.#open.add(file);
    if (identity(file.statSync()) !== this.#identity) {
      throw new UserError(`${this.path}: was replaced by another file while it was read`);
    }
    return file;
  }

  /** The count of bytes that a read brought, which may be fewer than asked for, never none. */
  #some(count: number | null): number {
    if (count) return count;
    throw new UserError(`${this.path}: became shorter while it was read`);
  }
}

/** What tells two files apart where the system says it. */
function identity({ dev, ino }: Deno.FileInfo): string {
  return `${dev} ${ino}`;
}
