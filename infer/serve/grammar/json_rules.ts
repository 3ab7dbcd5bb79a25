/**
 * Rules of JSON's values in xgrammar's EBNF, and what rules are made of.
 *
 * @module
 */

/**
 * JSON (RFC 8259) in one line. Numbers have so many digits that a double holds them, and escapes are of no surrogates, so that
 * a character is one code point, as lengths count them.
 */
export const JSON_RULES = String.raw`hex ::= [0-9a-fA-F]
unit ::= [0-9abcefABCEF] hex hex hex | [dD] [0-7] hex hex
char ::= [^"\\\x00-\x1f\x7f] | "\\" ["\\/bfnrt] | "\\u" unit
string ::= "\"" char* "\""
integer ::= "-"? ("0" | [1-9] [0-9]{0,14})
number ::= integer ("." [0-9]{1,15})? ([eE] [+-]? [0-9]{1,2})?
boolean ::= "true" | "false"
null ::= "null"
array ::= "[]" | "[" any (", " any)* "]"
pair ::= string ": " any
object ::= "{}" | "{" pair (", " pair)* "}"
any ::= string | number | boolean | null | array | object`;

const DATE = String
  .raw`[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])`;
const TIME = String.raw`([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9]`;
const OFFSET = String.raw`("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])`;
const BYTE = String.raw`("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9] [0-9] | [0-9])`;

/** Formats of strings. Days are those that every month has. */
export const FORMATS: Readonly<Record<string, string>> = {
  "date": DATE,
  "time": `${TIME} ${OFFSET}`,
  "date-time": `${DATE} "T" ${TIME} ${OFFSET}`,
  "uuid": `hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}`,
  "ipv4": [BYTE, BYTE, BYTE, BYTE].join(' "." '),
  "email":
    `[a-z] [a-z0-9]{0,31} ("." [a-z0-9]{1,32}){0,2} "@" [a-z] [a-z0-9]{0,31} ("." [a-z]{2,16}){1,2}`,
};

/** JSON as EBNF. Characters beyond ASCII are escaped as JSON does it: literals of them match other bytes (0.1.27). */
export function literal(json: string): string {
  const ascii = json.replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return `"${ascii.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** So many times an expression; `most` absent: any number from `least` on. */
export function times(expression: string, least: number, most?: number): string {
  if (most === 0) return '""';
  if (most === undefined && least === 0) return `${expression}*`;
  return `${expression}{${least},${most ?? ""}}`;
}

/** Digits of an integer that has no bound. */
const MOST_DIGITS = 15;

/** Digits from one to another, as a class. */
const digits = (from: number | string, to: number | string) =>
  `${from}` === `${to}` ? `"${from}"` : `[${from}-${to}]`;

const anyDigits = (count: number) => count === 0 ? [] : [`[0-9]{${count}}`];

/** Numbers of equally many digits from one to another, as alternatives. */
function sameLength(from: string, to: string): string[] {
  if (from === "") return [""];
  const [a, b] = [from[0], to[0]], rest = from.length - 1;
  const join = (head: string, tails: string[]) => tails.map((tail) => `${head} ${tail}`.trim());
  if (a === b) return join(digits(a, a), sameLength(from.slice(1), to.slice(1)));
  const nines = "9".repeat(rest), zeros = "0".repeat(rest);
  const low = from.slice(1) === zeros ? Number(a) : Number(a) + 1;
  const high = to.slice(1) === nines ? Number(b) : Number(b) - 1;
  return [
    ...(low > Number(a) ? join(digits(a, a), sameLength(from.slice(1), nines)) : []),
    ...(low <= high ? [[digits(low, high), ...anyDigits(rest)].join(" ")] : []),
    ...(high < Number(b) ? join(digits(b, b), sameLength(zeros, to.slice(1))) : []),
  ];
}

/** Integers of at least 0 from one to another. */
export function natural(from: number, to: number): string[] {
  const [low, high] = [`${from}`, `${to}`], all: string[] = [];
  for (let length = low.length; length <= high.length; length++) {
    const first = length === low.length ? low : `1${"0".repeat(length - 1)}`;
    all.push(...sameLength(first, length === high.length ? high : "9".repeat(length)));
  }
  return all;
}

/** An expression of the integers from one to another, both included; infinite ones have up to 15 digits. */
export function integerBetween(least: number, most: number): string {
  const largest = 10 ** MOST_DIGITS - 1;
  const from = Math.max(least, -largest), to = Math.min(most, largest);
  const negative = from < 0
    ? natural(Math.max(1, -Math.min(to, -1)), -from).map((digits) => `"-" ${digits}`)
    : [];
  return [...negative, ...(to >= 0 ? natural(Math.max(0, from), to) : [])].join(" | ");
}
