/**
 * Regular expressions of Python's `re`, as JavaScript's.
 *
 * https://docs.python.org/3/library/re.html is the syntax. What JavaScript has no words for (possessive quantifiers,
 * atomic groups, conditions) is refused.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { SPACE } from "../../../model/text/templates/jinja/text.ts";

/** What Python's classes hold of characters beyond ASCII as well, for use between brackets. */
const CLASSES: Readonly<Record<string, string>> = {
  d: "\\p{Nd}",
  w: "\\p{L}\\p{N}_",
  s: SPACE,
};

/** The class of a letter, which a capital negates. */
function setOf(letter: string): string {
  const small = letter.toLowerCase();
  return `[${letter === small ? "" : "^"}${CLASSES[small]}]`;
}

const WORD = `[${CLASSES.w}]`;
const BOUNDARY = `(?:(?<=${WORD})(?!${WORD})|(?<!${WORD})(?=${WORD}))`;
const NO_BOUNDARY = `(?:(?<=${WORD})(?=${WORD})|(?<!${WORD})(?!${WORD}))`;
const END = "(?![^])";

/** Escapes of single characters that mean the same in both. */
const CONTROLS: Readonly<Record<string, string>> = {
  a: "\\x07",
  f: "\\f",
  n: "\\n",
  r: "\\r",
  t: "\\t",
  v: "\\v",
};

/** A character that stands for itself. */
const literal = (character: string) =>
  /[\^$\\.*+?()[\]{}|/]/.test(character) ? `\\${character}` : character;

/** A character that stands for itself between brackets, where JavaScript gives some of them a meaning in pairs. */
const literalInClass = (character: string) =>
  /[\^$\\.*+?()[\]{}|/&!#%,:;<=>@`~-]/.test(character) ? `\\${character}` : character;

/** A character by its octal number. */
const codePoint = (octal: string) => `\\u{${Number.parseInt(octal, 8).toString(16)}}`;

/** Reads a pattern from its beginning to its end. */
class Translator {
  #at = 0;
  /** Flags that the pattern begins with. */
  #multiline = false;
  #verbose = false;
  #dotAll = false;
  #out = "";

  constructor(readonly pattern: string, readonly where: string) {}

  #refuse(what: string): never {
    throw new UserError(
      `${this.where}: the regular expression ${JSON.stringify(this.pattern)} ${what}`,
    );
  }

  #take(expression: RegExp): RegExpExecArray | null {
    const sticky = new RegExp(expression, `${expression.flags}y`);
    sticky.lastIndex = this.#at;
    const match = sticky.exec(this.pattern);
    if (match) this.#at += match[0].length;
    return match;
  }

  run(): RegExp {
    const flags = this.#take(/\(\?([aiLmsux]+)\)/u)?.[1] ?? "";
    if (/[aL]/.test(flags)) this.#refuse("has the flag a or L, which is not supported");
    this.#multiline = flags.includes("m");
    this.#verbose = flags.includes("x");
    this.#dotAll = flags.includes("s");
    while (this.#at < this.pattern.length) this.#part();
    try {
      return new RegExp(this.#out, flags.includes("i") ? "giv" : "gv");
    } catch {
      return this.#refuse("is not one that can be read; expected one of Python's re");
    }
  }

  #part(): void {
    if (this.#verbose && this.#take(/\s+|#[^\n]*/u)) return;
    if (this.#take(/\(\?#[^)]*\)/u)) return;
    const named = this.#take(/\(\?P<(\w+)>/u);
    if (named) return void (this.#out += `(?<${named[1]}>`);
    const back = this.#take(/\(\?P=(\w+)\)/u);
    if (back) return void (this.#out += `\\k<${back[1]}>`);
    if (this.#take(/\(\?(?:>|\()/u)) {
      this.#refuse("has an atomic or conditional group, which is not supported");
    }
    if (this.#take(/\(\?[aiLmsux]+\)/u)) this.#refuse("has flags after its beginning");
    const group = this.#take(/\((?:\?(?::|=|!|<=|<!|i:|-i:))?/u);
    if (group) return void (this.#out += group[0]);
    const quantifier = this.#take(/[*+?]\??(\+)?|\{(\d*)(,?)(\d*)\}\??(\+)?/u);
    if (quantifier) return this.#quantifier(quantifier);
    if (this.#take(/\[/u)) return this.#class();
    if (this.#take(/\\/u)) return this.#escape();
    const character = this.#take(/[^]/u)?.[0] ?? "";
    if (character === "^") this.#out += this.#multiline ? "(?<![^\\n])" : "(?<![^])";
    else if (character === "$") this.#out += this.#multiline ? `(?=\\n|${END})` : `(?=\\n?${END})`;
    else if (character === ".") this.#out += this.#dotAll ? "[^]" : "[^\\n]";
    else if ("{}]".includes(character)) this.#out += literal(character);
    else this.#out += character === "/" ? "\\/" : character;
  }

  #quantifier([whole, possessive, from, comma, to, alsoPossessive]: RegExpExecArray): void {
    if (possessive || alsoPossessive) {
      this.#refuse("has a possessive quantifier, which is not supported");
    }
    if (from === "" && to === "") {
      // Braces around nothing, or a comma alone, are letters.
      this.#out += [...whole].map(literal).join("");
    } else this.#out += from === "" && comma ? whole.replace("{,", "{0,") : whole;
  }

  /** What follows a backslash outside brackets. */
  #escape(): void {
    const octal = this.#take(/[0-3][0-7]{2}/u);
    if (octal) return void (this.#out += codePoint(octal[0]));
    const reference = this.#take(/[1-9]\d?/u);
    if (reference) return void (this.#out += `(?:\\${reference[0]})`);
    const letter = this.#take(/[AZbBdDwWsS]/u)?.[0];
    switch (letter) {
      case undefined:
        this.#out += this.#character();
        return;
      case "A":
        this.#out += "(?<![^])";
        return;
      case "Z":
        this.#out += END;
        return;
      case "b":
        this.#out += BOUNDARY;
        return;
      case "B":
        this.#out += NO_BOUNDARY;
        return;
      default:
        this.#out += setOf(letter);
    }
  }

  /** A character that a backslash stands before. */
  #character(itself: (character: string) => string = literal): string {
    const code = this.#take(/x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})/u);
    if (code) return `\\u{${code[1] ?? code[2] ?? code[3]}}`;
    const octal = this.#take(/0[0-7]{0,2}/u);
    if (octal) return codePoint(octal[0]);
    const character = this.#take(/[^]/u)?.[0];
    if (character === undefined) this.#refuse("ends in a backslash");
    if (Object.hasOwn(CONTROLS, character)) return CONTROLS[character];
    if (/[A-Za-z0-9]/.test(character)) this.#refuse(`has the unknown escape \\${character}`);
    return itself(character);
  }

  /** What is between brackets. */
  #class(): void {
    this.#out += this.#take(/\^/u) ? "[^" : "[";
    for (let first = true; first || this.pattern[this.#at] !== "]"; first = false) {
      if (this.#at >= this.pattern.length) this.#refuse("has brackets without an end");
      if (!this.#take(/\\/u)) {
        const character = this.#take(/[^]/u)?.[0] ?? "";
        const isRange = character === "-" && !first && this.pattern[this.#at] !== "]";
        this.#out += isRange ? "-" : literalInClass(character);
        continue;
      }
      const letter = this.#take(/[dwsDWSb]/u)?.[0];
      if (letter === "b") this.#out += "\\x08";
      else if (letter === undefined) this.#out += this.#character(literalInClass);
      else this.#out += setOf(letter);
    }
    this.#at++;
    this.#out += "]";
  }
}

/**
 * The expression for JavaScript, with the flags `g` and `v`.
 *
 * @param where What has the pattern, for messages.
 * @throws {UserError} where it is none, or has what JavaScript has not.
 */
export function pythonExpression(pattern: string, where: string): RegExp {
  return new Translator(pattern, where).run();
}

/** `re.findall`: the matches, or what their groups hold, one alone by itself. */
export function findAll(expression: RegExp, text: string): (string | string[])[] {
  return Array.from(text.matchAll(expression), ([whole, ...groups]) => {
    if (groups.length === 0) return whole;
    const held = groups.map((group: string | undefined) => group ?? "");
    return held.length === 1 ? held[0] : held;
  });
}

/**
 * `re.sub`.
 *
 * @param replacement In which `\1` and `\g<name>` stand for groups.
 * @param count Of how many matches at most; 0 for all.
 */
export function substitute(
  expression: RegExp,
  replacement: string,
  text: string,
  count = 0,
): string {
  let out = "", end = 0, done = 0;
  for (const match of text.matchAll(expression)) {
    if (count > 0 && done++ === count) break;
    out += text.slice(end, match.index) + expanded(replacement, match);
    end = match.index + match[0].length;
  }
  return out + text.slice(end);
}

const REFERENCE = /\\(?:g<(?<name>\w+)>|(?<number>[1-9]\d?)|(?<letter>[nt\\]))/g;
const LETTERS: Readonly<Record<string, string>> = { n: "\n", t: "\t", "\\": "\\" };

/** A replacement with what the groups of a match hold. */
function expanded(replacement: string, match: RegExpMatchArray): string {
  let out = "", end = 0;
  for (const reference of replacement.matchAll(REFERENCE)) {
    const { name, number, letter } = reference.groups ?? {};
    const group = name ?? number;
    const held = /^\d+$/.test(group ?? "") ? match[Number(group)] : match.groups?.[group ?? ""];
    out += replacement.slice(end, reference.index) + (letter ? LETTERS[letter] : held ?? "");
    end = reference.index + reference[0].length;
  }
  return out + replacement.slice(end);
}
