/**
 * Jinja2's lexer, without line statements.
 *
 * @module
 */
import { fail } from "./errors.ts";
import { SPACE } from "./text.ts";

/** The values of tokens by their types; an operator's type is the operator itself. */
export type Token =
  | { type: "data" | "name" | "string" | "operator"; value: string; line: number }
  | { type: "integer"; value: bigint; line: number }
  | { type: "float"; value: number; line: number }
  | { type: "{{" | "}}" | "{%" | "%}" | "end"; value: string; line: number };

/** How Jinja2 is set up to read a template. */
export interface LexerSettings {
  /** `trim_blocks` and `lstrip_blocks`: a block takes the newline after it, and the blanks before it on its line. */
  trimsBlocks: boolean;
  /** `keep_trailing_newline`: a newline at the template's end is part of what it writes. */
  keepsNewline: boolean;
}

const BEGIN = /\{[{%#]/g;
const RAW = new RegExp(`\\{%([-+]?)[${SPACE}]*raw[${SPACE}]*(?:-%\\}[${SPACE}]*|%\\})`, "y");

/** What ends blocks, where they take this after them. */
const ends = (newline: string) => ({
  raw: new RegExp(
    `\\{%([-+]?)[${SPACE}]*endraw[${SPACE}]*(?:\\+%\\}|-%\\}[${SPACE}]*|%\\}${newline})`,
    "g",
  ),
  comment: new RegExp(`\\+#\\}|-#\\}[${SPACE}]*|#\\}${newline}`, "g"),
  block: new RegExp(`\\+%\\}|-%\\}[${SPACE}]*|%\\}${newline}`, "y"),
});
const TRIMMED_ENDS = ends("\\n?"), KEPT_ENDS = ends("");
const END_VARIABLE = new RegExp(`-\\}\\}[${SPACE}]*|\\}\\}`, "y");
const BLANKS = new RegExp(`[${SPACE}]+`, "y");
const FLOAT =
  /(?<!\.)(?:[0-9]+_)*[0-9]+(?:(?:\.(?:[0-9]+_)*[0-9]+)?e[+-]?(?:[0-9]+_)*[0-9]+|\.(?:[0-9]+_)*[0-9]+)/iy;
const INTEGER = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[0-9a-f])+|[1-9](?:_?[0-9])*|0(?:_?0)*/iy;
const NAME = /[\p{ID_Continue}]+/uy;
const STRING = /'(?:[^'\\]|\\[^])*'|"(?:[^"\\]|\\[^])*"/y;
const OPERATOR = /\/\/|\*\*|==|!=|>=|<=|[-+/*%~[\](){}><=.:|,;]/y;
const TRAILING_BLANKS = new RegExp(`[${SPACE}]+$`);
const ONLY_BLANKS = new RegExp(`^[${SPACE}]+$`);

/** `text` without white space at its end, or, before what strips its line, without blanks that begin it. */
function stripBefore(text: string, sign: string, lineStarts: boolean, strips: boolean): string {
  if (sign === "-") return text.replace(TRAILING_BLANKS, "");
  if (sign === "+" || !strips) return text;
  const line = text.lastIndexOf("\n") + 1;
  return (line > 0 || lineStarts) && ONLY_BLANKS.test(text.slice(line))
    ? text.slice(0, line)
    : text;
}

const ESCAPES = new Map([
  ["\n", ""],
  ["\\", "\\"],
  ["'", "'"],
  ['"', '"'],
  ["a", "\x07"],
  ["b", "\b"],
  ["f", "\f"],
  ["n", "\n"],
  ["r", "\r"],
  ["t", "\t"],
  ["v", "\v"],
]);

/** What Python's `unicode-escape` makes of a literal, which Jinja2 writes in ASCII for it before. */
function unescape(literal: string, line: number): string {
  if (!literal.includes("\\")) return literal;
  const ascii = literal.replace(/[^\0-\x7f]/gu, (point) => {
    const code = point.codePointAt(0) ?? 0;
    const digits = code < 0x100 ? 2 : code < 0x10000 ? 4 : 8;
    return `\\${"xxuxU"[digits / 2]}${code.toString(16).padStart(digits, "0")}`;
  });
  const pattern = /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|([^]))/g;
  return ascii.replace(pattern, (whole, ...groups) => {
    const [byte, short, long, octal, other] = groups;
    const hex = byte ?? short ?? long;
    if (hex !== undefined) {
      const code = Number.parseInt(hex, 16);
      if (code > 0x10ffff) fail("a string has an escape beyond the last character", line);
      return String.fromCodePoint(code);
    }
    if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
    if (/[xuU]/.test(other)) fail(`a string has a truncated \\${other} escape`, line);
    if (other === "N") fail("a string has a \\N{...} escape, which is not supported", line);
    return ESCAPES.get(other) ?? whole;
  });
}

const PAIRS: Readonly<Record<string, string>> = { "{": "}", "(": ")", "[": "]" };

/** Cuts a template into tokens. */
class Lexer {
  readonly tokens: Token[] = [];
  readonly #source: string;
  #position = 0;
  #line = 1;
  #counted = 0;
  #lineStarts = true;
  readonly #trims: boolean;
  readonly #ends: typeof TRIMMED_ENDS;

  constructor(source: string, { trimsBlocks, keepsNewline }: LexerSettings) {
    const normalized = source.replace(/\r\n?/g, "\n");
    const ends = !keepsNewline && normalized.endsWith("\n");
    this.#source = ends ? normalized.slice(0, -1) : normalized;
    this.#trims = trimsBlocks;
    this.#ends = trimsBlocks ? TRIMMED_ENDS : KEPT_ENDS;
  }

  /** Line of a position that is not before those asked for earlier. */
  #lineAt(position: number): number {
    for (; this.#counted < position; this.#counted++) {
      if (this.#source[this.#counted] === "\n") this.#line++;
    }
    return this.#line;
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#position;
    return pattern.exec(this.#source);
  }

  #data(value: string, start: number): void {
    if (value !== "") this.tokens.push({ type: "data", value, line: this.#lineAt(start) });
  }

  run(): Token[] {
    while (this.#position < this.#source.length) this.#root();
    this.tokens.push({ type: "end", value: "", line: this.#lineAt(this.#source.length) });
    return this.tokens;
  }

  /** Text, up to and with the beginning of what follows. */
  #root(): void {
    const from = this.#position;
    const begin = this.#match(BEGIN);
    if (begin === null) {
      this.#data(this.#source.slice(from), from);
      this.#position = this.#source.length;
      return;
    }
    const [kind] = begin, text = this.#source.slice(from, begin.index);
    this.#position = begin.index;
    const raw = kind === "{%" ? this.#match(RAW) : null;
    const next = this.#source[begin.index + 2];
    const sign = raw?.[1] ?? (next === "-" || next === "+" ? next : "");
    this.#data(stripBefore(text, sign, this.#lineStarts, this.#trims && kind !== "{{"), from);
    const line = this.#lineAt(begin.index);
    this.#position += raw?.[0].length ?? 2 + sign.length;
    if (raw) {
      this.#lineStarts = raw[0].endsWith("\n");
      this.#raw(line);
    } else if (kind === "{#") this.#comment(line);
    else if (kind === "{{" || kind === "{%") {
      this.tokens.push({ type: kind, value: kind, line });
      this.#lineStarts = false;
      this.#code(kind);
    }
  }

  #raw(line: number): void {
    const from = this.#position, end = this.#match(this.#ends.raw);
    if (end === null) fail("Missing end of raw directive", line);
    const text = this.#source.slice(from, end.index);
    this.#data(stripBefore(text, end[1], this.#lineStarts, this.#trims), from);
    this.#leave(end.index + end[0].length);
  }

  #comment(line: number): void {
    const end = this.#match(this.#ends.comment);
    if (end === null) fail("Missing end of comment tag", line);
    this.#leave(end.index + end[0].length);
  }

  #leave(position: number): void {
    this.#position = position;
    this.#lineStarts = this.#source[position - 1] === "\n";
  }

  /** What is between `{{` and `}}`, or `{%` and `%}`. */
  #code(kind: "{{" | "{%"): void {
    const [end, type] = kind === "{{"
      ? [END_VARIABLE, "}}" as const]
      : [this.#ends.block, "%}" as const];
    const open: string[] = [];
    while (this.#position < this.#source.length) {
      const line = this.#lineAt(this.#position);
      const closing = open.length === 0 ? this.#match(end) : null;
      if (closing) {
        this.tokens.push({ type, value: type, line });
        this.#leave(this.#position + closing[0].length);
        return;
      }
      this.#position += this.#token(line, open);
    }
  }

  /** Takes a token in code, and gives its length. */
  #token(line: number, open: string[]): number {
    const blanks = this.#match(BLANKS);
    if (blanks) return blanks[0].length;
    const float = this.#match(FLOAT);
    if (float) {
      this.tokens.push({ type: "float", value: Number(float[0].replaceAll("_", "")), line });
      return float[0].length;
    }
    const integer = this.#match(INTEGER);
    if (integer) {
      this.tokens.push({ type: "integer", value: BigInt(integer[0].replaceAll("_", "")), line });
      return integer[0].length;
    }
    const name = this.#match(NAME)?.[0];
    if (name !== undefined) {
      if (!/^[\p{ID_Start}_]/u.test(name)) fail("Invalid character in identifier", line);
      this.tokens.push({ type: "name", value: name, line });
      return name.length;
    }
    const string = this.#match(STRING)?.[0];
    if (string !== undefined) {
      this.tokens.push({ type: "string", value: unescape(string.slice(1, -1), line), line });
      return string.length;
    }
    const operator = this.#match(OPERATOR)?.[0];
    if (operator === undefined) {
      const point = String.fromCodePoint(this.#source.codePointAt(this.#position) ?? 0);
      fail(`unexpected character ${JSON.stringify(point)}`, line);
    }
    if (operator in PAIRS) open.push(PAIRS[operator]);
    else if (operator === "}" || operator === ")" || operator === "]") {
      const expected = open.pop();
      if (expected === undefined) fail(`unexpected '${operator}'`, line);
      if (expected !== operator) fail(`unexpected '${operator}', expected '${expected}'`, line);
    }
    this.tokens.push({ type: "operator", value: operator, line });
    return operator.length;
  }
}

/**
 * The tokens of a template, the last of type `end`.
 *
 * @throws TemplateError with the line, where there is something that belongs to no token.
 */
export function tokenize(source: string, settings: LexerSettings): Token[] {
  return new Lexer(source, settings).run();
}
