/**
 * Files and folders that survive a machine that loses its power: what was written lies on the disk before its name does.
 *
 * @module
 */
import { dirname } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { fileError } from "./whole_file.ts";
import { temporaryName } from "./temporary_name.ts";

/** Waits until the disk has the names in a folder. Systems that open no folders (Windows) keep names in order themselves. */
export function syncFolder(folder: string): void {
  let opened: Deno.FsFile;
  try {
    opened = Deno.openSync(folder);
  } catch {
    return;
  }
  try {
    opened.syncSync();
  } catch {
    // Some file systems of networks refuse to sync a folder.
  } finally {
    opened.close();
  }
}

/** Writes all of some bytes: one call may write fewer, and say so, when a disk gets full. */
export function writeAllSync(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}

/**
 * Writes a small text under a temporary name beside `path`, syncs it, and gives it its name: what was at `path` before is
 * there until then, and stays where this fails.
 *
 * @throws UserError where it can't be written.
 */
export function replaceText(path: string, text: string): void {
  const temporary = temporaryName(path);
  try {
    const file = Deno.openSync(temporary, { write: true, createNew: true });
    try {
      writeAllSync(file, new TextEncoder().encode(text));
      file.syncSync();
    } finally {
      file.close();
    }
    Deno.renameSync(temporary, path);
  } catch (error) {
    removeQuietly(temporary);
    throw fileError(path, "write", error);
  }
  syncFolder(dirname(path));
}

/**
 * Writes a small text to a file that is not there yet, and syncs it.
 *
 * @throws UserError where something has its name, or it can't be written; nothing is left of it then.
 */
export function writeNewText(path: string, text: string): void {
  let file: Deno.FsFile;
  try {
    file = Deno.openSync(path, { write: true, createNew: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw fileError(path, "write", error);
    throw new UserError(`${path} exists already and is not overwritten`);
  }
  try {
    using _ = file;
    writeAllSync(file, new TextEncoder().encode(text));
    file.syncSync();
  } catch (error) {
    removeQuietly(path);
    throw fileError(path, "write", error);
  }
  syncFolder(dirname(path));
}

/** Removes a file or folder where there is one; what can't be removed stays. */
export function removeQuietly(path: string): void {
  try {
    Deno.removeSync(path, { recursive: true });
  } catch {
    // The error that led here says more.
  }
}
