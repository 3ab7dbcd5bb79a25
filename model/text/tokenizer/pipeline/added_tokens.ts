/**
 * Tokens that were added to a model's vocabulary: which ids they have, and where a text holds them, as the
 * Rust library `tokenizers` has it.
 *
 * @module
 */
import { SPACE, WORD } from "./unicode.ts";

/** A token that is found in the text before the model sees it. */
export interface AddedToken {
  content: string;
  /** It is not found inside a word. */
  single_word: boolean;
  /** White space before it belongs to it. */
  lstrip: boolean;
  /** White space after it belongs to it. */
  rstrip: boolean;
  /** It is looked for in the normalized text, and not in the text itself. */
  normalized: boolean;
  /** It is a control token, which decoding leaves out. */
  special: boolean;
}

/** A token with the usual settings, and those given. */
export function addedToken(content: string, given: Partial<AddedToken> = {}): AddedToken {
  return {
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: !given.special,
    special: false,
    ...given,
  };
}

/**
 * A token from JSON; a setting that is not true or false counts as absent.
 *
 * @param special Whether it is a control token, whatever the JSON says.
 */
export function tokenFromJson(
  content: string,
  json: Readonly<Record<string, unknown>>,
  special = false,
): AddedToken {
  const isSpecial = special || json.special === true;
  return addedToken(content, {
    special: isSpecial,
    single_word: json.single_word === true,
    lstrip: json.lstrip === true,
    rstrip: json.rstrip === true,
    normalized: typeof json.normalized === "boolean" ? json.normalized : !isSpecial,
  });
}

/** A part of a text: what an added token covers, with its id, or what is between two of them. */
export interface Section {
  start: number;
  end: number;
  id: number | undefined;
}

/** Whether a token that stands between two offsets counts. */
export type Takes = (token: AddedToken, start: number, end: number) => boolean;

const ENDS_WITH_WORD = new RegExp(`${WORD}$`, "v");
const STARTS_WITH_WORD = new RegExp(`^${WORD}`, "v");
const SPACES = new RegExp(`^${SPACE}+`, "v");

/** Where the white space begins that ends at `end`. */
function spacesBefore(text: string, end: number): number {
  // All of White_Space is in the basic plane.
  const space = new RegExp(SPACE, "v");
  let start = end;
  while (start > 0 && space.test(text[start - 1])) start--;
  return start;
}

/** Tokens by how they are written, to be found in a text; of several that begin together the longest. */
class Finder {
  /** Tokens by their first UTF-16 unit, the longest first. */
  readonly #byFirst = new Map<number, { written: string; token: AddedToken; id: number }[]>();

  /** @throws {RangeError} where a token is nothing as it is written, or two are the same. */
  constructor(tokens: Iterable<{ written: string; token: AddedToken; id: number }>) {
    for (const entry of tokens) {
      const content = JSON.stringify(entry.token.content);
      if (entry.written === "") {
        throw new RangeError(
          `has the added token ${content}, of which its normalizer leaves nothing`,
        );
      }
      const first = entry.written.charCodeAt(0);
      const list = this.#byFirst.get(first) ?? [];
      const same = list.find(({ written }) => written === entry.written);
      if (same !== undefined) {
        const other = JSON.stringify(same.token.content);
        throw new RangeError(
          `has the added tokens ${other} and ${content}, which its normalizer makes the same`,
        );
      }
      list.push(entry);
      this.#byFirst.set(first, list);
    }
    for (const list of this.#byFirst.values()) {
      list.sort((a, b) => b.written.length - a.written.length);
    }
  }

  /** The whole text as sections. */
  sections(text: string, takes: Takes): Section[] {
    const found: Section[] = [];
    let done = 0;
    for (let at = 0; at < text.length; at++) {
      const entry = this.#byFirst.get(text.charCodeAt(at))
        ?.find(({ written }) => text.startsWith(written, at));
      if (entry === undefined) continue;
      const { token, id, written } = entry;
      let start = at, end = at + written.length;
      // What was found is passed over, also where it does not count.
      at = end - 1;
      if (!takes(token, start, end)) continue;
      if (token.single_word) {
        const inside = ENDS_WITH_WORD.test(text.slice(Math.max(0, start - 2), start)) ||
          STARTS_WITH_WORD.test(text.slice(end, end + 2));
        if (inside) continue;
      }
      if (token.lstrip) start = Math.max(spacesBefore(text, start), done);
      if (token.rstrip) end += SPACES.exec(text.slice(end))?.[0].length ?? 0;
      // The token before has taken all of it as its white space.
      if (token.lstrip && end <= start) continue;
      if (done < start) found.push({ start: done, end: start, id: undefined });
      found.push({ start, end, id });
      done = end;
    }
    if (done !== text.length) found.push({ start: done, end: text.length, id: undefined });
    return found;
  }
}

/** Whether two tokens are alike in everything. */
function same(a: AddedToken, b: AddedToken): boolean {
  return a.content === b.content && a.single_word === b.single_word && a.lstrip === b.lstrip &&
    a.rstrip === b.rstrip && a.normalized === b.normalized && a.special === b.special;
}

/** What an added vocabulary is built upon. */
export interface BaseVocabulary {
  /** Number of the model's tokens. */
  size: number;
  id(token: string): number | undefined;
}

/** The added tokens of a tokenizer. */
export class AddedVocabulary {
  readonly #ids = new Map<string, number>();
  readonly #tokens = new Map<number, AddedToken>();
  readonly #special = new Set<string>();
  /** Above every id of an added token. */
  #next = 0;
  #finders: { plain: Finder; normalized: Finder } | undefined;

  constructor(readonly base: BaseVocabulary, readonly normalize: (text: string) => string) {}

  /** The id of a token, added or not. */
  id(content: string): number | undefined {
    return this.#ids.get(content) ?? this.base.id(content);
  }

  /** Added tokens by id. */
  get tokens(): ReadonlyMap<number, AddedToken> {
    return this.#tokens;
  }

  /** Whether a token, by its text, is a control token. */
  isSpecial(content: string): boolean {
    return this.#special.has(content);
  }

  /**
   * Adds a token. One that the vocabulary has keeps its id; others get the next free one, whatever id a
   * file gives them.
   */
  add(token: AddedToken): void {
    if (token.special && token.content !== "") this.#special.add(token.content);
    const old = this.#tokens.get(this.#ids.get(token.content) ?? -1);
    if (token.content === "" || (old !== undefined && same(old, token))) return;
    const id = this.id(token.content) ?? Math.max(this.base.size, this.#next);
    this.#next = Math.max(this.#next, id + 1);
    this.#ids.set(token.content, id);
    this.#tokens.set(id, token);
    this.#finders = undefined;
  }

  #find(): { plain: Finder; normalized: Finder } {
    if (this.#finders !== undefined) return this.#finders;
    const entries = [...this.#tokens].map(([id, token]) => ({ id, token }));
    const plain = entries.filter(({ token }) => !token.normalized);
    const normalized = entries.filter(({ token }) => token.normalized);
    return this.#finders = {
      plain: new Finder(plain.map((entry) => ({ ...entry, written: entry.token.content }))),
      normalized: new Finder(
        normalized.map((entry) => ({ ...entry, written: this.normalize(entry.token.content) })),
      ),
    };
  }

  /** Cuts a text at the tokens that are looked for as they are. */
  sections(text: string, takes: Takes): Section[] {
    return this.#find().plain.sections(text, takes);
  }

  /** Cuts a normalized text at the tokens that are looked for there. */
  normalizedSections(text: string, takes: Takes): Section[] {
    return this.#find().normalized.sections(text, takes);
  }
}
