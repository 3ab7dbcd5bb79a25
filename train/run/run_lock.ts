/**
 * The lock of a run's folder: two runs that write into one would spoil both.
 *
 * @module
 */
import { hostname } from "node:os";
import { UserError } from "../../kernels/errors.ts";
import { noteLine } from "../../kernels/terminal.ts";
import { regularFileSize } from "../../kernels/regular_file.ts";
import { writeAllSync } from "../../model/files/durable.ts";
import { isObject } from "../../model/files/json_file.ts";
import { fileError } from "../../model/files/whole_file.ts";

/** Who holds a lock, as its file says; undefined where that can't be read. */
function holder(path: string): string | undefined {
  try {
    regularFileSize(path);
    const value: unknown = JSON.parse(Deno.readTextFileSync(path));
    if (!isObject(value)) return undefined;
    const { pid, host, started } = value;
    return `process ${pid} on ${host}, since ${started}`;
  } catch {
    return undefined;
  }
}

/**
 * A lock that the operating system keeps on a file as long as this process has it open. However a process ends, its lock
 * ends with it; the file stays, and says nothing then.
 */
export class RunLock implements Disposable {
  readonly #file: Deno.FsFile;

  /**
   * Takes the lock, or fails at once.
   *
   * @param path The file, which is made where there is none.
   * @param folder What is locked, for the message.
   * @throws {UserError} where another process has it: who, as far as the file says.
   */
  constructor(readonly path: string, folder: string) {
    try {
      this.#file = Deno.openSync(path, { read: true, write: true, create: true });
    } catch (error) {
      throw fileError(path, "write", error);
    }
    try {
      if (!this.#take()) {
        const who = holder(path);
        throw new UserError(
          `${folder}: another run works in this folder${who === undefined ? "" : ` (${who})`}; ` +
            "expected one run in a folder at a time",
        );
      }
      const self = { pid: Deno.pid, host: hostname(), started: new Date().toISOString() };
      this.#file.truncateSync(0);
      writeAllSync(this.#file, new TextEncoder().encode(JSON.stringify(self) + "\n"));
    } catch (error) {
      this.#file.close();
      throw fileError(path, "write", error);
    }
  }

  /**
   * Whether this process has the lock now. Where a file system knows no locks, there are none to keep. Who only asks whether
   * a run is under way (compare/run_record.ts) has the lock for a moment, so a lock that is taken is asked for again.
   */
  #take(): boolean {
    try {
      for (let tries = 0; tries < 3; tries++) {
        if (this.#file.tryLockSync(true)) return true;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
      }
      return false;
    } catch (error) {
      noteLine(
        `${this.path}: this file system has no locks (${(error as Error).message}); ` +
          "make sure that no other run works in the folder.",
      );
      return true;
    }
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
