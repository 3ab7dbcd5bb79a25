/**
 * Data files' text as UTF-8 without a byte order mark.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { type DataFile, startsWith } from "./file.ts";

/** Byte order marks; that of UTF-32 begins as UTF-16's does, so it comes first. */
const MARKS = [
  ["\xff\xfe\x00\x00", "UTF-32"],
  ["\x00\x00\xfe\xff", "UTF-32"],
  ["\xef\xbb\xbf", "UTF-8"],
  ["\xff\xfe", "UTF-16LE"],
  ["\xfe\xff", "UTF-16BE"],
] as const;

/** Text in UTF-8. */
export interface Utf8Text {
  pieces: AsyncIterator<Uint8Array>;
  /** Where it begins in the file, in which it lies just so; undefined where it was unpacked or recoded. */
  begin: number | undefined;
}

/** Without so many first bytes. */
async function* after(
  pieces: AsyncIterable<Uint8Array>,
  skip: number,
): AsyncGenerator<Uint8Array, void> {
  for await (const piece of pieces) {
    const rest = piece.subarray(Math.min(skip, piece.length));
    skip -= piece.length - rest.length;
    if (rest.length > 0) yield rest;
  }
}

/** Text in another encoding as UTF-8. @throws {TypeError} where it is damaged. */
async function* recoded(
  pieces: AsyncIterable<Uint8Array>,
  encoding: string,
): AsyncGenerator<Uint8Array, void> {
  const decoder = new TextDecoder(encoding, { fatal: true, ignoreBOM: true });
  const encoder = new TextEncoder();
  for await (const piece of pieces) yield encoder.encode(decoder.decode(piece, { stream: true }));
  yield encoder.encode(decoder.decode());
}

/**
 * The text of a file in UTF-8. Whether bytes without a mark are UTF-8 is left to who decodes them.
 *
 * @throws {UserError} Where it is UTF-32, or UTF-16 without its mark; its pieces throw it where UTF-16 is damaged.
 */
export function utf8Text(file: DataFile): Utf8Text {
  const { head } = file;
  const [mark, encoding] = MARKS.find(([mark]) => startsWith(head, mark)) ?? ["", undefined];
  const refuse = (is: string) =>
    new UserError(`data file "${file.path}" is ${is}; expected text in UTF-8`);
  if (encoding === "UTF-32") throw refuse("text in UTF-32");
  const content = after(file.pieces(), mark.length);
  if (encoding === "UTF-16LE" || encoding === "UTF-16BE") {
    const damaged = () => refuse(`damaged as ${encoding}, whose byte order mark it has`);
    return { pieces: guarded(recoded(content, encoding), damaged), begin: undefined };
  }
  if (encoding === undefined) {
    // Half of what structures a table or JSON has a zero byte beside it in UTF-16.
    const zeros = [0, 1].filter((i) => head[i] === 0).length;
    if (zeros === 1) throw refuse("text in UTF-16 without a byte order mark");
  }
  return { pieces: content, begin: file.isPacked ? undefined : mark.length };
}

/** Pieces whose decoder's faults are refusals. */
async function* guarded(
  pieces: AsyncIterable<Uint8Array>,
  damaged: () => UserError,
): AsyncGenerator<Uint8Array, void> {
  try {
    yield* pieces;
  } catch (error) {
    throw error instanceof TypeError ? damaged() : error;
  }
}
