/**
 * A temporary file that grows at its end and is read anywhere.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";

/** Bytes that are written at once. */
const BUFFER_BYTES = 1 << 20;

/** Bytes in a temporary file, which is gone when the program is, whatever ends it. */
export class Spool implements Disposable {
  readonly #file: Deno.FsFile;
  /** What is not written yet, and where it belongs. */
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #buffered = 0;
  #written = 0;

  /** @throws {UserError} where there can be no temporary file. */
  constructor() {
    try {
      const path = Deno.makeTempFileSync({ prefix: "lorikeet-" });
      this.#file = Deno.openSync(path, { read: true, write: true });
      // What is open stays until it is closed.
      Deno.removeSync(path);
    } catch (error) {
      throw spoolError(error);
    }
  }

  /** Bytes so far. */
  get size(): number {
    return this.#written + this.#buffered;
  }

  /** Adds bytes at the end. @throws {UserError} where the disk takes no more. */
  append(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) {
      const some = bytes.subarray(done, done + BUFFER_BYTES - this.#buffered);
      this.#buffer.set(some, this.#buffered);
      this.#buffered += some.length;
      done += some.length;
      if (this.#buffered === BUFFER_BYTES) this.#flush();
    }
  }

  /** Fills `target` from byte `position` on. */
  read(position: number, target: Uint8Array): void {
    this.#flush();
    try {
      this.#file.seekSync(position, Deno.SeekMode.Start);
      for (let done = 0; done < target.length;) {
        done += this.#file.readSync(target.subarray(done)) ?? target.length;
      }
    } catch (error) {
      throw spoolError(error);
    }
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }

  #flush(): void {
    if (this.#buffered === 0) return;
    try {
      this.#file.seekSync(this.#written, Deno.SeekMode.Start);
      for (let done = 0; done < this.#buffered;) {
        done += this.#file.writeSync(this.#buffer.subarray(done, this.#buffered));
      }
    } catch (error) {
      throw spoolError(error);
    }
    this.#written += this.#buffered;
    this.#buffered = 0;
  }
}

function spoolError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  return new UserError(
    `the temporary file for data can't be used (${error.message}); ` +
      "expected room for the rows unpacked in the folder that TMPDIR names",
  );
}
