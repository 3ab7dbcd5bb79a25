/**
 * Whether a file has room before it is written.
 *
 * @module
 */

import { statfsSync } from "node:fs";
import { dirname } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { exists, fileError } from "./whole_file.ts";

/** The nearest folder around a path that is there. */
function folderAround(path: string): string {
  const folder = dirname(path);
  return exists(folder) || folder === path ? folder : folderAround(folder);
}

/** @throws UserError where the file system of a file that is to be made has less than `bytes` free. */
export function refuseFullDisk(path: string, bytes: number): void {
  const folder = folderAround(path);
  let free: number;
  try {
    const { bavail, bsize } = statfsSync(folder);
    free = bavail * bsize;
  } catch (error) {
    throw fileError(folder, "read", error);
  }
  if (bytes <= free) return;
  throw new UserError(`cannot write ${path}: it needs ${bytes} bytes, but ${free} are free there`);
}
