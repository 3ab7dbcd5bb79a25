/**
 * Files that are written piece by piece, and are there whole or not at all.
 *
 * @module
 */

import { dirname } from "node:path";
import { syncFolder } from "./durable.ts";
import { temporaryName } from "./temporary_name.ts";
import { fileError } from "./whole_file.ts";

/** Pieces of bytes, each valid until the next is asked for. */
export type Pieces = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}

/**
 * Writes a file under a temporary name that becomes `path` at the end; if anything fails nothing is left behind and a
 * file at `path` stays as it was.
 *
 * @throws UserError where the file can't be written, and what `pieces` throws.
 */
export async function writeFile(path: string, pieces: Pieces): Promise<void> {
  const temporary = temporaryName(path);
  let file: Deno.FsFile | undefined;
  try {
    file = await Deno.open(temporary, { write: true, createNew: true });
    for await (const piece of pieces) await writeAll(file, piece);
    await file.syncData();
    file.close();
    file = undefined;
    await Deno.rename(temporary, path);
    syncFolder(dirname(path));
  } catch (error) {
    file?.close();
    await Deno.remove(temporary).catch(() => {});
    throw fileError(path, "write", error);
  }
}

/** A tensor's data. @throws RangeError where it does not have so many bytes. */
export async function* exactly(
  bytes: number,
  { name, data }: { name: string; data: Pieces },
): AsyncGenerator<Uint8Array> {
  let written = 0;
  for await (const piece of data) {
    written += piece.length;
    if (written > bytes) break;
    yield piece;
  }
  if (written === bytes) return;
  const has = written > bytes ? "more than" : `only ${written} of`;
  throw new RangeError(`data of tensor "${name}" has ${has} its ${bytes} bytes`);
}
