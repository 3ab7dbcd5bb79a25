/**
 * Output that need not arrive: a pipe that is closed, a full disk under a log or a terminal that is gone end no run of
 * hours. `console.log` is silent about a closed pipe and throws where a disk is full; `Deno.stdout.writeSync` throws in
 * both cases (Deno 2.9.6).
 *
 * @module
 */
import { noteLine } from "../kernels/terminal.ts";

/** Calls `write`; what it throws is left aside. @returns the error. */
function attempt(write: () => void): unknown {
  try {
    write();
  } catch (error) {
    return error;
  }
}

/** Writes to standard error, where that can be done. */
export function writeToStderr(text: string): void {
  attempt(() => Deno.stderr.writeSync(new TextEncoder().encode(text)));
}

/** From now on `console.error` does what it can, and throws nothing. */
export function tolerateStderr(): void {
  const { error } = console;
  console.error = (...values) => void attempt(() => error(...values));
}

/**
 * From now on so does `console.log`, until what this returns is disposed. The first line that can't be written is said on
 * standard error.
 */
export function tolerateStdout(): Disposable {
  const { log } = console;
  let failed = false;
  console.log = (...values) => {
    const error = attempt(() => log(...values));
    if (error === undefined || failed) return;
    failed = true;
    const why = error instanceof Error ? error.message : String(error);
    noteLine(`Standard output can't be written (${why}): the work goes on without it.`);
  };
  return { [Symbol.dispose]: () => void (console.log = log) };
}
