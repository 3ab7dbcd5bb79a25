/**
 * Python's `str` and `repr`.
 *
 * @module
 */
import { Text } from "./text.ts";
import {
  Dict,
  List,
  Range,
  Stream,
  text,
  Thing,
  Tuple,
  Undefined,
  type Value,
  View,
} from "./values.ts";

/** Shortest digits of a finite float, and its decimal exponent. */
export function shortestDigits(value: number): { digits: string; exponent: number } {
  const [mantissa, exponent] = Math.abs(value).toExponential().split("e");
  return { digits: mantissa.replace(".", ""), exponent: Number(exponent) };
}

/** An exponent as C prints it, with a sign and two digits at least. */
export function exponentText(exponent: number): string {
  return `e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

/** `repr` of a float: its shortest digits, with an exponent below 1e-4 and from 1e16 on. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value < 0 ? "-inf" : "inf";
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  const { digits, exponent } = shortestDigits(value);
  if (exponent < -4 || exponent >= 16) {
    const rest = digits.slice(1);
    return `${sign}${digits[0]}${rest && `.${rest}`}${exponentText(exponent)}`;
  }
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0");
  return `${sign}${whole}.${digits.slice(exponent + 1) || "0"}`;
}

const UNPRINTABLE = /[\p{C}\p{Z}]/u;

/** `repr` of a string. */
function quoteText(value: Text): Text {
  const quote = value.value.includes("'") && !value.value.includes('"') ? '"' : "'";
  const inside = value.plain().map((point) => {
    if (point === "\\" || point === quote) return `\\${point}`;
    if (point === "\n") return "\\n";
    if (point === "\r") return "\\r";
    if (point === "\t") return "\\t";
    if (point === " " || !UNPRINTABLE.test(point)) return point;
    const code = point.codePointAt(0) ?? 0;
    const [letter, digits] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
    return `\\${letter}${code.toString(16).padStart(Number(digits), "0")}`;
  });
  const whole = Text.concat([text(quote), inside, text(quote)]);
  return value.markup ? Text.concat([text("Markup("), whole, text(")")]) : whole;
}

function joined(open: string, parts: readonly Text[], close: string): Text {
  return Text.concat([text(open), Text.join(text(", "), parts), text(close)]);
}

/** Python's `repr(value)`. */
export function repr(value: Value): Text {
  if (value instanceof Text) return quoteText(value);
  if (value instanceof Undefined) {
    value.print();
    return text("Undefined");
  }
  if (value instanceof List) return joined("[", value.items.map(repr), "]");
  if (value instanceof Tuple) {
    return joined("(", value.items.map(repr), value.items.length === 1 ? ",)" : ")");
  }
  if (value instanceof Dict) {
    const pairs = value.items().map(([key, item]) =>
      Text.concat([repr(key), text(": "), repr(item)])
    );
    return joined("{", pairs, "}");
  }
  if (value instanceof View) {
    return joined(`dict_${value.kind}([`, value.items().map(repr), "])");
  }
  return str(value);
}

/** Python's `str(value)`. */
export function str(value: Value): Text {
  if (value instanceof Text) return value.plain();
  if (value === null) return text("None");
  if (typeof value === "boolean") return text(value ? "True" : "False");
  if (typeof value === "bigint") return text(String(value));
  if (typeof value === "number") return text(floatText(value));
  if (value instanceof Undefined) {
    value.print();
    return text("");
  }
  if (value instanceof Range) {
    const step = value.step === 1n ? "" : `, ${value.step}`;
    return text(`range(${value.start}, ${value.stop}${step})`);
  }
  if (value instanceof Stream) return text(`<${value.type} object>`);
  if (value instanceof Thing) return text(value.describe());
  return repr(value);
}

/** A string as it is, also a `Markup`, and anything else as `str` makes it. */
export function softStr(value: Value): Text {
  return value instanceof Text ? value : str(value);
}
