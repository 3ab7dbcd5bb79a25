/**
 * What every path is asked before it is opened to be read: opening a pipe waits for its writer, a socket can't be opened,
 * and a device may have no end.
 *
 * @module
 */
import { UserError } from "./errors.ts";

/** What is no file, in words. */
function kindOf(info: Deno.FileInfo): string {
  if (info.isDirectory) return "a folder";
  if (info.isFifo) return "a pipe";
  if (info.isSocket) return "a socket";
  if (info.isCharDevice || info.isBlockDevice) return "a device";
  return "something else";
}

/**
 * What a path leads to. Deno lets only programs that may do everything look at `/dev/stdin` and most else in `/dev` and
 * `/proc`.
 *
 * @throws {UserError} where it leads there.
 * @throws {Deno.errors.NotFound} and the other errors of files.
 */
export function infoOf(path: string): Deno.FileInfo {
  try {
    return Deno.statSync(path);
  } catch (error) {
    const isKept = error instanceof Deno.errors.NotCapable && /all access/.test(error.message);
    if (!isKept) throw error;
    throw new UserError(`cannot read ${path}: it is among the system's own, as devices are`);
  }
}

/**
 * Bytes of the file that a path leads to.
 *
 * @throws {UserError} where it leads to anything but a file.
 * @throws {Deno.errors.NotFound} and the other errors of files, where it can't be looked at.
 */
export function regularFileSize(path: string): number {
  const info = infoOf(path);
  if (info.isFile) return info.size;
  throw new UserError(`cannot read ${path}: it is no file, but ${kindOf(info)}`);
}
