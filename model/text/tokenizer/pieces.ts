/**
 * Tokens to text as SentencePiece's decoder does it, for tokenizers whose tokens are pieces of text and
 * single bytes.
 *
 * @module
 */

/** What a token is: a piece of text, one byte's value, or neither (control tokens). */
export type Piece = string | number | null;

/** U+2581, which stands for a space inside pieces. */
export const SPACE_SYMBOL = "\u2581";

const ENCODER = new TextEncoder();

/** The byte that a piece such as `<0x0A>` stands for. */
export function pieceByte(piece: string): number | undefined {
  const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece);
  return match === null ? undefined : parseInt(match[1], 16);
}

/** How many bytes of a text a piece stands for that is no byte itself. */
export function pieceBytes(piece: string): number {
  return ENCODER.encode(piece.replaceAll(SPACE_SYMBOL, " ")).length;
}

/** The piece that stands for a byte: `<0x0A>`. */
export function bytePiece(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

const STRICT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes of the character that a byte begins; 0 where it begins none. */
function characterBytes(lead: number): number {
  if (lead < 0x80) return 1;
  return lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/** Characters of a run of byte tokens; a byte that is part of none is U+FFFD on its own. */
export function bytesText(bytes: readonly number[]): string {
  let text = "";
  for (let at = 0; at < bytes.length;) {
    const length = characterBytes(bytes[at]);
    let character: string | undefined;
    if (length > 0 && at + length <= bytes.length) {
      try {
        character = STRICT.decode(Uint8Array.from(bytes.slice(at, at + length)));
      } catch {
        // No character; an exception is slow, so the common cases are found before.
      }
    }
    text += character ?? "\ufffd";
    at += character === undefined ? 1 : length;
  }
  return text;
}

/**
 * Text of `ids`; ids that `pieces` does not list add nothing.
 *
 * @param firstSpace What becomes of the U+2581 that pieces begin with at the start of the text, where
 *   encoding put one: all are kept, one is dropped, or one of each piece until the text begins.
 */
export function decodePieces(
  ids: readonly number[],
  pieces: readonly Piece[],
  firstSpace: "kept" | "dropped" | "all dropped",
): string {
  let text = "";
  let bytes: number[] = [];
  let drop = firstSpace !== "kept";
  for (const id of ids) {
    const piece = pieces[id] ?? null;
    if (typeof piece === "number") {
      bytes.push(piece);
      continue;
    }
    text += bytesText(bytes);
    bytes = [];
    if (piece === null) continue;
    drop &&= text === "";
    const dropped = drop && piece.startsWith(SPACE_SYMBOL);
    text += piece.slice(dropped ? 1 : 0).replaceAll(SPACE_SYMBOL, " ");
    if (dropped && firstSpace === "dropped") drop = false;
  }
  return text + bytesText(bytes);
}
