/**
 * From a regular expression to the language of the JSON strings that it matches. JSON schema's patterns are ECMAScript's with
 * Unicode (https://json-schema.org/draft/2020-12/json-schema-core#section-6.4): of these, all that is regular.
 *
 * @module
 */
import type { Language } from "./automaton.ts";
import {
  characterLanguage,
  charactersOf,
  type CodePoints,
  complement,
  DIGITS,
  LINE_ENDS,
  setLanguage,
  SPACE,
  union,
  WORD,
} from "./code_points.ts";

/** Repetitions that are counted at most, and of those without an end where something has to follow. */
const MOST_TIMES = 256, MOST_BEFORE = 40;

/** Part of a pattern. */
interface Part {
  /** What it is where all that follows may be empty: the text may end, whatever was repeated. */
  readonly last: Language;
  /** What it is where something has to follow: repetitions have an end, so that a text comes to its own. */
  readonly inner: Language;
  /** Whether it may be empty. */
  readonly isEmpty: boolean;
}

/** A part that repeats nothing. */
const plain = (language: Language): Part => ({ last: language, inner: language, isEmpty: false });

/** Parts one after the other. */
function sequence(parts: readonly Part[]): Part {
  const mayEnd = (i: number) => parts.slice(i + 1).every(({ isEmpty }) => isEmpty);
  return {
    last: { kind: "sequence", parts: parts.map(({ last, inner }, i) => mayEnd(i) ? last : inner) },
    inner: { kind: "sequence", parts: parts.map(({ inner }) => inner) },
    isEmpty: parts.every(({ isEmpty }) => isEmpty),
  };
}

/** One of several parts. */
function alternatives(parts: readonly Part[]): Part {
  return {
    last: { kind: "union", parts: parts.map(({ last }) => last) },
    inner: { kind: "union", parts: parts.map(({ inner }) => inner) },
    isEmpty: parts.some(({ isEmpty }) => isEmpty),
  };
}

/** A part several times; `most` absent: any number from `least` on. */
function repeated(part: Part, least: number, most?: number): Part {
  const { last, inner } = part;
  return {
    last: { kind: "repeat", part: least > 1 ? inner : last, least, most },
    inner: { kind: "repeat", part: inner, least, most: most ?? least + MOST_BEFORE },
    isEmpty: least === 0 || part.isEmpty,
  };
}

/** Any characters. */
const ANY = repeated(plain(setLanguage(complement([])) ?? characterLanguage(" ")), 0);

/** Why a pattern can't be kept. */
export class PatternProblem extends Error {}

/** Sets that a letter after a backslash stands for. */
const SETS: Readonly<Record<string, CodePoints>> = {
  d: DIGITS,
  D: complement(DIGITS),
  w: WORD,
  W: complement(WORD),
  s: SPACE,
  S: complement(SPACE),
};
/** Characters that a letter after a backslash stands for. */
const CONTROLS: Readonly<Record<string, string>> = {
  t: "\t",
  n: "\n",
  r: "\r",
  f: "\f",
  v: "\v",
  0: "\0",
};

/** Reads a pattern from left to right. It is one that JavaScript takes, so that brackets are in pairs. */
class PatternReader {
  #at = 0;
  /** Groups around the present place. */
  #depth = 0;

  constructor(readonly source: string) {}

  /** The whole pattern: what a string has somewhere, unless it is tied to the string's ends. */
  read(): Language {
    return this.#all(() => this.#tied()).last;
  }

  /** Alternatives, each of which a function reads. */
  #all(read: () => Part): Part {
    const all: Part[] = [];
    do all.push(read()); while (this.#take("|"));
    return alternatives(all);
  }

  /** An alternative of the whole pattern. */
  #tied(): Part {
    const isFirst = this.#take("^"), body = this.#sequence(), isLast = this.#take("$");
    if (isLast && this.#at < this.source.length && this.#peek() !== "|") {
      this.#refuse("$ within a pattern");
    }
    return sequence([...(isFirst ? [] : [ANY]), body, ...(isLast ? [] : [ANY])]);
  }

  #peek(): string {
    return String.fromCodePoint(this.source.codePointAt(this.#at) ?? 0);
  }

  #take(text: string): boolean {
    const is = this.source.startsWith(text, this.#at);
    if (is) this.#at += text.length;
    return is;
  }

  /** What matches here, after which the reader goes on. */
  #match(pattern: RegExp): RegExpExecArray | undefined {
    const sticky = new RegExp(pattern.source, "yu");
    sticky.lastIndex = this.#at;
    const found = sticky.exec(this.source) ?? undefined;
    if (found !== undefined) this.#at = sticky.lastIndex;
    return found;
  }

  #refuse(what: string): never {
    throw new PatternProblem(`${what} can't be kept`);
  }

  #group(): Part {
    if (this.#take("?")) {
      const isName = this.#match(/<[^=!>]*>/) !== undefined;
      if (!isName && !this.#take(":")) this.#refuse(`(?${this.#peek()}`);
    }
    this.#depth++;
    const part = this.#all(() => this.#sequence());
    this.#take(")");
    this.#depth--;
    return part;
  }

  #sequence(): Part {
    const all: Part[] = [];
    while (this.#at < this.source.length && !/[|)]/.test(this.#peek())) {
      if (this.#peek() === "$" && this.#depth === 0) break;
      all.push(this.#repeated(this.#atom()));
    }
    return sequence(all);
  }

  #atom(): Part {
    const character = this.#peek();
    this.#at += character.length;
    switch (character) {
      case "(":
        return this.#group();
      case "[":
        return this.#oneOf(this.#class());
      case ".":
        return this.#oneOf(complement(LINE_ENDS));
      case "^":
      case "$":
        return this.#refuse(`${character} within a pattern`);
      case "\\": {
        const escaped = this.#escape();
        return typeof escaped === "string"
          ? plain(characterLanguage(escaped))
          : this.#oneOf(escaped);
      }
      default:
        return plain(characterLanguage(character));
    }
  }

  #oneOf(set: CodePoints): Part {
    try {
      return plain(setLanguage(set) ?? this.#refuse("a class of no character"));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return this.#refuse("a class of many characters beyond ASCII");
    }
  }

  /** What follows a backslash: a character or a set. */
  #escape(): string | CodePoints {
    const code = this.#match(/x([\da-fA-F]{2})|u([\da-fA-F]{4})|u\{([\da-fA-F]+)\}/);
    if (code !== undefined) {
      const unit = parseInt(code.slice(1).find((digits) => digits !== undefined) ?? "", 16);
      if (unit >= 0xd800 && unit <= 0xdfff) this.#refuse("half of a character");
      return String.fromCodePoint(unit);
    }
    const letter = this.#peek();
    this.#at += letter.length;
    if (letter === "c") {
      const [control] = this.#match(/[a-zA-Z]/) ?? [""];
      return String.fromCodePoint(control.charCodeAt(0) % 32);
    }
    if (Object.hasOwn(SETS, letter)) return SETS[letter];
    if (Object.hasOwn(CONTROLS, letter)) return CONTROLS[letter];
    return /[bBkpP1-9]/.test(letter) ? this.#refuse(`\\${letter}`) : letter;
  }

  /** The inside of brackets. */
  #class(): CodePoints {
    const isNot = this.#take("^"), all: CodePoints[number][] = [];
    while (!this.#take("]")) {
      const first = this.#member();
      const isRange = this.source[this.#at] === "-" && this.source[this.#at + 1] !== "]";
      if (typeof first !== "string" || !isRange) {
        all.push(...(typeof first === "string" ? charactersOf(first) : first));
        continue;
      }
      this.#at++;
      const last = this.#member();
      if (typeof last !== "string") this.#refuse("a class within a range");
      all.push([first.codePointAt(0) ?? 0, last.codePointAt(0) ?? 0]);
    }
    const set = union(...all);
    return isNot ? complement(set) : set;
  }

  #member(): string | CodePoints {
    const character = this.#peek();
    this.#at += character.length;
    // Within brackets it is the backspace.
    if (character === "\\") return this.#take("b") ? "\b" : this.#escape();
    return character;
  }

  /** An atom with what says how often it comes. */
  #repeated(atom: Part): Part {
    const found = this.#match(/([*+?])\??|\{(\d+)(,(\d*))?\}\??/);
    if (found === undefined) return atom;
    const [, sign, low, comma, high] = found;
    if (sign !== undefined) {
      return repeated(atom, sign === "+" ? 1 : 0, sign === "?" ? 1 : undefined);
    }
    const least = Number(low), most = comma === undefined ? least : high ? Number(high) : undefined;
    if (Math.max(least, most ?? 0) > MOST_TIMES) {
      this.#refuse(`a repetition of more than ${MOST_TIMES} times`);
    }
    return repeated(atom, least, most);
  }
}

/**
 * What is between the quotation marks of the JSON strings that a pattern matches.
 *
 * @throws {PatternProblem} where it is no pattern, or more than rules can say.
 */
export function patternLanguage(pattern: string): Language {
  try {
    new RegExp(pattern, "u");
  } catch {
    throw new PatternProblem("is no regular expression of JavaScript with Unicode");
  }
  return new PatternReader(pattern).read();
}
