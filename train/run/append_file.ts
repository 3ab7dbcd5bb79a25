/**
 * Files that grow while a run goes on. What is added is there whole, or not at all.
 *
 * @module
 */
import { writeAllSync } from "../../model/files/durable.ts";
import { fileError } from "../../model/files/whole_file.ts";

/** A file that is open to get more, each piece written at once. */
export class AppendFile implements Disposable {
  readonly #file: Deno.FsFile;
  /** Bytes of whole pieces. */
  #size: number;

  /**
   * Opens a file.
   *
   * @param size Bytes that stay; what comes after them is cut off. Default: all.
   * @throws {Error} where it can't be opened or written.
   */
  constructor(readonly path: string, options: Deno.OpenOptions, size?: number) {
    this.#file = Deno.openSync(path, { ...options, write: true });
    this.#size = size ?? this.#file.seekSync(0, Deno.SeekMode.End);
    this.#cut();
  }

  /** Adds bytes; where that fails, the file has none of them. @throws {UserError} then. */
  append(bytes: Uint8Array): void {
    try {
      // What a write that failed has left.
      this.#cut();
      writeAllSync(this.#file, bytes);
      this.#size += bytes.length;
    } catch (error) {
      try {
        this.#cut();
      } catch {
        // It is cut off before the next piece, or by the run that goes on.
      }
      throw fileError(this.path, "write", error);
    }
  }

  /** Takes off what comes after the whole pieces. */
  #cut(): void {
    this.#file.truncateSync(this.#size);
    this.#file.seekSync(this.#size, Deno.SeekMode.Start);
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
