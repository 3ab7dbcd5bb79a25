/**
 * The decoders of a tokenizer.json, which make text of tokens, as the Rust library `tokenizers` computes
 * them; but a byte that is part of no character costs only itself, not the run of bytes around it.
 *
 * @module
 */
import { bytesText, pieceByte } from "../pieces.ts";
import { tokenBytes } from "./byte_level.ts";
import { prependScheme } from "./pre_tokenizers.ts";
import { replaceMatches, stretches } from "./split.ts";
import { flagOf, patternOf, type Patterns, refuse, type Step, steps, textOf } from "./steps.ts";

/** Changes a list of tokens; their texts, one after the other, are the decoded text. */
export type Decoder = (tokens: readonly string[]) => string[];

/** A text of which not every byte is part of a character. */
const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** Tokens such as `<0x0A>` become the characters that their bytes are. */
function byteFallback(tokens: readonly string[]): string[] {
  const texts: string[] = [];
  let bytes: number[] = [];
  const flush = () => {
    if (bytes.length > 0) texts.push(bytesText(bytes));
    bytes = [];
  };
  for (const token of tokens) {
    const byte = pieceByte(token);
    if (byte !== undefined) bytes.push(byte);
    else {
      flush();
      texts.push(token);
    }
  }
  flush();
  return texts;
}

function strip(step: Step): Decoder {
  const content = textOf(step, "content", "decoder");
  const start = Number(step.start), stop = Number(step.stop);
  return (tokens) =>
    tokens.map((token) => {
      let from = 0, to = token.length;
      for (let i = 0; i < start && token.startsWith(content, from); i++) from += content.length;
      for (let i = 0; i < stop && to > from && token.slice(from, to).endsWith(content); i++) {
        to -= content.length;
      }
      return token.slice(from, to);
    });
}

function replace(step: Step, patterns: Patterns): Decoder {
  const pattern = patternOf(step, "decoder", patterns);
  const content = textOf(step, "content", "decoder");
  return (tokens) =>
    tokens.map((token) =>
      // Most tokens have none, which is found out sooner than what their stretches are.
      token.search(pattern) < 0 ? token : replaceMatches(token, stretches(token, pattern), content)
    );
}

function metaspace(step: Step): Decoder {
  const symbol = textOf(step, "replacement", "decoder");
  const drops = prependScheme(step, "decoder") !== "never";
  return (tokens) =>
    tokens.map((token, i) => token.replaceAll(symbol, drops && i === 0 ? "" : " "));
}

function wordPiece(step: Step): Decoder {
  const prefix = textOf(step, "prefix", "decoder");
  const cleanup = flagOf(step, "cleanup", true, "decoder");
  const clean = (text: string) =>
    [" .", " ?", " !", " ,"].reduce((now, mark) => now.replaceAll(mark, mark.slice(1)), text)
      .replaceAll(" ' ", "'").replaceAll(" n't", "n't").replaceAll(" 'm", "'m")
      .replaceAll(" do not", " don't").replaceAll(" 's", "'s").replaceAll(" 've", "'ve")
      .replaceAll(" 're", "'re");
  return (tokens) =>
    tokens.map((token, i) => {
      const spaced = i === 0
        ? token
        : token.startsWith(prefix)
        ? token.replace(prefix, "")
        : ` ${token}`;
      return cleanup ? clean(spaced) : spaced;
    });
}

function suffix(step: Step): Decoder {
  const end = textOf(step, "suffix", "decoder");
  return (tokens) =>
    tokens.map((token, i) => token.replaceAll(end, i === tokens.length - 1 ? "" : " "));
}

function decoderStep(step: Step, patterns: Patterns): Decoder {
  switch (step.type) {
    case "ByteLevel":
      return (tokens) => [UTF8.decode(Uint8Array.from(tokens.flatMap(tokenBytes)))];
    case "Metaspace":
      return metaspace(step);
    case "ByteFallback":
      return byteFallback;
    case "Fuse":
      return (tokens) => [tokens.join("")];
    case "Strip":
      return strip(step);
    case "Replace":
      return replace(step, patterns);
    case "WordPiece":
      return wordPiece(step);
    case "BPEDecoder":
      return suffix(step);
    default:
      refuse("decoder", step);
  }
}

/**
 * What makes one text of tokens; without a decoder there is a space between them.
 *
 * @throws {RangeError} naming the step that can't be used.
 */
export function decoder(
  value: unknown,
  patterns: Patterns,
): (tokens: readonly string[]) => string {
  const list = steps(value, "decoder", "decoders").map((step) => decoderStep(step, patterns));
  if (list.length === 0) return (tokens) => tokens.join(" ");
  return (tokens) => list.reduce<string[]>((now, step) => step(now), [...tokens]).join("");
}
