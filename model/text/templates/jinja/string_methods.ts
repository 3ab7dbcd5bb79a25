/**
 * Python's methods of strings. Each finds places in the string and cuts there, so that what is quoted stays
 * known.
 *
 * @module
 */
import { asText, bind, optionalIndex, unnamed } from "./arguments.ts";
import { fail } from "./errors.ts";
import { asIndex, asInteger } from "./integers.ts";
import { softStr } from "./repr.ts";
import { capitalize, KINDS, lower, swapCase, title, upper } from "./string_cases.ts";
import { EMPTY, escapeHtml, SPACE, Text } from "./text.ts";
import {
  type Arguments,
  int,
  iterate,
  List,
  MAX_ITEMS,
  text,
  truth,
  Tuple,
  typeName,
  type Value,
} from "./values.ts";

type Method = (self: Text, args: Arguments) => Value;

const FIRST_BLANKS = new RegExp(`^[${SPACE}]+`);
const LAST_BLANKS = new RegExp(`[${SPACE}]+$`);

/** The string without white space, or without the characters given, at its ends. */
export function strip(value: Text, chars: Value, ends: "both" | "left" | "right" = "both"): Text {
  let start = 0, end = value.value.length;
  if (chars === null) {
    if (ends !== "right") start = FIRST_BLANKS.exec(value.value)?.[0].length ?? 0;
    if (ends !== "left") end -= LAST_BLANKS.exec(value.value.slice(start))?.[0].length ?? 0;
    return value.cut(start, end);
  }
  const points = [...value.value], set = new Set(asText("strip", chars).value);
  let first = 0, last = points.length;
  const inSet = (at: number) => first < last && set.has(points[at]);
  while (ends !== "right" && inSet(first)) first++;
  while (ends !== "left" && inSet(last - 1)) last--;
  return value.slice(first, last);
}

/** The parts between places where `separator` is, the first `most` of them from the left or right. */
function splitAt(value: Text, separator: string, most: number, fromRight: boolean): Text[] {
  if (separator === "") fail("empty separator");
  const places: number[] = [];
  if (fromRight) {
    let end = value.value.length;
    while (places.length < most && end >= separator.length) {
      const place = value.value.lastIndexOf(separator, end - separator.length);
      if (place < 0) break;
      places.unshift(place);
      end = place;
    }
  } else {
    let place = value.value.indexOf(separator);
    while (places.length < most && place >= 0) {
      places.push(place);
      place = value.value.indexOf(separator, place + separator.length);
    }
  }
  const starts = [0, ...places.map((place) => place + separator.length)];
  return starts.map((start, i) => value.cut(start, places[i]));
}

/** The words, parted by any white space; of more than `most` the rest is one. */
export function splitBlanks(value: Text, most = Infinity, fromRight = false): Text[] {
  const words = [...value.value.matchAll(new RegExp(`[^${SPACE}]+`, "g"))]
    .map(({ 0: { length }, index }) => [index, index + length] as const);
  if (words.length <= most) return words.map(([start, end]) => value.cut(start, end));
  if (fromRight) {
    const kept = most === 0 ? [] : words.slice(-most), [, end] = words[words.length - most - 1];
    return [value.cut(0, end), ...kept.map(([from, to]) => value.cut(from, to))];
  }
  const kept = words.slice(0, most), [start] = words[most];
  return [...kept.map(([from, to]) => value.cut(from, to)), value.cut(start)];
}

function split(self: Text, args: Arguments, fromRight: boolean): Value {
  const defaults = { sep: null, maxsplit: -1n };
  const { sep, maxsplit } = bind("split", args, ["sep", "maxsplit"], defaults);
  const limit = asIndex(maxsplit), most = limit < 0 ? Infinity : limit;
  return new List(
    sep === null
      ? splitBlanks(self, most, fromRight)
      : splitAt(self, asText("split", sep).value, most, fromRight),
  );
}

/** What ends a line, for a class of characters. */
const ENDS = "\\n\\v\\f\\r\\x1c-\\x1e\\x85\\u2028\\u2029";
const LINE = new RegExp(`([^${ENDS}]*)(?:\\r\\n|[${ENDS}]|$)`, "g");

/** The lines of a text. */
export function splitLines(value: Text, keepEnds = false): Text[] {
  return [...value.value.matchAll(LINE)].filter(([line]) => line !== "").map((match) => {
    const [whole, line] = match;
    return value.cut(match.index, match.index + (keepEnds ? whole : line).length);
  });
}

/** The string with `old` replaced, the first `most` times. */
export function replace(value: Text, old: string, by: Text, most = Infinity): Text {
  const replacement = value.markup ? escapeHtml(by) : by;
  if (old === "") return replaceNothing(value, replacement, most);
  const parts = splitAt(value, old, most, false);
  if (parts.length * replacement.value.length > MAX_ITEMS * 20) fail("a text gets too long");
  return Text.join(replacement, parts, value.markup);
}

/** Python puts what replaces an empty text before each character and at the end. */
function replaceNothing(value: Text, by: Text, most: number): Text {
  const pieces: Text[] = [];
  let put = 0;
  for (const character of value.characters()) {
    if (put++ < most) pieces.push(by);
    pieces.push(character);
  }
  if (put < most) pieces.push(by);
  return Text.concat(pieces, value.markup);
}

/** The strings of what is gone through, joined. */
export function join(separator: Text, parts: readonly Text[]): Text {
  return separator.markup
    ? Text.join(separator, parts.map(escapeHtml), true)
    : Text.join(separator, parts);
}

/** Bounds of a part, as Python takes `[start:end]`. */
function bounds(length: number, start: number | undefined, end: number | undefined) {
  const place = (at: number) => at < 0 ? Math.max(0, at + length) : at;
  return [place(start ?? 0), Math.min(length, place(end ?? length))];
}

/** Where a text is in a part of the string, in code points; below 0 where it is not. */
function find(self: Text, args: Arguments, called: string, last: boolean): number {
  const [sub, from, to] = unnamed(called, args, 1, 3);
  const wanted = asText(called, sub);
  const [start, end] = bounds(self.length, optionalIndex(from), optionalIndex(to));
  if (start > end) return -1;
  const part = self.slice(start, end), { value } = part;
  const place = last ? value.lastIndexOf(wanted.value) : value.indexOf(wanted.value);
  return place < 0 ? -1 : start + part.point(place);
}

function count(self: Text, args: Arguments): Value {
  const [sub, from, to] = unnamed("count", args, 1, 3);
  const [start, end] = bounds(self.length, optionalIndex(from), optionalIndex(to));
  const wanted = asText("count", sub).value;
  if (start > end) return 0n;
  const part = self.slice(start, end);
  return int(wanted === "" ? part.length + 1 : part.value.split(wanted).length - 1);
}

/** `startswith` and `endswith`, of a text or of a tuple of them. */
function affixed(self: Text, args: Arguments, called: "startswith" | "endswith"): Value {
  const [affix, from, to] = unnamed(called, args, 1, 3);
  const [start, end] = bounds(self.length, optionalIndex(from), optionalIndex(to));
  const all = affix instanceof Tuple ? affix.items : [affix];
  const texts = all.map((one) => {
    if (one instanceof Text) return one.value;
    fail(`${called} first arg must be str or a tuple of str, not ${typeName(one)}`);
  });
  if (start > end) return false;
  const { value } = self.slice(start, end);
  const test = (one: string) =>
    called === "startswith" ? value.startsWith(one) : value.endsWith(one);
  return texts.some(test);
}

/** `ljust`, `rjust` and `center`. */
function justify(self: Text, args: Arguments, called: "ljust" | "rjust" | "center"): Value {
  const [width, fill = text(" ")] = unnamed(called, args, 1, 2);
  const filler = asText(called, fill);
  if (filler.length !== 1) fail("The fill character must be exactly one character long");
  return pad(self, asIndex(width), called, filler);
}

/** The string in a field of at least this width. */
export function pad(
  self: Text,
  width: number,
  how: "ljust" | "rjust" | "center",
  fill: Text = text(" "),
): Text {
  const missing = width - self.length;
  if (missing <= 0) return self;
  if (missing > MAX_ITEMS) fail(`a field of more than ${MAX_ITEMS} characters`);
  // Where the two sides of `center` differ, Python decides by the width's parity.
  const before = how === "ljust" ? 0 : how === "rjust" ? missing : (missing >> 1) +
    (missing & width & 1);
  const filled = (times: number) => Array<Text>(times).fill(fill);
  return Text.concat([...filled(before), self, ...filled(missing - before)], self.markup);
}

function partition(self: Text, args: Arguments, last: boolean): Value {
  const [separator] = unnamed(last ? "rpartition" : "partition", args, 1);
  const wanted = asText("partition", separator);
  if (wanted.value === "") fail("empty separator");
  const at = last ? self.value.lastIndexOf(wanted.value) : self.value.indexOf(wanted.value);
  if (at < 0) return new Tuple(last ? [EMPTY, EMPTY, self] : [self, EMPTY, EMPTY]);
  const end = at + wanted.value.length;
  return new Tuple([self.cut(0, at), self.cut(at, end), self.cut(end)]);
}

function zfill(self: Text, args: Arguments): Value {
  const [width] = unnamed("zfill", args, 1);
  const missing = asIndex(width) - self.length;
  if (missing <= 0) return self;
  if (missing > MAX_ITEMS) fail(`a field of more than ${MAX_ITEMS} characters`);
  const sign = /^[-+]/.test(self.value) ? 1 : 0;
  const zeros = text("0".repeat(missing));
  return Text.concat([self.cut(0, sign), zeros, self.cut(sign)], self.markup);
}

function expandTabs(self: Text, args: Arguments): Value {
  const size = asIndex(bind("expandtabs", args, ["tabsize"], { tabsize: 8n }).tabsize);
  let column = 0;
  return self.map((point) => {
    if (point !== "\t") {
      column = point === "\n" || point === "\r" ? 0 : column + 1;
      return point;
    }
    const width = size > 0 ? size - column % size : 0;
    column += width;
    return " ".repeat(Math.min(width, 1000));
  });
}

const ofCase = (name: string, change: (value: Text) => Text): [string, Method] => [
  name,
  (self, args) => {
    unnamed(name, args, 0);
    return change(self);
  },
];

const found = (place: number): Value => place < 0 ? fail("substring not found") : int(place);

/** The methods by their names; `format` needs attributes of other values and is not among them. */
export const STRING_METHODS: ReadonlyMap<string, Method> = new Map<string, Method>([
  ofCase("capitalize", capitalize),
  ofCase("casefold", (value) => lower(value.map((point) => point === "ß" ? "ss" : point))),
  ofCase("lower", lower),
  ofCase("swapcase", swapCase),
  ofCase("title", title),
  ofCase("upper", upper),
  ...[...KINDS].map(([name, test]): [string, Method] => [
    name,
    (self, args) => {
      unnamed(name, args, 0);
      return test(self.value);
    },
  ]),
  ["center", (self, args) => justify(self, args, "center")],
  ["ljust", (self, args) => justify(self, args, "ljust")],
  ["rjust", (self, args) => justify(self, args, "rjust")],
  ["count", count],
  ["endswith", (self, args) => affixed(self, args, "endswith")],
  ["startswith", (self, args) => affixed(self, args, "startswith")],
  ["expandtabs", expandTabs],
  ["find", (self, args) => int(find(self, args, "find", false))],
  ["rfind", (self, args) => int(find(self, args, "rfind", true))],
  ["index", (self, args) => found(find(self, args, "index", false))],
  ["rindex", (self, args) => found(find(self, args, "rindex", true))],
  ["join", (self, args) => {
    const [parts] = unnamed("join", args, 1);
    const texts = [...iterate(parts)].map((part, i) => {
      if (part instanceof Text) return part;
      if (self.markup) return softStr(part);
      fail(`sequence item ${i}: expected str instance, ${typeName(part)} found`);
    });
    return join(self, texts);
  }],
  ["strip", (self, args) => strip(self, unnamed("strip", args, 0, 1)[0] ?? null)],
  ["lstrip", (self, args) => strip(self, unnamed("lstrip", args, 0, 1)[0] ?? null, "left")],
  ["rstrip", (self, args) => strip(self, unnamed("rstrip", args, 0, 1)[0] ?? null, "right")],
  ["partition", (self, args) => partition(self, args, false)],
  ["rpartition", (self, args) => partition(self, args, true)],
  ["removeprefix", (self, args) => {
    const { value } = asText("removeprefix", unnamed("removeprefix", args, 1)[0]);
    return self.value.startsWith(value) ? self.cut(value.length) : self;
  }],
  ["removesuffix", (self, args) => {
    const { value } = asText("removesuffix", unnamed("removesuffix", args, 1)[0]);
    return self.value.endsWith(value) ? self.cut(0, self.value.length - value.length) : self;
  }],
  ["replace", (self, args) => {
    const [old, by, most = -1n] = unnamed("replace", args, 2, 3);
    const limit = asInteger(most);
    const times = limit < 0n ? Infinity : Number(limit);
    return replace(self, asText("replace", old).value, asText("replace", by), times);
  }],
  ["split", (self, args) => split(self, args, false)],
  ["rsplit", (self, args) => split(self, args, true)],
  ["splitlines", (self, args) => {
    const { keepends } = bind("splitlines", args, ["keepends"], { keepends: false });
    return new List(splitLines(self, truth(keepends)));
  }],
  ["zfill", zfill],
]);
