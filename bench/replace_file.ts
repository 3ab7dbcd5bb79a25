/**
 * Files that a long series of measurements replaces while it goes on.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { dirname } from "node:path";
import writeFileAtomic from "write-file-atomic";
import { fileError } from "../model/files/whole_file.ts";

/**
 * Writes a file, in a folder that is made where there is none: under its own name it is whole, whenever the program is
 * killed. @throws {UserError} where it can't.
 */
export function replaceFile(path: string, content: string | Uint8Array): void {
  try {
    Deno.mkdirSync(dirname(path), { recursive: true });
    writeFileAtomic.sync(path, typeof content === "string" ? content : Buffer.from(content));
  } catch (error) {
    throw fileError(path, "write", error);
  }
}
