/**
 * Numbers and strings by a format, as `format(value, spec)` and `%` lay them out.
 *
 * @module
 */
import { fixed } from "./decimals.ts";
import { fail } from "./errors.ts";
import { asIndex, numeric } from "./integers.ts";
import { exponentText, floatText, shortestDigits, softStr } from "./repr.ts";
import { Text } from "./text.ts";
import { text, typeName, type Value } from "./values.ts";

/** The widest field. */
const MAX_WIDTH = 100_000;

/** How a field is laid out. */
export interface Layout {
  fill: string;
  align: "<" | ">" | "^" | "=";
  sign: "-" | "+" | " ";
  alternate: boolean;
  width: number;
  grouping: "" | "," | "_";
  precision: number | undefined;
  type: string;
}

/** @throws TemplateError where a field would be wider than any text here. */
export function boundedWidth(digits: string): number {
  const width = Number(digits || 0);
  if (width > MAX_WIDTH) fail(`a field of more than ${MAX_WIDTH} characters`);
  return width;
}

/** Digits in an exponent's form: `precision` of them after the point. */
function exponential(value: number, precision: number): { digits: string; exponent: number } {
  if (value === 0) return { digits: "0".repeat(precision + 1), exponent: 0 };
  const { exponent } = shortestDigits(value), decimals = precision - exponent;
  if (decimals >= 0 && decimals <= 400) {
    const digits = fixed(Math.abs(value), decimals).replace(".", "").replace(/^0+/, "");
    return digits.length > precision + 1
      ? { digits: digits.slice(0, precision + 1), exponent: exponent + 1 }
      : { digits, exponent };
  }
  const [mantissa, power] = Math.abs(value).toExponential(Math.min(precision, 100)).split("e");
  return { digits: mantissa.replace(".", ""), exponent: Number(power) };
}

/** A float without its sign, in one of C's forms: e, f or g; `r` is the shortest. */
export function floatDigits(
  value: number,
  form: string,
  precision: number,
  alternate: boolean,
): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : "inf";
  const absolute = Math.abs(value);
  if (form === "f") return fixed(absolute, precision) + (alternate && precision === 0 ? "." : "");
  if (form === "r") return floatText(absolute);
  if (form === "e") {
    const { digits, exponent } = exponential(absolute, precision);
    const point = precision > 0 || alternate ? "." : "";
    return `${digits[0]}${point}${digits.slice(1)}${exponentText(exponent)}`;
  }
  const significant = Math.max(1, precision);
  const { digits, exponent } = exponential(absolute, significant - 1);
  const trim = (number: string) =>
    alternate || !number.includes(".") ? number : number.replace(/\.?0+$/, "");
  if (exponent >= -4 && exponent < significant) {
    return trim(fixed(absolute, significant - 1 - exponent));
  }
  const point = digits.length > 1 || alternate ? "." : "";
  return trim(`${digits[0]}${point}${digits.slice(1)}`) + exponentText(exponent);
}

function group(whole: string, separator: string, size: number): string {
  if (separator === "") return whole;
  return whole.replace(new RegExp(`\\B(?=(?:[0-9a-fA-F]{${size}})+$)`, "g"), separator);
}

/** A number put together: sign, prefix (0x ...), and digits, filled to the width. */
export function layNumber(
  { negative, prefix = "", digits }: { negative: boolean; prefix?: string; digits: string },
  layout: Layout,
): string {
  const sign = negative ? "-" : layout.sign === "-" ? "" : layout.sign;
  const [whole] = /^[0-9a-fA-F]*/.exec(digits) ?? [""];
  const rest = digits.slice(whole.length), head = sign + prefix;
  const size = "bxXo".includes(layout.type || "d") ? 4 : 3;
  if (layout.align === "=" && layout.fill === "0" && layout.grouping !== "" && whole !== "") {
    // Zeros in front are grouped too; a group is begun only with a digit.
    let padded = whole;
    while (head.length + group(padded, layout.grouping, size).length + rest.length < layout.width) {
      padded = `0${padded}`;
    }
    return head + group(padded, layout.grouping, size) + rest;
  }
  const body = group(whole, layout.grouping, size) + rest;
  const missing = Math.max(0, layout.width - head.length - body.length);
  const { fill } = layout;
  switch (layout.align) {
    case "=":
      return head + fill.repeat(missing) + body;
    case "<":
      return head + body + fill.repeat(missing);
    case "^":
      return fill.repeat(missing >> 1) + head + body + fill.repeat(missing - (missing >> 1));
    case ">":
      return fill.repeat(missing) + head + body;
  }
}

/** A text filled to the width. */
export function layText(value: Text, layout: Layout): Text {
  const { precision } = layout;
  const cut = precision === undefined ? value : value.slice(0, Math.min(precision, value.length));
  const missing = Math.max(0, layout.width - cut.length);
  if (missing === 0) return cut;
  const before = layout.align === "^" ? missing >> 1 : layout.align === ">" ? missing : 0;
  const fill = (count: number) => text(layout.fill.repeat(count));
  return Text.concat([fill(before), cut, fill(missing - before)], value.markup);
}

const BASES: Readonly<Record<string, number>> = { b: 2, o: 8, x: 16, X: 16, d: 10, n: 10, "": 10 };

function layInteger(value: bigint, layout: Layout): string {
  const { type } = layout;
  if (layout.precision !== undefined) fail("Precision not allowed in integer format specifier");
  const negative = value < 0n, magnitude = (negative ? -value : value).toString(BASES[type]);
  const digits = type === "X" ? magnitude.toUpperCase() : magnitude;
  const prefix = layout.alternate && "boxX".includes(type || "d") ? `0${type}` : "";
  return layNumber({ negative, prefix, digits }, layout);
}

function layFloat(value: number, layout: Layout): string {
  const { type, precision } = layout;
  const negative = value < 0 || Object.is(value, -0);
  const lower = type.toLowerCase();
  let digits: string;
  if (type === "%") digits = `${floatDigits(value * 100, "f", precision ?? 6, layout.alternate)}%`;
  else if (type === "" && precision === undefined) digits = floatDigits(value, "r", 0, false);
  else if (type === "") {
    // As g, but with a digit after the point, and an exponent from one digit earlier.
    const { exponent } = exponential(Math.abs(value), Math.max(1, precision ?? 6) - 1);
    const early = Number.isFinite(value) && exponent >= Math.max(1, precision ?? 6) - 1 &&
      exponent >= 0;
    digits = early && value !== 0
      ? floatDigits(value, "e", Math.max(1, precision ?? 6) - 1, false).replace(/\.?0*(?=e)/, "")
      : floatDigits(value, "g", precision ?? 6, false);
    if (/^[0-9]+$/.test(digits)) digits += ".0";
  } else {
    const form = lower === "n" ? "g" : lower;
    digits = floatDigits(value, form, precision ?? 6, layout.alternate);
  }
  if (type === "E" || type === "F" || type === "G") digits = digits.toUpperCase();
  return layNumber({ negative, digits }, layout);
}

const SPEC = /^(?:([^])?([<>=^]))?([-+ ])?(z)?(#)?(0)?([0-9]+)?([,_])?(?:\.([0-9]+))?([^])?$/u;

function parseSpec(spec: string, numbers: boolean): Layout {
  const match = SPEC.exec(spec);
  if (match === null) fail(`Invalid format specifier '${spec}'`);
  const [, fill, align, sign, , alternate, zero, width, grouping, precision, type] = match;
  return {
    fill: fill ?? (zero ? "0" : " "),
    align: (align ?? (zero && numbers ? "=" : numbers ? ">" : "<")) as Layout["align"],
    sign: (sign ?? "-") as Layout["sign"],
    alternate: alternate !== undefined,
    width: boundedWidth(width ?? ""),
    grouping: (grouping ?? "") as Layout["grouping"],
    precision: precision === undefined ? undefined : boundedWidth(precision),
    type: type ?? "",
  };
}

/** Python's `format(value, spec)`. */
export function formatValue(value: Value, spec: Text): Text {
  if (spec.value === "") return softStr(value);
  const number = numeric(value);
  if (value instanceof Text || (typeof value === "boolean" && spec.value.endsWith("s"))) {
    const layout = parseSpec(spec.value, false);
    const wrong = typeof value === "boolean" || (layout.type !== "" && layout.type !== "s");
    if (wrong) {
      fail(`Unknown format code '${layout.type}' for object of type '${typeName(value)}'`);
    }
    if (layout.align === "=") fail("'=' alignment not allowed in string format specifier");
    return layText(value, layout);
  }
  if (number === undefined) {
    fail(`unsupported format string passed to ${typeName(value)}.__format__`);
  }
  const layout = parseSpec(spec.value, true);
  const { type } = layout;
  const wrong = (): never =>
    fail(`Unknown format code '${type}' for object of type '${typeName(value)}'`);
  if (type === "" || "eEfFgGn%".includes(type)) {
    if (typeof number === "bigint" && (type === "" || type === "n")) {
      return text(layInteger(number, layout));
    }
    return text(layFloat(Number(number), layout));
  }
  if (typeof number !== "bigint") return wrong();
  if (type === "c") return text(layNumber({ negative: false, digits: character(number) }, layout));
  if ("bdoxX".includes(type)) return text(layInteger(number, layout));
  return wrong();
}

/** The character of a code point. */
export function character(code: Value): string {
  const point = asIndex(code);
  if (point < 0 || point > 0x10ffff) fail("%c arg not in range(0x110000)");
  return String.fromCodePoint(point);
}
