/**
 * `text % values`.
 *
 * @module
 */
import { fail } from "./errors.ts";
import {
  boundedWidth,
  character,
  floatDigits,
  layNumber,
  type Layout,
  layText,
} from "./format_spec.ts";
import { numeric } from "./integers.ts";
import { repr, softStr } from "./repr.ts";
import { escapeHtml, Text } from "./text.ts";
import { Dict, List, text, Tuple, typeName, Undefined, type Value } from "./values.ts";

const DIRECTIVE = /%(?:\(([^)]*)\))?([-+ #0]*)(\*|[0-9]+)?(?:\.(\*|[0-9]*))?[hlL]?([^])?/g;

function formatNumber(letter: string, value: Value, layout: Layout): string {
  const number = numeric(value);
  if (number === undefined) {
    if (value instanceof Undefined) value.fail();
    const wanted = "diu".includes(letter) ? "a real number" : "an integer";
    fail(`%${letter} format: ${wanted} is required, not ${typeName(value)}`);
  }
  const negative = number < 0 || Object.is(number, -0);
  if ("eEfFgG".includes(letter)) {
    const form = letter.toLowerCase(), precision = layout.precision ?? 6;
    const digits = floatDigits(Number(number), form, precision, layout.alternate);
    return layNumber({
      negative,
      digits: form === letter ? digits : digits.toUpperCase(),
    }, layout);
  }
  if (typeof number === "number" && !Number.isFinite(number)) {
    fail("cannot convert float infinity or NaN to integer");
  }
  if (typeof number === "number" && !"diu".includes(letter)) {
    fail(`%${letter} format: an integer is required, not float`);
  }
  const whole = BigInt(typeof number === "number" ? Math.trunc(number) : number);
  const base = letter === "o" ? 8 : "xX".includes(letter) ? 16 : 10;
  const magnitude = (whole < 0n ? -whole : whole).toString(base);
  const padded = magnitude.padStart(layout.precision ?? 0, "0");
  const prefix = layout.alternate && "oxX".includes(letter) ? `0${letter}` : "";
  const digits = letter === "X" ? padded.toUpperCase() : padded;
  return layNumber({ negative: whole < 0n, prefix, digits }, layout);
}

/** Hands out the values one after the other. */
class Values {
  #next = 0;

  constructor(readonly all: Value) {}

  take(): Value {
    const items = this.all instanceof Tuple ? this.all.items : [this.all];
    if (this.#next >= items.length) fail("not enough arguments for format string");
    return items[this.#next++];
  }

  key(name: string): Value {
    if (!(this.all instanceof Dict)) fail("format requires a mapping");
    return this.all.text(name) ?? fail(`KeyError: '${name}'`);
  }

  /** @throws TemplateError where values are left over. */
  finish(): void {
    const { all } = this;
    if (all instanceof Dict || all instanceof List || all instanceof Undefined) return;
    const count = all instanceof Tuple ? all.items.length : 1;
    if (this.#next < count) fail("not all arguments converted during string formatting");
  }
}

/** A value by one directive. */
function convert(letter: string, value: Value, layout: Layout, markup: boolean): Text {
  const plain = (converted: Text) => markup ? escapeHtml(converted) : converted;
  if (letter === "s") return layText(plain(softStr(value)), layout);
  if (letter === "r" || letter === "a") return layText(plain(repr(value)), layout);
  if (letter === "c") {
    const given = value instanceof Text && value.length === 1 ? value : text(character(value));
    return layText(given, { ...layout, precision: undefined });
  }
  if (!"diuoxXeEfFgG".includes(letter)) fail(`unsupported format character '${letter}'`);
  return text(formatNumber(letter, value, layout));
}

/** Python's `format % values`. */
export function percentFormat(format: Text, values: Value): Text {
  const parts: Text[] = [], given = new Values(values);
  let position = 0;
  for (const match of format.value.matchAll(DIRECTIVE)) {
    const [whole, key, flags, width, precision, letter] = match;
    parts.push(format.cut(position, match.index));
    position = match.index + whole.length;
    if (letter === undefined) fail("incomplete format");
    if (letter === "%") {
      parts.push(text("%"));
      continue;
    }
    const number = (digits: string) =>
      digits === "*" ? boundedWidth(String(numeric(given.take()) ?? 0)) : boundedWidth(digits);
    const size = width === undefined ? 0 : number(width);
    const places = precision === undefined ? undefined : number(precision);
    const numberLetter = !"srac".includes(letter);
    const zero = flags.includes("0") && numberLetter && !flags.includes("-");
    const layout: Layout = {
      fill: zero ? "0" : " ",
      align: flags.includes("-") ? "<" : zero ? "=" : ">",
      sign: flags.includes("+") ? "+" : flags.includes(" ") ? " " : "-",
      alternate: flags.includes("#"),
      width: size,
      grouping: "",
      precision: places,
      type: "",
    };
    const value = key === undefined ? given.take() : given.key(key);
    parts.push(convert(letter, value, layout, format.markup));
  }
  parts.push(format.cut(position));
  given.finish();
  return Text.concat(parts, format.markup);
}
