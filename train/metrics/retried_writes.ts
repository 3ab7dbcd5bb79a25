/**
 * Writes that may fail for a while: a full disk, or a folder that lost its permissions, ends no run of hours.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { noteLine } from "../../kernels/terminal.ts";

/** Writes values in order; those that can't be written are kept, and tried again with the next. */
export class RetriedWrites<T> {
  #waiting: T[] = [];

  /** @param path What is written, for messages. @param write Writes one value, or nothing of it where it throws. */
  constructor(readonly path: string, readonly write: (value: T) => void) {}

  /** Writes a value, and those that wait. What can't be written is said once until it can. */
  add(value: T): void {
    const waited = this.#waiting.length > 0;
    this.#waiting.push(value);
    const problem = this.#flush();
    if (problem !== undefined && !waited) {
      noteLine(`${problem}; the run goes on, and tries again at every step`);
    }
    if (problem === undefined && waited) {
      noteLine(`${this.path} is written again, nothing is missing.`);
    }
  }

  /**
   * Tries once more to write what waits.
   *
   * @throws {UserError} where that can't be done: what is missing then.
   */
  end(): void {
    const problem = this.#flush(), missing = this.#waiting.length;
    if (problem !== undefined) {
      throw new UserError(`${problem}; its last ${missing} entries are missing`);
    }
  }

  /** Writes what waits. @returns Why some of it still does. */
  #flush(): string | undefined {
    let written = 0;
    try {
      for (const value of this.#waiting) {
        this.write(value);
        written++;
      }
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    } finally {
      this.#waiting = this.#waiting.slice(written);
    }
  }
}
