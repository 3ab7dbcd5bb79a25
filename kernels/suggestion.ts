/**
 * The known name that a misspelt one is near to, for messages.
 *
 * @module
 */
import leven from "leven";

/** The candidate closest to `word`, or undefined where none shares at least about half of it. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined, bestDistance = Infinity;
  for (const candidate of candidates) {
    const edits = leven(word.toLowerCase(), candidate.toLowerCase());
    if (edits < bestDistance) [best, bestDistance] = [candidate, edits];
  }
  return bestDistance <= Math.max(2, Math.ceil(word.length / 2)) ? best : undefined;
}

/** `did you mean "x"?` for messages, or an empty string where nothing is near. A name from a file may hold line breaks. */
export function didYouMean(word: string, candidates: readonly string[]): string {
  const near = nearest(word, candidates);
  return near === undefined ? "" : `; did you mean ${JSON.stringify(near)}?`;
}
