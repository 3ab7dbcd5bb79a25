/**
 * Control (special) tokens inside a text.
 *
 * @module
 */

/** A pattern that matches any of the tokens, of several that begin alike the longest. */
function anyOf(tokens: Iterable<string>): string {
  return [...tokens]
    .sort((a, b) => b.length - a.length)
    .map((token) => token.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"))
    .join("|");
}

/**
 * Cuts a text at its control tokens, which become their ids.
 *
 * @param guard What {@linkcode guardSpecial} wrote into parts of the text; it is taken out again.
 */
export function splitSpecial(
  text: string,
  special: ReadonlyMap<string, number>,
  guard?: string,
): (string | number)[] {
  if (special.size === 0) return [text];
  const unguarded = guard === undefined ? "" : `(?!${guard})`;
  // The group makes split() give the tokens too, at the odd places.
  return text.split(new RegExp(`(${anyOf(special.keys())})${unguarded}`, "u"))
    .map((part, i) => i % 2 === 1 ? special.get(part)! : guard ? part.replaceAll(guard, "") : part)
    .filter((part) => part !== "");
}

/**
 * Writes a guard behind the first character of each control token in a text, so that
 * {@linkcode splitSpecial} takes it for plain text.
 *
 * @param guard A character of private use that the text does not hold.
 */
export function guardSpecial(
  text: string,
  special: ReadonlyMap<string, number>,
  guard: string,
): string {
  if (special.size === 0) return text;
  // Looking ahead finds tokens that overlap, too.
  return text.replace(new RegExp(`(?=${anyOf(special.keys())})[^]`, "gu"), `$&${guard}`);
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
