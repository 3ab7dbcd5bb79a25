/**
 * The alphabet of byte-level tokenizers, GPT-2's: each byte is a printable character.
 *
 * @module
 */

/** Characters by byte. */
const CHARACTERS: readonly string[] = (() => {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let more = 0x100;
  return Array.from(
    { length: 256 },
    (_, byte) => String.fromCharCode(printable(byte) ? byte : more++),
  );
})();

const BYTES: ReadonlyMap<string, number> = new Map(
  CHARACTERS.map((character, i) => [character, i]),
);

const ENCODER = new TextEncoder();

/** The text's UTF-8 bytes as characters. */
export function bytesToCharacters(text: string): string {
  let characters = "";
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) {
      return Array.from(ENCODER.encode(text), (byte) => CHARACTERS[byte]).join("");
    }
    characters += CHARACTERS[code];
  }
  return characters;
}

/** The bytes that a token stands for: its own where not all of its characters stand for one. */
export function tokenBytes(token: string): number[] {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = BYTES.get(character);
    if (byte === undefined) return Array.from(ENCODER.encode(token));
    bytes.push(byte);
  }
  return bytes;
}
