/**
 * Text of unknown origin as text to read.
 *
 * @module
 */

/**
 * Control characters but tab and newline, and what turns the direction of text: with these, a name could look like
 * another one.
 */
// deno-lint-ignore no-control-regex
const HIDDEN = /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** A text without control characters. */
export function plainText(text: string): string {
  return text.replace(HIDDEN, "");
}
