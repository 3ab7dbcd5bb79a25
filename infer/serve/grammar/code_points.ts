/**
 * Sets of characters (code points), as patterns name them and as rules of a JSON string have them.
 *
 * @module
 */
import { BEYOND, type Language, type Symbols, textOf } from "./automaton.ts";
import { asciiJson } from "./json_rules.ts";

/** Ranges in ascending order that neither overlap nor touch, both ends included. */
export type CodePoints = readonly (readonly [first: number, last: number])[];

/** The last code point, and those of surrogates, which are no characters. */
const LAST = 0x10ffff, SURROGATES = [0xd800, 0xdfff] as const;
/** Characters beyond ASCII that a rule names at most. */
const MOST_NAMED = 64;

/** All characters in one of some ranges. */
export function union(...ranges: CodePoints): CodePoints {
  const all: [number, number][] = [];
  for (const [first, last] of ranges.toSorted(([a], [b]) => a - b)) {
    const before = all.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else all.push([first, last]);
  }
  return all;
}

/** All characters that are not in a set. */
export function complement(set: CodePoints): CodePoints {
  const all: [number, number][] = [];
  let next = 0;
  for (const [first, last] of union(...set, SURROGATES)) {
    if (first > next) all.push([next, first - 1]);
    next = last + 1;
  }
  if (next <= LAST) all.push([next, LAST]);
  return all;
}

/** The characters of a text. */
export const charactersOf = (text: string): CodePoints =>
  union(...Array.from(text, (character) => [at(character), at(character)] as const));

const at = (character: string) => character.codePointAt(0) ?? 0;

const range = (first: string, last: string) => [at(first), at(last)] as const;

export const DIGITS: CodePoints = [range("0", "9")];
export const WORD: CodePoints = union(...DIGITS, range("A", "Z"), range("_", "_"), range("a", "z"));
/** ECMAScript's white space and line ends. */
export const SPACE: CodePoints = union(
  [9, 13],
  ...charactersOf(" \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff"),
  [0x2000, 0x200a],
);
/** What `.` does not match. */
export const LINE_ENDS: CodePoints = charactersOf("\n\r\u2028\u2029");

/** Characters that a JSON string has by escapes alone: quotation mark, backslash, controls and DEL. */
const ESCAPED: CodePoints = union([0, 0x1f], ...charactersOf('"\\\x7f'));
/** Those of them that have a short escape, and the letters of these. */
const SHORT: readonly (readonly [character: string, letter: string])[] = [
  ['"', '"'],
  ["\\", "\\"],
  ["\b", "b"],
  ["\f", "f"],
  ["\n", "n"],
  ["\r", "r"],
  ["\t", "t"],
];

/** The parts of a set's ranges from one character to another. */
const within = (set: CodePoints, from: number, to: number): CodePoints =>
  set.flatMap(([first, last]) =>
    first <= to && last >= from ? [[Math.max(first, from), Math.min(last, to)] as const] : []
  );

/** The bits of characters of ASCII. */
function symbolsOf(set: CodePoints): Symbols {
  let symbols = 0n;
  for (const [first, last] of set) {
    for (let code = first; code <= last; code++) symbols |= 1n << BigInt(code);
  }
  return symbols;
}

const sequenceOf = (...parts: Language[]): Language => ({ kind: "sequence", parts });

/** A character as a JSON string has it. */
export function characterLanguage(character: string): Language {
  return textOf(asciiJson(JSON.stringify(character).slice(1, -1)));
}

/**
 * One character of a set, within a JSON string. Where the set has all of Unicode but for some characters beyond ASCII, only
 * those of ASCII come: a class of xgrammar can't name others (0.1.27). Undefined where nothing is left.
 *
 * @throws {RangeError} where the set has too many characters beyond ASCII to name them, and not all.
 */
export function setLanguage(set: CodePoints): Language | undefined {
  const outside = complement(set), beyond = within(set, 0x80, LAST);
  const missing = within(outside, 0x80, LAST);
  const isAll = missing.length === 0, isMost = beyond.at(-1)?.[1] === LAST;
  const count = beyond.reduce((sum, [first, last]) => sum + last - first + 1, 0);
  if (count > MOST_NAMED && !isMost) throw new RangeError("too many characters beyond ASCII");
  const plain = within(complement(union(...outside, ...ESCAPED)), 0, 0x7f);
  const symbols = symbolsOf(plain) | (isAll ? BEYOND : 0n);
  const letters = SHORT.filter(([one]) =>
    set.some(([first, last]) => at(one) >= first && at(one) <= last)
  ).map(([, letter]) => letter);
  const escaped = symbolsOf(charactersOf(letters.join("")));
  const named = isMost
    ? []
    : beyond.flatMap(([first, last]) =>
      Array.from({ length: last - first + 1 }, (_, i) => String.fromCodePoint(first + i))
    );
  const parts: Language[] = [
    ...(symbols === 0n ? [] : [{ kind: "set" as const, symbols }]),
    ...(escaped === 0n ? [] : [sequenceOf(textOf("\\"), { kind: "set", symbols: escaped })]),
    ...named.map(characterLanguage),
  ];
  return parts.length === 0 ? undefined : { kind: "union", parts };
}
