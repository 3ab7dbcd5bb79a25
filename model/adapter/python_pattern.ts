/**
 * Regular expressions of Python's `re` as those of JavaScript, as far as both mean the same by them. PEFT's
 * configurations hold such patterns, which are matched against names of modules: ASCII words with dots.
 *
 * @module
 */

import { endlessWord, MOST_LOOKS_AT_NAMES } from "../files/backtracking.ts";

/** A pattern that can't be carried over. */
export class PatternProblem extends Error {}

/** Escapes that both languages read alike, and those that are written otherwise in JavaScript. */
const ESCAPES: Record<string, string> = { A: "^", Z: "$" };
const ALIKE = /^[dDwWsSbBnrtfv]$/;
/** Longer ones name no modules; and a pattern of any length could be made to take for ever. */
const MOST_CHARACTERS = 2000;

const problem = (pattern: string, at: number, what: string): never => {
  throw new PatternProblem(`has ${what} at character ${at + 1} of ${JSON.stringify(pattern)}`);
};

/** One escape, from the backslash on. */
function escape(pattern: string, at: number, inClass: boolean): string {
  const letter = pattern[at + 1];
  if (letter === undefined) return problem(pattern, at, "a backslash with nothing after it");
  if (!/[A-Za-z0-9]/.test(letter)) return `\\${letter}`;
  if (/[1-9]/.test(letter) && !inClass && !/\d/.test(pattern[at + 2] ?? "")) return `\\${letter}`;
  if (ALIKE.test(letter) && !(inClass && /[bB]/.test(letter))) return `\\${letter}`;
  if (!inClass && Object.hasOwn(ESCAPES, letter)) return ESCAPES[letter];
  return problem(pattern, at, `the escape \\${letter}`);
}

/** What a group begins with: `(`, `(?:`, a look around, or a name. */
function groupStart(pattern: string, at: number): { from: number; text: string } {
  const rest = pattern.slice(at);
  const same = /^\((?:\?(?::|=|!|<=|<!))?(?!\?)/.exec(rest)?.[0];
  if (same !== undefined) return { from: at + same.length, text: same };
  const named = /^\(\?P<([A-Za-z_]\w*)>/.exec(rest);
  if (named !== null) return { from: at + named[0].length, text: `(?<${named[1]}>` };
  const again = /^\(\?P=([A-Za-z_]\w*)\)/.exec(rest);
  if (again !== null) return { from: at + again[0].length, text: `\\k<${again[1]}>` };
  return problem(pattern, at, `the group ${rest.slice(0, 4)}`);
}

/** A set of characters, from its bracket on. */
function characterClass(pattern: string, at: number): { from: number; text: string } {
  let text = "[", i = at + 1;
  if (pattern[i] === "^") text += pattern[i++];
  // To Python a bracket that comes first is a character.
  if (pattern[i] === "]") {
    text += "\\]";
    i++;
  }
  for (; i < pattern.length && pattern[i] !== "]";) {
    if (pattern[i] !== "\\") text += pattern[i++];
    else {
      text += escape(pattern, i, true);
      i += 2;
    }
  }
  if (i >= pattern.length) return problem(pattern, at, "a set without an end");
  return { from: i + 1, text: `${text}]` };
}

/**
 * The source of a JavaScript pattern that matches the same names as this one of Python.
 *
 * @throws {PatternProblem} for what JavaScript has not, or reads otherwise.
 */
export function fromPython(pattern: string): string {
  if (pattern.length > MOST_CHARACTERS) {
    throw new PatternProblem(
      `has ${pattern.length} characters, expected ${MOST_CHARACTERS} at most`,
    );
  }
  let text = "";
  for (let i = 0; i < pattern.length;) {
    const character = pattern[i];
    if (character === "\\") {
      text += escape(pattern, i, false);
      i += 2;
    } else if (character === "(" || character === "[") {
      const part = (character === "(" ? groupStart : characterClass)(pattern, i);
      text += part.text;
      i = part.from;
    } else if (/^[*+?}]\+/.test(pattern.slice(i, i + 2))) {
      problem(pattern, i, "a quantifier that gives nothing back");
    } else {
      // {,3} is a quantifier to Python, and text to JavaScript.
      const upTo = /^\{,(\d+)\}/.exec(pattern.slice(i));
      text += upTo === null ? character : `{0,${upTo[1]}}`;
      i += upTo === null ? 1 : upTo[0].length;
    }
  }
  let expression: RegExp;
  try {
    expression = new RegExp(text);
  } catch {
    throw new PatternProblem(`is ${JSON.stringify(pattern)}, which is no pattern`);
  }
  if (endlessWord(expression, MOST_LOOKS_AT_NAMES) !== undefined) {
    throw new PatternProblem(
      `is ${JSON.stringify(pattern)}, which would take for ever; expected no repetition of what ` +
        "repeats itself",
    );
  }
  return text;
}

/** Whether all of a name matches, as `re.fullmatch` says. @throws {PatternProblem} as `fromPython`. */
export function fullMatch(pattern: string): (name: string) => boolean {
  const expression = new RegExp(`^(?:${fromPython(pattern)})$`);
  return (name) => expression.test(name);
}

/**
 * Whether a pattern matches a name's end, from its beginning or a dot on: how PEFT looks up the keys of
 * `rank_pattern` and `alpha_pattern`.
 *
 * @throws {PatternProblem} as `fromPython`.
 */
export function endMatch(pattern: string): (name: string) => boolean {
  // The groups are Python's, so that a number in the pattern means the same one.
  return matchStart(`(.*\\.)?(${fromPython(pattern)})$`);
}

/** Whether a pattern matches whole parts of a dotted name: how PEFT keeps LoRA away from `modules_to_save`. */
export function partMatch(pattern: string): (name: string) => boolean {
  return matchStart(`(^|.*\\.)${fromPython(pattern)}($|\\..*)`);
}

/** As `re.match`: from the name's beginning on, whatever alternative is taken. */
function matchStart(source: string): (name: string) => boolean {
  const expression = new RegExp(source, "y");
  return (name) => {
    expression.lastIndex = 0;
    return expression.test(name);
  };
}
