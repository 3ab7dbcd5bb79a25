/**
 * API keys, as a file has them.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { readText } from "../../model/files/whole_file.ts";

const MAX_BYTES = 1_000_000;
/** Characters of a key at least: a shorter one could be guessed. */
const SHORTEST = 16;

/**
 * The keys in a file, a line each. Empty lines and those that begin with # are none.
 *
 * @throws {UserError} where it can't be read, has none, or has one that is no key; a key is not told.
 */
export function readKeys(file: string): string[] {
  const lines = readText(file, { what: "a file of API keys", maxBytes: MAX_BYTES }).split("\n");
  const keys: string[] = [];
  for (const [i, line] of lines.entries()) {
    const key = line.trim();
    if (key === "" || key.startsWith("#")) continue;
    if (key.length < SHORTEST || !/^[\x21-\x7e]+$/.test(key)) {
      throw new UserError(
        `${file}: line ${
          i + 1
        } is no API key; expected ${SHORTEST} characters or more, of ASCII and ` +
          "without spaces",
      );
    }
    keys.push(key);
  }
  if (keys.length === 0) {
    throw new UserError(`${file}: has no API key; expected one a line`);
  }
  return keys;
}
