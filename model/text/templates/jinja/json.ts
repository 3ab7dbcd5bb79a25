/**
 * JSON as Python reads and writes it: in the order of the file, `1` and `1.0` apart, of any size.
 *
 * @module
 */
import { fail } from "./errors.ts";
import { floatText } from "./repr.ts";
import { sorted } from "./compare.ts";
import { numeric } from "./integers.ts";
import { Text } from "./text.ts";
import { Dict, List, MAX_ITEMS, text, Tuple, typeName, type Value } from "./values.ts";

/** How `tojson` writes. */
export interface JsonStyle {
  ensureAscii: boolean;
  /** What a level is indented by; undefined keeps all in one line. */
  indent: string | undefined;
  itemSeparator: Text;
  keySeparator: Text;
  sortKeys: boolean;
}

/** How Python writes by itself, with all characters as they are. */
export const JSON_STYLE: JsonStyle = {
  ensureAscii: false,
  indent: undefined,
  itemSeparator: text(", "),
  keySeparator: text(": "),
  sortKeys: false,
};

const ESCAPED: Readonly<Record<string, string>> = {
  '"': '\\"',
  "\\": "\\\\",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\f": "\\f",
  "\b": "\\b",
};

function unit(code: number): string {
  return `\\u${code.toString(16).padStart(4, "0")}`;
}

function quote(value: Text, ensureAscii: boolean): Text {
  const inside = value.plain().map((point) => {
    if (point in ESCAPED) return ESCAPED[point];
    if (point < " ") return unit(point.charCodeAt(0));
    if (!ensureAscii || point <= "\x7f") return point;
    return point.split("").map((half) => unit(half.charCodeAt(0))).join("");
  });
  return Text.concat([text('"'), inside, text('"')]);
}

function jsonFloat(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value < 0 ? "-Infinity" : "Infinity";
  return floatText(value);
}

function plainText(value: Value): string | undefined {
  if (value === null) return "null";
  if (typeof value === "boolean") return String(value);
  if (typeof value === "bigint") return String(value);
  return typeof value === "number" ? jsonFloat(value) : undefined;
}

class Writer {
  readonly #parts: Text[] = [];

  constructor(readonly style: JsonStyle) {}

  #put(part: Text | string): void {
    if (this.#parts.push(typeof part === "string" ? text(part) : part) > 4 * MAX_ITEMS) {
      fail("a value is too large for tojson");
    }
  }

  #newLine(depth: number): void {
    const { indent } = this.style;
    if (indent !== undefined) this.#put(`\n${indent.repeat(depth)}`);
  }

  #items<T>(open: string, items: readonly T[], depth: number, write: (item: T) => void): void {
    const close = open === "[" ? "]" : "}";
    if (items.length === 0) return this.#put(open + close);
    this.#put(open);
    items.forEach((item, i) => {
      if (i > 0) this.#put(this.style.itemSeparator);
      this.#newLine(depth + 1);
      write(item);
    });
    this.#newLine(depth);
    this.#put(close);
  }

  #key(key: Value): Text {
    if (key instanceof Text) return key;
    const plain = plainText(key);
    if (plain !== undefined) return text(plain);
    fail(`keys must be str, int, float, bool or None, not ${typeName(key)}`);
  }

  write(value: Value, depth: number): void {
    if (depth > 200) fail("a value is too deep for tojson");
    const { ensureAscii, sortKeys } = this.style;
    const plain = plainText(value);
    if (plain !== undefined) this.#put(plain);
    else if (value instanceof Text) this.#put(quote(value, ensureAscii));
    else if (value instanceof List || value instanceof Tuple) {
      this.#items("[", value.items, depth, (item) => this.write(item, depth + 1));
    } else if (value instanceof Dict) {
      const items = sortKeys ? sorted(value.items(), ([key]) => key, false) : value.items();
      this.#items("{", items, depth, ([key, item]) => {
        this.#put(quote(this.#key(key), ensureAscii));
        this.#put(this.style.keySeparator);
        this.write(item, depth + 1);
      });
    } else fail(`Object of type ${typeName(value)} is not JSON serializable`);
  }

  get whole(): Text {
    return Text.concat(this.#parts);
  }
}

/** Python's `json.dumps`. */
export function writeJsonText(value: Value, style: JsonStyle): Text {
  const writer = new Writer(style);
  writer.write(value, 0);
  return writer.whole;
}

/** What `indent` of `tojson` means. */
export function jsonIndent(indent: Value): string | undefined {
  if (indent === null) return undefined;
  if (indent instanceof Text) return indent.value;
  const count = numeric(indent);
  if (typeof count !== "bigint") fail(`indent of tojson is ${typeName(indent)}, expected an int`);
  if (count > 1000n) fail("indent of tojson is more than 1000");
  return " ".repeat(Math.max(0, Number(count)));
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
const STRING = /"(?:[^"\\\p{Cc}]|[\x7f-\x9f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/uy;
const BLANK = /[ \t\n\r]*/y;
const WORDS: readonly (readonly [string, Value])[] = [
  ["null", null],
  ["true", true],
  ["false", false],
  ["NaN", NaN],
  ["Infinity", Infinity],
  ["-Infinity", -Infinity],
];

class Reader {
  #position = 0;

  constructor(readonly source: string) {}

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#position;
    const match = pattern.exec(this.source);
    if (match) this.#position += match[0].length;
    return match;
  }

  #skip(character: string): boolean {
    this.#match(BLANK);
    if (this.source[this.#position] !== character) return false;
    this.#position++;
    return true;
  }

  #expected(what: string): never {
    const before = this.source.slice(0, this.#position).split("\n");
    const column = (before.at(-1)?.length ?? 0) + 1;
    fail(`line ${before.length}, column ${column}: expected ${what}`);
  }

  #string(): Text | undefined {
    this.#match(BLANK);
    const match = this.#match(STRING);
    return match ? text(JSON.parse(match[0])) : undefined;
  }

  value(depth: number): Value {
    if (depth > 200) this.#expected("values at most 200 levels deep");
    const string = this.#string();
    if (string !== undefined) return string;
    for (const [word, value] of WORDS) {
      if (this.source.startsWith(word, this.#position)) {
        this.#position += word.length;
        return value;
      }
    }
    const number = this.#match(NUMBER);
    if (number) {
      const [digits, fraction, exponent] = number;
      return fraction === undefined && exponent === undefined ? BigInt(digits) : Number(digits);
    }
    if (this.#skip("[")) return this.#list(depth);
    if (this.#skip("{")) return this.#dict(depth);
    this.#expected("a value");
  }

  #list(depth: number): List {
    const items: Value[] = [];
    while (!this.#skip("]")) {
      if (items.length > 0 && !this.#skip(",")) this.#expected("',' or ']'");
      items.push(this.value(depth + 1));
    }
    return new List(items);
  }

  #dict(depth: number): Dict {
    const dict = new Dict();
    while (!this.#skip("}")) {
      if (dict.size > 0 && !this.#skip(",")) this.#expected("',' or '}'");
      const key = this.#string() ?? this.#expected("a key in double quotes");
      if (!this.#skip(":")) this.#expected("':'");
      dict.set(key, this.value(depth + 1));
    }
    return dict;
  }

  end(): void {
    this.#match(BLANK);
    if (this.#position < this.source.length) this.#expected("the end");
  }
}

/**
 * Reads JSON.
 *
 * @throws TemplateError with line and column where it is none.
 */
export function readJsonText(source: string): Value {
  const reader = new Reader(source);
  const value = reader.value(0);
  reader.end();
  return value;
}
