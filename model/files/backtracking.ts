/**
 * Regular expressions that come from a file, of which some take for ever: this runtime tries one way after the other of
 * matching a text, and `(a+)+b` has 2^n of them for n letters. So before an expression is used, the characters are
 * counted that all ways of short texts look at. Where they grow faster than the square of a text's length, it is refused.
 *
 * @module
 */

/** Part of an expression, as far as ways are concerned: what a look around finds takes no text. */
type Node =
  | { kind: "set"; source: string }
  | { kind: "sequence"; parts: Node[] }
  | { kind: "choice"; options: Node[] }
  | { kind: "repeat"; body: Node; least: number; most: number };

const NOTHING: Node = { kind: "sequence", parts: [] };

/** A quantifier: fewest, most, and whether as few as possible. */
const QUANTIFIER = /([*+?]|\{(\d+)(?:(,)(\d*))?\})\??/y;
/** One character, class or property outside of brackets. */
const ESCAPE = /\\(?:[pP]\{[^}]*\}|u\{[^}]*\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|c[A-Za-z]|[^])/y;
/** What takes no text: places, and what a group has taken before. */
const PLACE = /\^|\$|\\[bB]|\\[1-9]\d*|\\k<[^>]*>/y;
const GROUP = /\((\?(?:<?[=!]|<[^>]*>|[a-z-]*:))?/y;

/** Reads the source of a regular expression that this runtime has accepted. */
class Reader {
  #at = 0;
  /** Whether a group, or a choice, is repeated without an end. */
  nested = false;

  constructor(readonly source: string) {}

  read(): Node {
    const options: Node[] = [];
    do options.push(this.#sequence()); while (this.#take(/\|/y) !== undefined);
    return options.length === 1 ? options[0] : { kind: "choice", options };
  }

  #take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.source) ?? undefined;
    this.#at += found?.[0].length ?? 0;
    return found;
  }

  #sequence(): Node {
    const parts: Node[] = [];
    while (this.#at < this.source.length && !/[|)]/.test(this.source[this.#at])) {
      parts.push(this.#quantified(this.#atom()));
    }
    return { kind: "sequence", parts };
  }

  #atom(): Node {
    if (this.#take(PLACE) !== undefined) return NOTHING;
    const group = this.#take(GROUP);
    if (group !== undefined) {
      const inside = this.read();
      this.#at++; // its end
      return /^\?<?[=!]/.test(group[1] ?? "") ? NOTHING : inside;
    }
    if (this.source[this.#at] === "[") return { kind: "set", source: this.#set() };
    const [character] = this.#take(ESCAPE) ?? this.#take(/[^]/uy) ?? [""];
    return { kind: "set", source: character };
  }

  /** A class with all that is nested in it. */
  #set(): string {
    const begin = this.#at;
    let depth = 0;
    do {
      const [part] = this.#take(ESCAPE) ?? this.#take(/[^]/y) ?? ["]"];
      if (part === "[") depth++;
      if (part === "]") depth--;
    } while (depth > 0 && this.#at < this.source.length);
    return this.source.slice(begin, this.#at);
  }

  #quantified(body: Node): Node {
    const found = this.#take(QUANTIFIER);
    if (found === undefined) return body;
    const [, sign, count, comma, last] = found;
    const least = count === undefined ? (sign === "+" ? 1 : 0) : Number(count);
    const most = count === undefined
      ? (sign === "?" ? 1 : Infinity)
      : comma === undefined
      ? least
      : last === ""
      ? Infinity
      : Number(last);
    if (most > 1 && body.kind !== "set") this.nested = true;
    return { kind: "repeat", body, least, most };
  }
}

/** Characters that classes are told apart by, beside those of the expression itself. */
const SAMPLES = [..."aA1 \n\t'.,_-é中ก", "\u0301", "²", "🦜"];
/** More kinds of characters than this are not looked at. */
const MOST_KINDS = 6;
/** Characters of the texts that are tried: one letter, or one word, over and over. */
const ONE_LETTER = 32, WORDS = 48;
/**
 * Looks at characters that are too many. Tokenizers' patterns have some 30 to 700 for such texts (two quantifiers side by
 * side, which is the square of the length), three quantifiers 19,000, and a quantifier in a quantifier 2^32.
 */
const MOST_LOOKS = 4000;
/** The same of expressions for names, which are short: only what doubles with every letter is too much. */
export const MOST_LOOKS_AT_NAMES = 10_000_000;
/** Parts of an expression that are gone through for one text; more is as bad. */
const MOST_PARTS = 100_000;

/** Counts the characters that are looked at to find every way in which an expression matches beginnings of a text. */
class Looks {
  #looks = 0;
  #parts = 0;
  readonly #sets = new Map<string, RegExp>();
  readonly #matches = new Map<string, boolean>();

  /** @param most Looks after which nothing more is counted. */
  constructor(readonly flags: string, readonly most: number) {}

  /** Whether a class has a character. */
  has(source: string, character: string): boolean {
    const key = `${character}${source}`, known = this.#matches.get(key);
    if (known !== undefined) return known;
    const set = this.#sets.get(source) ?? new RegExp(`^(?:${source})$`, this.flags);
    this.#sets.set(source, set);
    const matches = set.test(character);
    this.#matches.set(key, matches);
    return matches;
  }

  /** The ways by the place where they end, of a text from each of its places with so many ways to come there. */
  #after(node: Node, text: readonly string[], from: Float64Array): Float64Array {
    const to = new Float64Array(from.length);
    if (++this.#parts > MOST_PARTS) this.#looks = Infinity;
    if (this.#looks > this.most) return to;
    switch (node.kind) {
      case "set":
        for (let at = 0; at < text.length; at++) {
          this.#looks += from[at];
          if (from[at] > 0 && this.has(node.source, text[at])) to[at + 1] += from[at];
        }
        return to;
      case "sequence":
        return node.parts.reduce((ways, part) => this.#after(part, text, ways), from);
      case "choice":
        for (const option of node.options) {
          this.#after(option, text, from).forEach((ways, at) => to[at] += ways);
        }
        return to;
      case "repeat": {
        let now = from;
        for (let turn = 0; turn <= Math.min(node.most, text.length); turn++) {
          if (turn >= node.least) now.forEach((ways, at) => to[at] += ways);
          const next = this.#after(node.body, text, now);
          // A turn that takes nothing ends a repetition; here none is taken.
          now = turn < node.least ? next : withoutStanding(next, now);
          if (!now.some((ways) => ways > 0)) break;
        }
        return to;
      }
    }
  }

  /** Characters that are looked at for a text. */
  of(node: Node, text: readonly string[]): number {
    const from = new Float64Array(text.length + 1);
    from[0] = 1;
    this.#looks = this.#parts = 0;
    this.#after(node, text, from);
    return this.#looks;
  }
}

/** Ways after a turn without those that took nothing in it, which are there once where there are any. */
function withoutStanding(next: Float64Array, now: Float64Array): Float64Array {
  const first = now.findIndex((ways) => ways > 0);
  const moved = next.slice();
  // The first place can be come to only by standing still.
  if (first >= 0) moved[first] = 0;
  return moved;
}

/** The classes and characters of an expression. */
function setsOf(node: Node): string[] {
  switch (node.kind) {
    case "set":
      return [node.source];
    case "sequence":
      return node.parts.flatMap(setsOf);
    case "choice":
      return node.options.flatMap(setsOf);
    case "repeat":
      return setsOf(node.body);
  }
}

/** Quantifiers that one way can go through, of which each can take more or less. */
function choicesIn(node: Node): number {
  switch (node.kind) {
    case "set":
      return 0;
    case "sequence":
      return node.parts.reduce((sum, part) => sum + choicesIn(part), 0);
    case "choice":
      return Math.max(...node.options.map(choicesIn));
    case "repeat":
      return choicesIn(node.body) + (node.least === node.most ? 0 : 1);
  }
}

/** Characters of which each belongs to other classes of the expression than the ones before. */
function kindsOf(node: Node, looks: Looks): string[] {
  const sets = [...new Set(setsOf(node))], kinds = new Map<string, string>();
  const own = sets.filter((source) => [...source].length === 1);
  for (const character of [...own, ...SAMPLES]) {
    const in_ = sets.map((source) => looks.has(source, character) ? 1 : 0).join("");
    if (in_.includes("1") && !kinds.has(in_)) kinds.set(in_, character);
  }
  return [...kinds.values()].slice(0, MOST_KINDS);
}

/** Words of one to three of these characters. */
function* wordsOf(characters: readonly string[]): Generator<string[]> {
  for (const a of characters) {
    for (const b of characters) {
      if (a !== b) yield [a, b];
      for (const c of characters) if (a !== b || b !== c) yield [a, b, c];
    }
  }
}

/**
 * A letter or word that makes an expression take for ever where it is repeated often enough.
 *
 * @param most Looks at characters of a short text that are not too many.
 * @returns undefined where none is found.
 */
export function endlessWord(
  { source, flags }: RegExp,
  most: number = MOST_LOOKS,
): string | undefined {
  const reader = new Reader(source), node = reader.read();
  // Two quantifiers take the square of a text's length at most.
  if (!reader.nested && choicesIn(node) <= 2) return undefined;
  const looks = new Looks(flags.replace(/[gy]/g, ""), most), kinds = kindsOf(node, looks);
  for (const kind of kinds) {
    if (looks.of(node, Array(ONE_LETTER).fill(kind)) > most) return kind;
  }
  if (!reader.nested) return undefined;
  for (const word of wordsOf(kinds)) {
    const text = Array.from({ length: WORDS }, (_, i) => word[i % word.length]);
    if (looks.of(node, text) > most) return word.join("");
  }
}
