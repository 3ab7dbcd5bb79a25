/**
 * Upper and lower case, and what a string consists of, as Python's methods have it.
 *
 * @module
 */
import { SPACE, type Text } from "./text.ts";

const CASED = /\p{Cased}/u;

/** A string changed as a whole; where its length changes, each code point on its own. */
function changeCase(value: Text, change: (text: string) => string): Text {
  const changed = change(value.value);
  if (value.runs.length === 0) return value.as(changed);
  if (changed.length !== value.value.length) return value.map(change);
  // Of equal length, each unit is where it was.
  let at = 0;
  return value.map((point) => changed.slice(at, at += point.length));
}

/** Python's `lower()`. */
export const lower = (value: Text): Text => changeCase(value, (text) => text.toLowerCase());
/** Python's `upper()`. */
export const upper = (value: Text): Text => changeCase(value, (text) => text.toUpperCase());

/** Letters such as ǆ have a form of their own at the beginning of a word; JavaScript has no word for it. */
const TITLE_FORMS = new Map([
  ["\u01c4", "\u01c5"],
  ["\u01c6", "\u01c5"],
  ["\u01c7", "\u01c8"],
  ["\u01c9", "\u01c8"],
  ["\u01ca", "\u01cb"],
  ["\u01cc", "\u01cb"],
  ["\u01f1", "\u01f2"],
  ["\u01f3", "\u01f2"],
  ["\u1fb3", "\u1fbc"],
  ["\u1fc3", "\u1fcc"],
  ["\u1ff3", "\u1ffc"],
  ["\u0149", "\u02bcN"],
]);

function titleCase(point: string): string {
  const own = TITLE_FORMS.get(point);
  if (own !== undefined) return own;
  if (/\p{Lt}/u.test(point)) return point;
  const upper = point.toUpperCase();
  if ([...upper].length === 1) return upper;
  // Of a ligature only the first letter is a capital; Greek has letters for those with an iota below.
  if (/[\u1f80-\u1faf]/.test(point)) return String.fromCharCode(point.charCodeAt(0) | 8);
  const [first, ...rest] = upper;
  return first + rest.join("").toLowerCase();
}

/** The first character in upper case, the others in lower case. */
export function capitalize(value: Text): Text {
  const small = lower(value);
  let first = true;
  const [begin = ""] = value.value;
  return small.map((point) => {
    if (!first) return point;
    first = false;
    return titleCase(begin);
  });
}

/** The first letter of each run of letters is a capital. */
export function title(value: Text): Text {
  let inside = false;
  return value.map((point) => {
    const changed = inside ? point.toLowerCase() : titleCase(point);
    inside = CASED.test(point);
    return changed;
  });
}

/** Upper case in place of lower case, and the other way round. */
export function swapCase(value: Text): Text {
  return value.map((point) => {
    if (/\p{Uppercase}/u.test(point)) return point.toLowerCase();
    return /\p{Lowercase}/u.test(point) ? point.toUpperCase() : point;
  });
}

const whole = (classes: string) => new RegExp(`^[${classes}]+$`, "u");
/** Digits that are no decimal ones, such as superscripts. */
const DIGITS =
  "\\p{Nd}\\u00b2\\u00b3\\u00b9\\u1369-\\u1371\\u2070\\u2074-\\u2079\\u2080-\\u2089\\u2460-\\u2468\\u2474-\\u247c\\u2488-\\u2490";

const hasUpper = (text: string) => /[\p{Uppercase}]/u.test(text);
const hasLower = (text: string) => /[\p{Lowercase}]/u.test(text);
const hasTitle = (text: string) => /\p{Lt}/u.test(text);

function isTitle(text: string): boolean {
  let inside = false, cased = false;
  for (const point of text) {
    const capital = hasUpper(point) || hasTitle(point);
    if (capital ? inside : hasLower(point) && !inside) return false;
    inside = capital || hasLower(point);
    cased ||= inside;
  }
  return cased;
}

/** Whether a string is all of a kind, by the name of Python's method. */
export const KINDS: ReadonlyMap<string, (text: string) => boolean> = new Map([
  ["isalnum", (text: string) => whole("\\p{L}\\p{N}").test(text)],
  ["isalpha", (text: string) => whole("\\p{L}").test(text)],
  ["isascii", (text: string) => /^[\0-\x7f]*$/.test(text)],
  ["isdecimal", (text: string) => whole("\\p{Nd}").test(text)],
  ["isdigit", (text: string) => whole(DIGITS).test(text)],
  ["isidentifier", (text: string) => /^[\p{ID_Start}_]\p{ID_Continue}*$/u.test(text)],
  ["islower", (text: string) => hasLower(text) && !hasUpper(text) && !hasTitle(text)],
  ["isnumeric", (text: string) => whole("\\p{N}").test(text)],
  ["isprintable", (text: string) => !/[\p{C}\p{Z}]/u.test(text.replaceAll(" ", ""))],
  ["isspace", (text: string) => whole(SPACE).test(text)],
  ["istitle", isTitle],
  ["isupper", (text: string) => hasUpper(text) && !hasLower(text) && !hasTitle(text)],
]);
