/**
 * Lines of a limited width, as Python's `textwrap` breaks them.
 *
 * @module
 */
import { fail } from "./errors.ts";
import { Text } from "./text.ts";

/** Where lines may be broken. */
export interface WrapOptions {
  width: number;
  breakLongWords: boolean;
  breakOnHyphens: boolean;
}

/** textwrap's own idea of white space. */
const BLANK = "\\t\\n\\v\\f\\r ";
const WORD = "[\\p{L}\\p{N}_!\"'&.,?]", LETTER = "[\\p{L}_]";
/** Blanks; or a dash between words; or a word, up to a hyphen that it may be broken behind. */
const HYPHENATED = new RegExp(
  `([${BLANK}]+|(?<=${WORD})-{2,}(?=[\\p{L}\\p{N}_])|[^${BLANK}]+?(?:` +
    `-(?:(?<=${LETTER}{2}-)|(?<=${LETTER}-${LETTER}-))(?=${LETTER}-?${LETTER})|` +
    `(?=[${BLANK}]|$)|(?<=${WORD})(?=-{2,}[\\p{L}\\p{N}_])))`,
  "u",
);
const SIMPLE = new RegExp(`([${BLANK}]+)`);

function chunks(line: Text, { breakOnHyphens }: WrapOptions): Text[] {
  const found: Text[] = [];
  let position = 0;
  for (const part of line.value.split(breakOnHyphens ? HYPHENATED : SIMPLE)) {
    if (part) found.push(line.cut(position, position + part.length));
    position += part?.length ?? 0;
  }
  return found;
}

const isBlank = (chunk: Text | undefined) =>
  chunk !== undefined && new RegExp(`^[${BLANK}]*$`).test(chunk.value);

/** The lines of a paragraph. */
export function wrapText(paragraph: Text, options: WrapOptions): Text[] {
  const { width, breakLongWords, breakOnHyphens } = options;
  if (width <= 0) fail(`invalid width ${width} (must be > 0)`);
  const rest = chunks(paragraph, options).reverse();
  const lines: Text[] = [];
  while (rest.length > 0) {
    const line: Text[] = [];
    let length = 0;
    if (isBlank(rest.at(-1)) && lines.length > 0) rest.pop();
    for (let next = rest.at(-1); next && length + next.length <= width; next = rest.at(-1)) {
      line.push(next);
      length += next.length;
      rest.pop();
    }
    const long = rest.at(-1);
    if (long && long.length > width) {
      if (breakLongWords) {
        const room = Math.max(1, width - length);
        let end = room;
        if (breakOnHyphens && long.length > room) {
          const hyphen = [...long.value].slice(0, room).lastIndexOf("-");
          const before = [...long.value].slice(0, hyphen);
          if (hyphen > 0 && before.some((point) => point !== "-")) end = hyphen + 1;
        }
        line.push(long.slice(0, end));
        rest[rest.length - 1] = long.slice(end, long.length);
      } else if (line.length === 0) {
        line.push(long);
        rest.pop();
      }
    }
    if (isBlank(line.at(-1))) line.pop();
    if (line.length > 0) lines.push(Text.concat(line));
  }
  return lines;
}
