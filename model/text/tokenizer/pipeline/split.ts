/**
 * Cutting a text at what a pattern matches, as `NormalizedString::split` of the Rust library
 * `tokenizers` does.
 *
 * @module
 */

/** A part of a text: where it begins and ends, and whether the pattern matched it. */
export interface Stretch {
  start: number;
  end: number;
  match: boolean;
}

/** What becomes of the matches. */
export type Behavior =
  | "Removed"
  | "Isolated"
  | "MergedWithPrevious"
  | "MergedWithNext"
  | "Contiguous";

/** All of them. */
export const BEHAVIORS: readonly Behavior[] = [
  "Removed",
  "Isolated",
  "MergedWithPrevious",
  "MergedWithNext",
  "Contiguous",
];

/**
 * The whole text as stretches, matched or not. An empty match where the one before ends is none.
 *
 * @param pattern With the flag `g`.
 */
export function stretches(text: string, pattern: RegExp): Stretch[] {
  const found: Stretch[] = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    const start = match.index, stop = start + match[0].length;
    if (stop === start && start === end && found.length > 0) continue;
    if (start > end) found.push({ start: end, end: start, match: false });
    found.push({ start, end: stop, match: true });
    end = stop;
  }
  if (end < text.length) found.push({ start: end, end: text.length, match: false });
  return found;
}

/** The text with `content` for each match. */
export function replaceMatches(text: string, list: readonly Stretch[], content: string): string {
  return list.map(({ start, end, match }) => match ? content : text.slice(start, end)).join("");
}

/** Joins each stretch for which `joins` says so to the one before it. */
function join(list: readonly Stretch[], joins: (now: Stretch, before: Stretch) => boolean) {
  const joined: Stretch[] = [];
  list.forEach((stretch, i) => {
    const last = joined.at(-1);
    if (last !== undefined && joins(stretch, list[i - 1])) last.end = stretch.end;
    else joined.push({ ...stretch, match: false });
  });
  return joined;
}

/** The parts of a text that are left, in order; none is empty. */
export function cut(list: readonly Stretch[], behavior: Behavior): Stretch[] {
  const parts = (): Stretch[] => {
    switch (behavior) {
      case "Removed":
        return list.filter(({ match }) => !match);
      case "Isolated":
        return [...list];
      case "Contiguous":
        return join(list, (now, before) => now.match === before.match);
      case "MergedWithPrevious":
        return join(list, (now, before) => now.match && !before.match);
      case "MergedWithNext":
        return join(list, (now, before) => before.match && !now.match);
    }
  };
  return parts().filter(({ start, end }) => end > start);
}
