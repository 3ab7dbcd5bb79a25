/**
 * API keys, as a file has them.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { readText } from "./whole_file.ts";

const MAX_BYTES = 1_000_000;

/**
 * The keys in a file, a line each. Empty lines and those that begin with # are none.
 *
 * @param shortest Characters of a key at least.
 * @throws {UserError} where it can't be read, has none, or has one that is no key; a key is not told.
 */
export function readApiKeys(file: string, shortest = 1): string[] {
  const lines = readText(file, { what: "a file of API keys", maxBytes: MAX_BYTES }).split("\n");
  const keys: string[] = [];
  for (const [i, line] of lines.entries()) {
    const key = line.trim();
    if (key === "" || key.startsWith("#")) continue;
    if (key.length < shortest || !/^[\x21-\x7e]+$/.test(key)) {
      const length = shortest > 1 ? `${shortest} characters or more, of` : "characters of";
      throw new UserError(
        `${file}: line ${i + 1} is no API key; expected ${length} ASCII and without spaces`,
      );
    }
    keys.push(key);
  }
  if (keys.length === 0) {
    throw new UserError(`${file}: has no API key; expected one a line`);
  }
  return keys;
}
