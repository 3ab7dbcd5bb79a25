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

const DATE = String.raw`\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])`;
const TIME = String.raw`([01]\d|2[0-3]):[0-5]\d:[0-5]\d(Z|[+-]([01]\d|2[0-3]):[0-5]\d)`;
const BYTE = String.raw`(25[0-5]|2[0-4]\d|1\d\d|[1-9]\d|\d)`;

/** Formats of strings, as patterns of their contents. Days are those that every month has. */
export const FORMATS: Readonly<Record<string, string>> = {
  "date": DATE,
  "time": TIME,
  "date-time": `${DATE}T${TIME}`,
  "uuid": String.raw`[\da-fA-F]{8}(-[\da-fA-F]{4}){3}-[\da-fA-F]{12}`,
  "ipv4": [BYTE, BYTE, BYTE, BYTE].join(String.raw`\.`),
  "email": String
    .raw`[a-z][a-z\d]{0,31}(\.[a-z\d]{1,32}){0,2}@[a-z][a-z\d]{0,31}(\.[a-z]{2,16}){1,2}`,
};

/** JSON without characters beyond ASCII, which are escaped. */
export function asciiJson(json: string): string {
  return json.replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** JSON as EBNF. Characters beyond ASCII are escaped as JSON does it: literals of them match other bytes (0.1.27). */
export function literal(json: string): string {
  return `"${asciiJson(json).replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** So many times an expression; `most` absent: any number from `least` on. */
export function times(expression: string, least: number, most?: number): string {
  if (most === 0) return '""';
  if (most === undefined && least === 0) return `${expression}*`;
  return `${expression}{${least},${most ?? ""}}`;
}
