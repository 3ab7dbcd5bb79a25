/**
 * Folders that are made whole or not at all.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import { exists, fileError } from "./whole_file.ts";

/** A name beside `path` that nothing has, so that a rename to `path` stays on one file system. */
export function temporaryName(path: string): string {
  return `${path.replace(/[/\\]+$/, "")}.partial-${crypto.randomUUID().slice(0, 8)}`;
}

/**
 * Makes a folder whole or not at all: `fill` writes into a temporary one beside it, which gets its
 * name at the end and is removed if anything fails. Missing parents are made.
 *
 * @throws UserError where `folder` exists already: nothing is overwritten.
 */
export async function writeFolder(
  folder: string,
  fill: (temporary: string) => Promise<void>,
): Promise<void> {
  const refuse = () => {
    if (exists(folder)) throw new UserError(`${folder} exists already and is not overwritten`);
  };
  refuse();
  const temporary = temporaryName(folder);
  try {
    await Deno.mkdir(temporary, { recursive: true });
    await fill(temporary);
    refuse(); // Saving can take minutes; rename would replace an empty folder made meanwhile.
    await Deno.rename(temporary, folder);
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    throw fileError(folder, "write", error);
  }
}
