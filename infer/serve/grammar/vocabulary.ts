/**
 * A tokenizer's vocabulary, as grammars need it: what each token adds to a text.
 *
 * @module
 */
import type { Tokenizer } from "../../../model/text/tokenizer/tokenizer.ts";
import type { Vocabulary } from "./masks.ts";

/** GPT-2's letters for bytes: printable ones stand for themselves, the others for those from U+0100 on. */
function byteLetters(): string[] {
  const isPrinted = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let others = 0x100;
  return Array.from(
    { length: 256 },
    (_, byte) => String.fromCharCode(isPrinted(byte) ? byte : others++),
  );
}

/** How a vocabulary of a kind writes a text. */
function writer(kind: Vocabulary["kind"]): (text: string) => string {
  if (kind === "byte_fallback") return (text) => text.replaceAll(" ", "\u2581");
  if (kind === "raw") return (text) => text;
  const letters = byteLetters(), encoder = new TextEncoder();
  return (text) => Array.from(encoder.encode(text), (byte) => letters[byte]).join("");
}

/** The bytes of a token that is no whole characters, as a vocabulary of a kind writes them. */
function bytesOf(token: string, kind: Vocabulary["kind"]): number[] {
  const [, hex] = /^<0x([0-9A-F]{2})>$/.exec(token) ?? [];
  if (kind === "byte_fallback" && hex !== undefined) return [parseInt(hex, 16)];
  const letters = byteLetters();
  return kind === "byte_level" ? Array.from(token, (letter) => letters.indexOf(letter)) : [];
}

/** Every token of a vocabulary. @param size Tokens that the model has. */
export function vocabularyOf(
  tokenizer: Tokenizer,
  { size, stop }: { size: number; stop: readonly number[] },
): Vocabulary {
  const control = new Set(tokenizer.special_tokens.values());
  const written = Array.from({ length: size }, (_, id) => tokenizer.token(id) ?? "");
  const kind = written.includes("<0x0A>")
    ? "byte_fallback"
    : written.some((token) => token.startsWith("\u0120"))
    ? "byte_level"
    : "raw";
  const write = writer(kind);
  // After a letter, the space that begins a word is kept.
  const before = tokenizer.encode("a"), { length } = tokenizer.decode(before);
  const texts = written.map((_, id) =>
    control.has(id) ? "" : tokenizer.decode([...before, id]).slice(length)
  );
  // Part of a character is no text: its bytes are as the vocabulary writes them.
  const tokens = texts.map((text, id) => text.includes("\ufffd") ? written[id] : write(text));
  const partial = texts.flatMap((text, id): [number, number[]][] => {
    const bytes = text.includes("\ufffd") ? bytesOf(written[id], kind) : [];
    return bytes.some((byte) => byte >= 0x80) ? [[id, bytes]] : [];
  });
  const closing = texts.flatMap((text, id) => /^["\]}]+$/.test(text) ? [id] : []);
  const whole = texts.map((text) => text.includes("\ufffd") ? "" : text);
  return { tokens, texts: whole, kind, stop, partial, closing };
}
