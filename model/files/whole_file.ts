/**
 * Files that are read whole, what can stand in a file's place, and the wording of what is wrong with a file.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import { regularFileSize } from "../../kernels/regular_file.ts";

/** Why there is nothing to read: the hub's cache is of links, which can lead to nothing. */
function missingFile(path: string): string {
  try {
    return `it is a link to ${Deno.readLinkSync(path)}, which does not exist`;
  } catch {
    return "it does not exist";
  }
}

/** A failed file operation as one sentence; anything that is no file error passes through. */
export function fileError(path: string, doing: "read" | "write", error: unknown): unknown {
  if (error instanceof UserError || !(error instanceof Error)) return error;
  const { NotFound, PermissionDenied, NotCapable, IsADirectory } = Deno.errors;
  if (error instanceof NotFound) {
    const missing = doing === "read" ? missingFile(path) : "its folder does not exist";
    return new UserError(`cannot ${doing} ${path}: ${missing}`);
  }
  if (error instanceof PermissionDenied || error instanceof NotCapable) {
    return new UserError(`cannot ${doing} ${path}: permission denied`);
  }
  if (error instanceof IsADirectory) {
    return new UserError(`cannot ${doing} ${path}: it is a folder, expected a file`);
  }
  const system = "code" in error || /\(os error \d+\)/.test(error.message);
  return system ? new UserError(`cannot ${doing} ${path}: ${error.message}`) : error;
}

/** Whether anything has this name. */
export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return false;
    }
    throw fileError(path, "read", error);
  }
}

/** Whether two paths lead to one file or folder, which is there. */
export function isSame(a: string, b: string): boolean {
  try {
    return Deno.realPathSync(a) === Deno.realPathSync(b);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return false;
    }
    throw fileError(a, "read", error);
  }
}

/** The names in a folder, sorted. @throws UserError where it can't be read. */
export function namesIn(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  } catch (error) {
    throw fileError(folder, "read", error);
  }
}

/** Whether a path names a folder. @throws UserError where it names nothing, or can't be looked at. */
export function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch (error) {
    throw fileError(path, "read", error);
  }
}

/** Decodes UTF-8, and throws where bytes are none. Names and rows are many, and a decoder takes longer to make than to use. */
export const UTF8: TextDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** How many bytes of a file's beginning {@linkcode refuseStandIn} wants, where it has so many. */
export const HEAD_BYTES = 256;

/** The first line of a pointer of Git LFS, under its names so far. */
const LFS = /^version https:\/\/(?:git-lfs|hawser)\.github\.com\/spec\/v\d/;

/** Bytes as the characters of the same numbers, for patterns over a file's beginning. */
function characters(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes.subarray(0, HEAD_BYTES)) text += String.fromCharCode(byte);
  return text;
}

/**
 * Refuses what a download or a clone leaves in place of a file: the pointer that Git LFS has in the repository, the
 * HTML page about the file, or nothing.
 *
 * @param head The file's first bytes, {@linkcode HEAD_BYTES} of them where it has so many.
 * @param size Bytes of the whole file.
 * @throws UserError that names the file and what would bring it.
 */
export function refuseStandIn(path: string, head: Uint8Array, size: number): void {
  const text = characters(head).replace(/^\xef\xbb\xbf/, "");
  if (size === 0) {
    throw new UserError(`${path}: is empty, as a download that was interrupted leaves it`);
  }
  if (LFS.test(text)) {
    const [, bytes] = /^size (\d+)/m.exec(text) ?? [];
    const of = bytes === undefined ? "" : ` of ${bytes} bytes`;
    throw new UserError(
      `${path}: is a Git LFS pointer, not the file itself${of}; "git lfs pull" in its folder brings it`,
    );
  }
  if (/^\s*<(?:!doctype html|html[\s>])/i.test(text)) {
    throw new UserError(
      `${path}: is an HTML page, not the file itself; expected the raw file, as "hf download" brings it`,
    );
  }
}

/** What a file is by its first bytes, where they tell: another format, or the text of a server's answer. */
export function kindOf(head: Uint8Array): string | undefined {
  const text = characters(head);
  if (text.startsWith("PK\x03\x04")) return "a zip archive, as PyTorch writes .bin and .pth files";
  if (text.startsWith("GGUF")) return "a GGUF file";
  if (text.startsWith("\x89HDF")) return "an HDF5 file, as TensorFlow writes";
  if (text.startsWith("\x1f\x8b")) return "compressed by gzip";
  if (/^[^]{5}\0\0\0\{/.test(text)) return "a safetensors file";
  if (/^[\t\n\r\x20-\x7e]+$/.test(text)) return `the text ${JSON.stringify(text.slice(0, 60))}`;
}

/**
 * A file's bytes.
 *
 * @param what What it is, for the message where it is larger than `maxBytes`.
 * @throws UserError where it can't be read, is too large, or is a stand-in.
 */
export function readBytes(
  path: string,
  { what, maxBytes }: { what: string; maxBytes: number },
): Uint8Array<ArrayBuffer> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    const size = regularFileSize(path);
    if (size > maxBytes) {
      const most = `${what} of at most ${maxBytes / 1e6} MB`;
      throw new UserError(`${path}: is ${size} bytes, expected ${most}`);
    }
    // Files of /proc have no size, and some of them no end.
    bytes = size === 0 ? new Uint8Array() : Deno.readFileSync(path);
  } catch (error) {
    throw fileError(path, "read", error);
  }
  refuseStandIn(path, bytes, bytes.length);
  return bytes;
}

/**
 * The text of a file in UTF-8, a byte order mark taken off.
 *
 * @throws UserError as {@linkcode readBytes}, and where the text is in UTF-16 or no UTF-8.
 */
export function readText(path: string, limits: { what: string; maxBytes: number }): string {
  const bytes = readBytes(path, limits), [a, b] = bytes;
  // JSON and other text begin with a character of ASCII, which has a zero byte beside it in UTF-16.
  if ((a === 0xff && b === 0xfe) || (a === 0xfe && b === 0xff) || a === 0 || b === 0) {
    throw new UserError(`${path}: is in UTF-16, expected UTF-8: save it in that encoding`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new UserError(`${path}: is not valid UTF-8`);
  }
}
