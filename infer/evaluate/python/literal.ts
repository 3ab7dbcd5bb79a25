/**
 * Python's literals, as `ast.literal_eval` reads them: texts, numbers, lists, tuples, dictionaries, None, True and False.
 *
 * @module
 */
import { SPACE } from "../../../model/text/templates/jinja/text.ts";
import { Dict, List, text, Tuple, type Value } from "../../../model/text/templates/jinja/values.ts";

/** Thrown where a text is no literal. */
export class NoLiteral extends Error {}

const BLANKS = new RegExp(`[${SPACE}]*`, "y");
const STRING =
  /([rRuU]?)(?:"""([^]*?)(?<!\\)"""|'''([^]*?)(?<!\\)'''|"((?:[^"\\\n]|\\[^])*)"|'((?:[^'\\\n]|\\[^])*)')/y;
const NUMBER = /[+-]?(?:(?:\d[\d_]*)?\.?\d+(?:[eE][+-]?\d+)?|\d+\.(?:[eE][+-]?\d+)?)/y;
const WORD = /None|True|False/y;
const WORDS: Readonly<Record<string, Value>> = { None: null, True: true, False: false };

const ESCAPES: Readonly<Record<string, string>> = {
  "\n": "",
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

const ESCAPE =
  /\\(?:x(?<byte>[0-9a-fA-F]{2})|u(?<short>[0-9a-fA-F]{4})|U(?<long>[0-9a-fA-F]{8})|(?<octal>[0-7]{1,3})|(?<other>[^]))/g;

/** What an escape stands for. */
function characterOf(escape: RegExpMatchArray): string {
  const { byte, short, long, octal, other = "" } = escape.groups ?? {};
  const hex: string | undefined = byte ?? short ?? long;
  if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
  if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
  if ("xuUN".includes(other)) throw new NoLiteral(`a text has the escape ${escape[0]}`);
  return ESCAPES[other] ?? ("\\'\"".includes(other) ? other : escape[0]);
}

/** What a text's escapes stand for. */
function unescape(written: string): string {
  let text = "", end = 0;
  for (const escape of written.matchAll(ESCAPE)) {
    text += written.slice(end, escape.index) + characterOf(escape);
    end = escape.index + escape[0].length;
  }
  return text + written.slice(end);
}

class Reader {
  #at = 0;

  constructor(readonly source: string) {}

  #take(pattern: RegExp): RegExpExecArray | null {
    BLANKS.lastIndex = this.#at;
    const start = this.#at + (BLANKS.exec(this.source)?.[0].length ?? 0);
    pattern.lastIndex = start;
    const match = pattern.exec(this.source);
    if (match) this.#at = start + match[0].length;
    return match;
  }

  #skip(sign: RegExp): boolean {
    return this.#take(sign) !== null;
  }

  /** Texts one after another, which are one. */
  #text(): Value | undefined {
    let whole: string | undefined;
    for (let match = this.#take(STRING); match; match = this.#take(STRING)) {
      const [, prefix, ...quoted] = match;
      const written = quoted.find((one) => one !== undefined) ?? "";
      whole = (whole ?? "") + (/r/i.test(prefix) ? written : unescape(written));
    }
    return whole === undefined ? undefined : text(whole);
  }

  #number(): Value | undefined {
    const written = this.#take(NUMBER)?.[0].replaceAll("_", "");
    if (written === undefined) return undefined;
    if (/[.eE]/.test(written)) return Number(written);
    if (/^[+-]?0+[1-9]/.test(written)) throw new NoLiteral(`${written} begins with a zero`);
    return BigInt(written.replace("+", ""));
  }

  /** Items up to the sign that ends them, and whether a comma is among them. */
  #items<T>(end: RegExp, read: () => T): { items: T[]; commas: boolean } {
    const items: T[] = [];
    let commas = false;
    while (!this.#skip(end)) {
      if (items.length > 0 && !commas) throw new NoLiteral("a comma is missing");
      items.push(read());
      const comma = this.#skip(/,/y);
      if (!comma) {
        if (!this.#skip(end)) throw new NoLiteral("a comma is missing");
        break;
      }
      commas = true;
    }
    return { items, commas };
  }

  value(): Value {
    const found = this.#text() ?? this.#number();
    if (found !== undefined) return found;
    const word = this.#take(WORD)?.[0];
    if (word !== undefined) return WORDS[word];
    if (this.#skip(/\[/y)) return new List(this.#items(/\]/y, () => this.value()).items);
    if (this.#skip(/\(/y)) {
      const { items, commas } = this.#items(/\)/y, () => this.value());
      return items.length === 1 && !commas ? items[0] : new Tuple(items);
    }
    if (this.#skip(/\{/y)) {
      const { items } = this.#items(/\}/y, () => {
        const key = this.value();
        if (!this.#skip(/:/y)) throw new NoLiteral("a colon is missing");
        return [key, this.value()] as const;
      });
      return new Dict(items);
    }
    throw new NoLiteral("a value is missing");
  }

  end(): void {
    this.#take(/(?:)/y);
    if (this.#at < this.source.length) throw new NoLiteral("more follows after the value");
  }
}

/**
 * The value that a text is the literal of.
 *
 * @throws {NoLiteral} where it is none.
 */
export function readLiteral(source: string): Value {
  const reader = new Reader(source.replace(/^[ \t]+/, ""));
  const value = reader.value();
  reader.end();
  return value;
}
