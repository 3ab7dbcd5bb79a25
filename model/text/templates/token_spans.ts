/**
 * From characters of a text to its tokens.
 *
 * @module
 */
import type { Span } from "../targets.ts";
import type { EncodedSection } from "../tokenizer/tokenizer.ts";
import type { TextRange } from "../prompt.ts";

/**
 * The number of tokens before an offset of a text.
 *
 * @param counts Whether a token that holds characters on both sides of it is one of them.
 */
function tokensBefore(sections: readonly EncodedSection[], at: number, counts: boolean): number {
  let tokens = 0;
  for (const { end, ids, split } of sections) {
    if (at < end) {
      const [ended, begun] = split(at);
      return tokens + (counts ? begun : ended);
    }
    tokens += ids.length;
  }
  return tokens;
}

/**
 * The tokens of parts of a text, ascending and apart.
 *
 * @param sections The whole text as it is encoded.
 * @param holdsStart Whether a token that begins before a part and holds some of it is one of the part's, as
 *   `transformers` has it. One that goes on beyond its end is.
 */
export function tokenSpans(
  sections: readonly EncodedSection[],
  parts: readonly TextRange[],
  holdsStart: boolean,
): Span[] {
  const spans: Span[] = [];
  for (const { start, end } of parts) {
    const begin = tokensBefore(sections, start, !holdsStart);
    const stop = tokensBefore(sections, end, true), last = spans.at(-1);
    const from = Math.max(begin, last?.[1] ?? 0);
    if (from >= stop) continue;
    if (last !== undefined && last[1] === from) spans[spans.length - 1] = [last[0], stop];
    else spans.push([from, stop]);
  }
  return spans;
}
