/**
 * Strings that know where their characters are from.
 *
 * A chat template writes control tokens, and so may a user into a message. What a template makes of a
 * message depends on the message alone, so nothing may be put into it: instead, each string carries which
 * of its characters are quoted from messages, and every operation on strings keeps that. The same tells which
 * message a template was at when it wrote something, from which follows what of a conversation is learnt.
 *
 * @module
 */
import { spend } from "./budget.ts";
import { fail } from "./errors.ts";

/** The longest string, in UTF-16 units. */
const MAX_LENGTH = 20_000_000;

const SURROGATE = /[\ud800-\udfff]/;

/** Where characters are from. */
export interface Origin {
  /** Whether they are quoted from what the template was given, and so are letters whatever they read as. */
  readonly quoted: boolean;
  /** The number of the message that they are quoted from; undefined for what is no message's. */
  readonly from?: number;
  /** The number of the message whose turn of a loop they were written in. */
  readonly during?: number;
  /** Whether the template says that the model makes them (`generation`). */
  readonly generated?: boolean;
}

/** UTF-16 units of one origin. */
export interface Run {
  readonly start: number;
  readonly end: number;
  readonly origin: Origin;
}

const NONE: readonly Run[] = [];
/** What the template itself writes. */
const OWN: Origin = { quoted: false };
const QUOTED: Origin = { quoted: true };

/** A Python `str`: indexed by code points. */
export class Text {
  #points: Uint32Array | null | undefined;

  /**
   * @param runs What is not the template's own alone, in ascending order and apart.
   * @param markup Whether it is a `Markup`, which `safe` and `escape` make.
   */
  constructor(
    readonly value: string,
    readonly runs: readonly Run[] = NONE,
    readonly markup = false,
  ) {
    spend(value.length);
    if (value.length > MAX_LENGTH) fail(`a text of more than ${MAX_LENGTH} characters is made`);
  }

  /** A string all of whose characters are quoted, where they are from. */
  static quote(value: string, origin = QUOTED): Text {
    return value === "" ? EMPTY : new Text(value, [{ start: 0, end: value.length, origin }]);
  }

  /** Strings one after the other. */
  static concat(parts: readonly Text[], markup = false): Text {
    const runs: Run[] = [];
    let offset = 0;
    for (const part of parts) {
      for (const run of part.runs) {
        const start = run.start + offset, end = run.end + offset, last = runs.at(-1);
        if (last?.end === start && last.origin === run.origin) {
          runs[runs.length - 1] = { ...last, end };
        } else runs.push({ start, end, origin: run.origin });
      }
      offset += part.value.length;
      if (offset > MAX_LENGTH) break;
    }
    return new Text(parts.map(({ value }) => value).join(""), runs, markup);
  }

  /** Strings with another between each two. */
  static join(separator: Text, parts: readonly Text[], markup = false): Text {
    return Text.concat(parts.flatMap((part, i) => i === 0 ? [part] : [separator, part]), markup);
  }

  /** Where the code points begin, in UTF-16 units, and the end; null where each unit is one. */
  get #offsets(): Uint32Array | null {
    if (this.#points === undefined) {
      if (!SURROGATE.test(this.value)) this.#points = null;
      else {
        const offsets: number[] = [];
        let offset = 0;
        for (const point of this.value) {
          offsets.push(offset);
          offset += point.length;
        }
        offsets.push(offset);
        this.#points = Uint32Array.from(offsets);
      }
    }
    return this.#points;
  }

  /** Number of code points. */
  get length(): number {
    return this.#offsets === null ? this.value.length : this.#offsets.length - 1;
  }

  /** UTF-16 offset of a code point. */
  unit(point: number): number {
    const offsets = this.#offsets;
    return offsets === null ? point : offsets[Math.min(point, offsets.length - 1)];
  }

  /** Number of the code point at a UTF-16 offset. */
  point(unit: number): number {
    const offsets = this.#offsets;
    if (offsets === null || unit < 0) return unit;
    let low = 0, high = offsets.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (offsets[middle] < unit) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The part between two UTF-16 offsets. */
  cut(start: number, end: number = this.value.length): Text {
    if (start <= 0 && end >= this.value.length) return this;
    const runs: Run[] = [];
    for (const run of this.runs) {
      const from = Math.max(run.start, start), to = Math.min(run.end, end);
      if (from < to) runs.push({ start: from - start, end: to - start, origin: run.origin });
    }
    return new Text(this.value.slice(start, end), runs, this.markup);
  }

  /** The part between two code points, both between 0 and `length`. */
  slice(start: number, end: number): Text {
    return this.cut(this.unit(start), this.unit(Math.max(start, end)));
  }

  /** The code points as strings of their own. */
  *characters(): Generator<Text> {
    let offset = 0;
    for (const point of this.value) {
      yield this.cut(offset, offset + point.length).plain();
      offset += point.length;
    }
  }

  /** The string with each code point replaced by what `change` makes of it. */
  map(change: (point: string, index: number) => string): Text {
    const points = [...this.value];
    if (this.runs.length === 0) return new Text(points.map(change).join(""), NONE, this.markup);
    const parts: Text[] = [];
    let offset = 0;
    points.forEach((point, i) => {
      parts.push(this.cut(offset, offset + point.length).as(change(point, i)));
      offset += point.length;
    });
    return Text.concat(parts, this.markup);
  }

  /** Another text in place of this one, quoted where any of this one is. */
  as(value: string): Text {
    const run = this.runs.find(({ origin }) => origin.quoted) ?? this.runs.at(0);
    const runs = run !== undefined && value !== ""
      ? [{ start: 0, end: value.length, origin: run.origin }]
      : NONE;
    return new Text(value, runs, this.markup);
  }

  /** The string with what is changed of where its characters are from. */
  from(change: (origin: Origin) => Origin): Text {
    if (this.value === "") return this;
    const changed = new Map<Origin, Origin>(), runs: Run[] = [];
    const add = (start: number, end: number, origin: Origin) => {
      if (start === end) return;
      const to = changed.get(origin) ?? change(origin);
      changed.set(origin, to);
      runs.push({ start, end, origin: to });
    };
    let at = 0;
    for (const { start, end, origin } of this.runs) {
      add(at, start, OWN);
      add(start, end, origin);
      at = end;
    }
    add(at, this.value.length, OWN);
    return new Text(this.value, runs, this.markup);
  }

  /** The string as an ordinary one, in place of a `Markup`. */
  plain(): Text {
    return this.markup ? new Text(this.value, this.runs) : this;
  }

  /** The string as `Markup`. */
  marked(): Text {
    return this.markup ? this : new Text(this.value, this.runs, true);
  }

  /** Whether any unit between two UTF-16 offsets is quoted. */
  isQuoted(start: number, end: number): boolean {
    return this.runs.some((run) => run.origin.quoted && run.start < end && start < run.end);
  }
}

/** The empty string. */
export const EMPTY = new Text("");

/** Python's white space, for a class of characters in a regular expression. */
export const SPACE =
  "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

/** `Markup.escape`: the characters that HTML needs escaped, of what isn't `Markup` already. */
export function escapeHtml(text: Text): Text {
  if (text.markup) return text;
  const escapes: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "'": "&#39;",
    '"': "&#34;",
  };
  return (/[&<>'"]/.test(text.value) ? text.map((point) => escapes[point] ?? point) : text)
    .marked();
}
