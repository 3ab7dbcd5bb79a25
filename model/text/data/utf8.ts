/**
 * Data files' text as UTF-8 without a byte order mark.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { startsWith } from "./file.ts";

/** Byte order marks; that of UTF-32 begins as UTF-16's does, so it comes first. */
const MARKS = [
  ["\xff\xfe\x00\x00", "UTF-32"],
  ["\x00\x00\xfe\xff", "UTF-32"],
  ["\xef\xbb\xbf", "UTF-8"],
  ["\xff\xfe", "UTF-16LE"],
  ["\xfe\xff", "UTF-16BE"],
] as const;

/** Bytes that are recoded at a time: a string holds some 500 MB. */
const PIECE_BYTES = 1 << 24;

/** Text in another encoding as UTF-8. @throws {TypeError} where it is damaged. */
function recoded(content: Uint8Array, encoding: string): Uint8Array<ArrayBuffer> {
  const decoder = new TextDecoder(encoding, { fatal: true, ignoreBOM: true });
  const encoder = new TextEncoder(), pieces: Uint8Array<ArrayBuffer>[] = [];
  for (let at = 0; at < content.length; at += PIECE_BYTES) {
    const piece = content.subarray(at, at + PIECE_BYTES);
    pieces.push(encoder.encode(decoder.decode(piece, { stream: true })));
  }
  pieces.push(encoder.encode(decoder.decode()));
  const whole = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let end = 0;
  for (const piece of pieces) {
    whole.set(piece, end);
    end += piece.length;
  }
  return whole;
}

/**
 * The same text in UTF-8. Whether bytes without a mark are UTF-8 is left to who decodes them.
 *
 * @param file What to call it in messages.
 * @throws {UserError} Where it is UTF-32, damaged UTF-16, or UTF-16 without its mark.
 */
export function toUtf8(bytes: Uint8Array<ArrayBuffer>, file: string): Uint8Array<ArrayBuffer> {
  const [mark, encoding] = MARKS.find(([mark]) => startsWith(bytes, mark)) ?? ["", undefined];
  const content = bytes.subarray(mark.length);
  const refuse = (is: string) =>
    new UserError(`data file "${file}" is ${is}; expected text in UTF-8`);
  if (encoding === "UTF-32") throw refuse("text in UTF-32");
  if (encoding === "UTF-8") return content;
  if (encoding === undefined) {
    // Half of what structures a table or JSON has a zero byte beside it in UTF-16.
    const zeros = [0, 1].filter((i) => content[i] === 0).length;
    if (zeros === 1) throw refuse("text in UTF-16 without a byte order mark");
    return content;
  }
  try {
    return recoded(content, encoding);
  } catch {
    throw refuse(`damaged as ${encoding}, whose byte order mark it has`);
  }
}
