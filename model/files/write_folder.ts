/**
 * Folders that are made whole or not at all.
 *
 * @module
 */

import { dirname } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { removeQuietly, syncFolder } from "./durable.ts";
import { temporaryName } from "./temporary_name.ts";
import { exists, fileError } from "./whole_file.ts";

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
    syncFolder(temporary);
    refuse(); // Saving can take minutes; rename would replace an empty folder made meanwhile.
    await Deno.rename(temporary, folder);
    syncFolder(dirname(folder));
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    throw fileError(folder, "write", error);
  }
}

/**
 * Has a folder written under a temporary name, and lets it take the place of the one that has its name.
 *
 * @param write Makes the folder that it is given, which is not there.
 * @throws UserError where that can't be done: the folder that was there stays.
 */
export async function replaceFolder(
  folder: string,
  write: (fresh: string) => Promise<void>,
): Promise<void> {
  if (!exists(folder)) return await write(folder);
  const [fresh, old] = [temporaryName(folder), temporaryName(folder)];
  await write(fresh);
  try {
    await Deno.rename(folder, old);
    await Deno.rename(fresh, folder);
  } catch (error) {
    throw fileError(folder, "write", error);
  }
  syncFolder(dirname(folder));
  removeQuietly(old);
}
