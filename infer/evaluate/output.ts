/**
 * Files that results are written to. Nothing else may be written, so there is no temporary one beside them.
 *
 * @module
 */
import { UsageError } from "../../kernels/errors.ts";
import { fileError, isSame } from "../../model/files/whole_file.ts";

/** A file that can be written. One that was not there and is never written is gone at its end. */
export interface Output extends Disposable {
  /** Writes texts, in place of what the file holds. */
  write(texts: Iterable<string>): void;
}

/** Writes all of the bytes. */
function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}

/** Makes an empty file where none is. @returns Whether it did. */
function makeEmpty(path: string): boolean {
  try {
    Deno.openSync(path, { write: true, createNew: true }).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return false;
    throw fileError(path, "write", error);
  }
}

/**
 * Looks whether a file can be written, before anything is computed for it.
 *
 * @throws {UserError} where it can't.
 */
function openOutput(path: string | undefined): Output | undefined {
  if (path === undefined) return undefined;
  const guarded = (use: (file: Deno.FsFile) => void) => {
    try {
      using file = Deno.openSync(path, { write: true, create: true });
      use(file);
    } catch (error) {
      throw fileError(path, "write", error);
    }
  };
  let isEmpty = makeEmpty(path);
  if (!isEmpty) guarded(() => {});
  return {
    write(texts) {
      isEmpty = false;
      guarded((file) => {
        file.truncateSync();
        const encoder = new TextEncoder();
        for (const text of texts) writeAll(file, encoder.encode(text));
      });
    },
    [Symbol.dispose]() {
      if (isEmpty) Deno.removeSync(path);
    },
  };
}

/** Files of results, each where one was asked for. */
export interface Outputs extends Disposable {
  /** All results together. */
  results?: Output;
  /** Those of each row. */
  samples?: Output;
}

/**
 * Looks whether both files can be written.
 *
 * @throws {UsageError} where they are one. @throws {UserError} where one can't be written.
 */
export function openOutputs(
  { output, log_samples }: { output?: string; log_samples?: string },
): Outputs {
  using stack = new DisposableStack();
  const results = stack.use(openOutput(output));
  if (output !== undefined && log_samples !== undefined && isSame(output, log_samples)) {
    throw new UsageError(`--log-samples names the file of --output, ${output}; expected another`);
  }
  const samples = stack.use(openOutput(log_samples)), opened = stack.move();
  return { results, samples, [Symbol.dispose]: () => opened.dispose() };
}
