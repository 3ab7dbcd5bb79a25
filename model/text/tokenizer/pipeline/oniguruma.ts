/**
 * Regular expressions of a tokenizer.json, which are Oniguruma's, as this runtime's.
 *
 * @module
 */
import { endlessWord } from "../../../files/backtracking.ts";
import type { Patterns } from "./steps.ts";

/** Whether a tokenizer.json has patterns: only then is the translator loaded. */
export function hasPatterns(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(hasPatterns);
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(value).some(([key, inner]) => key === "Regex" || hasPatterns(inner));
}

/** For a tokenizer without patterns. */
export const noPatterns: Patterns = (pattern: string): RegExp => {
  throw new Error(`pattern ${pattern} was not looked for`);
};

/**
 * Oniguruma's `\\w` as this runtime's classes, all code points compared: letters and what counts as such,
 * marks, decimal digits, connectors, and the superscripts and fractions of Latin-1. The translator takes all
 * numbers for it.
 */
const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\u00b2\u00b3\u00b9\u00bc-\u00be";

/** A pattern with `\\w` and `\\W` written out. */
function withWords(pattern: string): string {
  return pattern.replace(/\\[^]/g, (escape) => {
    if (escape === "\\w") return `[${WORD}]`;
    return escape === "\\W" ? `[^${WORD}]` : escape;
  });
}

/** Loads the translator. */
export async function loadPatterns(): Promise<Patterns> {
  const { toRegExp } = await import("oniguruma-to-es");
  return (pattern) => {
    let translated: RegExp;
    try {
      translated = toRegExp(withWords(pattern), { global: true });
    } catch (error) {
      const why = (error as Error).message.replaceAll(/\s+/g, " ");
      throw new RangeError(
        `has the pattern ${JSON.stringify(pattern)}, which is not supported: ${why}`,
      );
    }
    const word = endlessWord(translated);
    if (word === undefined) return translated;
    throw new RangeError(
      `has the pattern ${
        JSON.stringify(pattern)
      }, which would take for ever where a text repeats ` +
        `${JSON.stringify(word)}; expected no repetition of what repeats itself`,
    );
  };
}
