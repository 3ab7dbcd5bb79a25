/**
 * Control (special) tokens inside a text.
 *
 * @module
 */
import { literal } from "./pipeline/steps.ts";

/** A pattern that matches any of the tokens, of several that begin alike the longest. */
function anyOf(tokens: Iterable<string>): string {
  return [...tokens]
    .sort((a, b) => b.length - a.length)
    .map(literal)
    .join("|");
}

/**
 * Cuts a text at its control tokens, which become their ids.
 *
 * @param isPlain Whether what stands between two UTF-16 offsets is plain text, though it reads as a token.
 */
export function splitSpecial(
  text: string,
  special: ReadonlyMap<string, number>,
  isPlain: (start: number, end: number) => boolean = () => false,
): (string | number)[] {
  if (special.size === 0) return [text];
  const tokens = new RegExp(anyOf(special.keys()), "gu"), parts: (string | number)[] = [];
  let position = 0;
  for (let match = tokens.exec(text); match; match = tokens.exec(text)) {
    const [token] = match, end = match.index + token.length, id = special.get(token);
    if (id === undefined || isPlain(match.index, end)) {
      // A token that counts may begin inside this one.
      tokens.lastIndex = match.index + 1;
      continue;
    }
    parts.push(text.slice(position, match.index), id);
    position = end;
  }
  parts.push(text.slice(position));
  return parts.filter((part) => part !== "");
}

/** The same parts, pieces of text that follow each other joined to one. */
export function joinText(parts: readonly (string | number)[]): (string | number)[] {
  const joined: (string | number)[] = [];
  for (const part of parts) {
    const last = joined.at(-1);
    if (typeof part === "string" && typeof last === "string") {
      joined[joined.length - 1] = last + part;
    } else if (part !== "") joined.push(part);
  }
  return joined;
}
