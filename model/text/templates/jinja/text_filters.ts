/**
 * Jinja2's filters of texts.
 *
 * @module
 */
import { asText, bind } from "./arguments.ts";
import type { Filter } from "./environment.ts";
import { fail } from "./errors.ts";
import { asIndex } from "./integers.ts";
import { jsonIndent, writeJsonText } from "./json.ts";
import { percentFormat } from "./percent_format.ts";
import { softStr, str } from "./repr.ts";
import { capitalize, lower, upper } from "./string_cases.ts";
import { pad, replace, splitBlanks, splitLines, strip } from "./string_methods.ts";
import { escapeHtml, SPACE, Text } from "./text.ts";
import {
  Dict,
  int,
  iterate,
  iteratorOf,
  lengthOf,
  text,
  truth,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";
import { wrapText } from "./wrap.ts";

/** A filter that takes a text and nothing else. */
function ofText(name: string, change: (value: Text) => Value): [string, Filter] {
  return [name, (input, args) => {
    bind(name, args, []);
    return change(softStr(input));
  }];
}

/** Words begin after white space and some brackets; all else is in lower case. */
function titleWords(value: Text): Text {
  const begins = new RegExp(`[-${SPACE}({\\[<]`);
  let first = true;
  return value.plain().map((point) => {
    const changed = first ? point.toUpperCase() : point.toLowerCase();
    first = begins.test(point);
    return changed;
  });
}

const indent: Filter = (input, args) => {
  const { width, first, blank } = bind("indent", args, ["width", "first", "blank"], {
    width: 4n,
    first: false,
    blank: false,
  });
  const by = width instanceof Text
    ? width
    : text(" ".repeat(Math.min(1e5, Math.max(0, asIndex(width)))));
  const whole = Text.concat([asText("indent", input), text("\n")]);
  const lines = splitLines(whole), all = truth(blank);
  const parts = lines.flatMap((line, i) => {
    if (i === 0) return [line];
    return all || line.value !== "" ? [text("\n"), by, line] : [text("\n"), line];
  });
  const markup = input instanceof Text && input.markup;
  return Text.concat(truth(first) ? [by, ...parts] : parts, markup);
};

const truncate: Filter = (input, args) => {
  const parameters = ["length", "killwords", "end", "leeway"] as const;
  const { length, killwords, end, leeway } = bind("truncate", args, parameters, {
    length: 255n,
    killwords: false,
    end: text("..."),
    leeway: null,
  });
  const ending = asText("truncate", end);
  const most = asIndex(length), more = leeway === null ? 5 : asIndex(leeway);
  if (most < ending.length) fail(`expected length >= ${ending.length}, got ${most}`);
  if (more < 0) fail(`expected leeway >= 0, got ${more}`);
  // What is short enough is given back as it is, also where it is no text.
  if ((lengthOf(input) ?? Infinity) <= most + more) return input;
  const value = asText("truncate", input);
  const cut = value.slice(0, most - ending.length);
  if (truth(killwords)) return Text.concat([cut, ending], value.markup);
  const space = cut.value.lastIndexOf(" ");
  return Text.concat([space < 0 ? cut : cut.cut(0, space), ending], value.markup);
};

const wordwrap: Filter = (input, args) => {
  const parameters = ["width", "break_long_words", "wrapstring", "break_on_hyphens"] as const;
  const { width, break_long_words, wrapstring, break_on_hyphens } = bind(
    "wordwrap",
    args,
    parameters,
    { width: 79n, break_long_words: true, wrapstring: null, break_on_hyphens: true },
  );
  const between = wrapstring === null ? text("\n") : asText("wordwrap", wrapstring);
  const options = {
    width: asIndex(width),
    breakLongWords: truth(break_long_words),
    breakOnHyphens: truth(break_on_hyphens),
  };
  const lines = splitLines(asText("wordwrap", input)).flatMap((line) => {
    const wrapped = wrapText(line, options);
    return wrapped.length === 0 ? [text("")] : wrapped;
  });
  return Text.join(between, lines);
};

/** Bytes that are safe in a path stay, all others become `%XX`. */
function quoteUrl(value: Value, query: boolean): Text {
  const safe = query ? /[\w.~-]/ : /[\w.~/-]/;
  return str(value).map((point) => {
    if (point.length === 1 && point <= "\x7f" && safe.test(point)) return point;
    if (query && point === " ") return "+";
    const bytes = [...new TextEncoder().encode(point)];
    return bytes.map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
  });
}

const urlencode: Filter = (input, args) => {
  bind("urlencode", args, []);
  if (input instanceof Text || iteratorOf(input) === undefined) return quoteUrl(input, false);
  const pairs = input instanceof Dict ? input.items() : [...iterate(input)].map((pair) => {
    const items = [...iterate(pair)];
    if (items.length !== 2) fail("urlencode takes pairs of a key and a value");
    return items;
  });
  const parts = pairs.flatMap(([key, value], i) => [
    ...(i === 0 ? [] : [text("&")]),
    quoteUrl(key, true),
    text("="),
    quoteUrl(value, true),
  ]);
  return Text.concat(parts);
};

const xmlattr: Filter = (input, args) => {
  const { autospace } = bind("xmlattr", args, ["autospace"], { autospace: true });
  if (!(input instanceof Dict)) fail(`xmlattr takes a dict, got '${typeName(input)}'`);
  const parts = input.items().flatMap(([key, value]) => {
    if (value === null || value instanceof Undefined) return [];
    const name = asText("xmlattr", key);
    if (/[\s/>=]/.test(name.value)) {
      fail(`Invalid character in attribute name: '${name.value}'`);
    }
    const escaped = [escapeHtml(name), text('="'), escapeHtml(softStr(value)), text('"')];
    return [Text.concat(escaped)];
  });
  const joined = Text.join(text(" "), parts);
  return truth(autospace) && parts.length > 0 ? Text.concat([text(" "), joined]) : joined;
};

const tojson: Filter = (input, args) => {
  const parameters = ["ensure_ascii", "indent", "separators", "sort_keys"] as const;
  const { ensure_ascii, indent, separators, sort_keys } = bind("tojson", args, parameters, {
    ensure_ascii: false,
    indent: null,
    separators: null,
    sort_keys: false,
  });
  const given = separators === null ? undefined : [...iterate(separators)];
  if (given !== undefined && given.length !== 2) fail("tojson's separators are not two");
  const [item, key] = given ?? [text(indent === null ? ", " : ","), text(": ")];
  return writeJsonText(input, {
    ensureAscii: truth(ensure_ascii),
    // Python does not look at it where there is a text alone.
    indent: input instanceof Text ? undefined : jsonIndent(indent),
    itemSeparator: asText("tojson", item),
    keySeparator: asText("tojson", key),
    sortKeys: truth(sort_keys),
  });
};

const ENTITIES: Readonly<Record<string, string>> = {
  "&lt;": "<",
  "&gt;": ">",
  "&amp;": "&",
  "&quot;": '"',
  "&#34;": '"',
  "&#39;": "'",
  "&apos;": "'",
  "&nbsp;": "\xa0",
};

/** The text without comments and tags, blanks made single, and the usual entities resolved. */
function stripTags(value: Text): Text {
  let rest = value.plain();
  for (const pattern of [/<!--[^]*?-->/g, /<[^]*?>/g]) {
    const parts: Text[] = [];
    let position = 0;
    for (const match of rest.value.matchAll(pattern)) {
      parts.push(rest.cut(position, match.index));
      position = match.index + match[0].length;
    }
    rest = Text.concat([...parts, rest.cut(position)]);
  }
  const joined = Text.join(text(" "), splitBlanks(rest));
  const parts: Text[] = [];
  let position = 0;
  for (const { 0: entity, index } of joined.value.matchAll(/&(?:#?\w+);/g)) {
    const character = ENTITIES[entity];
    if (character === undefined) continue;
    parts.push(joined.cut(position, index));
    parts.push(joined.cut(index, index + entity.length).as(character));
    position = index + entity.length;
  }
  return Text.concat([...parts, joined.cut(position)]);
}

function reject(name: string, why: string): [string, Filter] {
  return [name, () => fail(`filter '${name}' is not supported: ${why}`)];
}

/** The filters by their names. */
export const TEXT_FILTERS: readonly (readonly [string, Filter])[] = [
  ofText("capitalize", capitalize),
  ofText("lower", lower),
  ofText("upper", upper),
  ofText("title", titleWords),
  ofText("string", (value) => value),
  ofText("striptags", stripTags),
  ofText("wordcount", (value) => int((value.value.match(/[\p{L}\p{N}\p{M}_]+/gu) ?? []).length)),
  ofText("e", escapeHtml),
  ofText("escape", escapeHtml),
  ofText("safe", (value) => value.marked()),
  ofText("forceescape", (value) => escapeHtml(value.plain())),
  reject("urlize", "it is for pages of HTML"),
  ["center", (input, args) => {
    const { width } = bind("center", args, ["width"], { width: 80n });
    return pad(softStr(input), asIndex(width), "center");
  }],
  ["trim", (input, args) => {
    return strip(softStr(input), bind("trim", args, ["chars"], { chars: null }).chars);
  }],
  ["replace", (input, args) => {
    const { old, new: by, count } = bind("replace", args, ["old", "new", "count"], { count: null });
    const most = count === null ? -1 : asIndex(count);
    return replace(str(input), str(old).value, str(by), most < 0 ? Infinity : most);
  }],
  ["format", (input, { positional, named }) => {
    if (positional.length > 0 && named.size > 0) {
      fail("can't handle positional and keyword arguments at the same time");
    }
    const values: Value = named.size > 0
      ? new Dict([...named].map(([name, value]) => [text(name), value] as const))
      : new Tuple(positional);
    return percentFormat(softStr(input), values);
  }],
  ["indent", indent],
  ["truncate", truncate],
  ["wordwrap", wordwrap],
  ["urlencode", urlencode],
  ["xmlattr", xmlattr],
  ["tojson", tojson],
];
