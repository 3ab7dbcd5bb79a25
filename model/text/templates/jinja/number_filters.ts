/**
 * Jinja2's filters of numbers.
 *
 * @module
 */
import { bind } from "./arguments.ts";
import { fixed, roundTo } from "./decimals.ts";
import type { Filter } from "./environment.ts";
import { fail } from "./errors.ts";
import { asIndex, numeric } from "./integers.ts";
import { binary } from "./numbers.ts";
import { strip } from "./string_methods.ts";
import { Text } from "./text.ts";
import { text, truth, typeName, Undefined, type Value } from "./values.ts";

/** Python's `float(text)`; undefined where it is none. */
function parseFloatText(value: Text): number | undefined {
  const digits = strip(value, null).value.toLowerCase();
  if (/^[+-]?(?:inf|infinity)$/.test(digits)) return digits.startsWith("-") ? -Infinity : Infinity;
  if (/^[+-]?nan$/.test(digits)) return NaN;
  const part = "[0-9]+(?:_[0-9]+)*";
  const number = new RegExp(`^[+-]?(?:${part}\\.?(?:${part})?|\\.${part})(?:e[+-]?${part})?$`);
  return number.test(digits) ? Number(digits.replaceAll("_", "")) : undefined;
}

const PREFIXES: Readonly<Record<string, number>> = { "0b": 2, "0o": 8, "0x": 16 };

/** Python's `int(text, base)`; undefined where it is none. */
function parseInteger(value: Text, base: number): bigint | undefined {
  const match = /^([+-]?)(0[box])?(_?[0-9a-z]+(?:_[0-9a-z]+)*)$/.exec(
    strip(value, null).value.toLowerCase(),
  );
  if (match === null) return undefined;
  const [, sign, prefix = ""] = match;
  const named = PREFIXES[prefix];
  const fits = named !== undefined && (base === named || base === 0);
  let digits = (fits ? match[3] : prefix + match[3]).replaceAll("_", "");
  if (!fits && match[3].startsWith("_")) return undefined;
  const radix = base === 0 ? (fits ? named : 10) : base;
  if (base === 0 && !fits && /^0+[1-9]/.test(digits)) return undefined;
  let number = 0n;
  digits = digits.slice(0, 5000);
  for (const digit of digits) {
    const worth = Number.parseInt(digit, 36);
    if (worth >= radix) return undefined;
    number = number * BigInt(radix) + BigInt(worth);
  }
  return sign === "-" ? -number : number;
}

const toInteger: Filter = (input, args) => {
  const { default: otherwise, base } = bind("int", args, ["default", "base"], {
    default: 0n,
    base: 10n,
  });
  if (input instanceof Undefined) input.fail();
  if (input instanceof Text) {
    const whole = parseInteger(input, asIndex(base));
    if (whole !== undefined) return whole;
  }
  const number = input instanceof Text ? parseFloatText(input) : numeric(input);
  if (typeof number === "bigint") return number;
  if (number === undefined || !Number.isFinite(number)) return otherwise;
  return BigInt(Math.trunc(number));
};

const toFloat: Filter = (input, args) => {
  const { default: otherwise } = bind("float", args, ["default"], { default: 0 });
  if (input instanceof Undefined) input.fail();
  const number = input instanceof Text ? parseFloatText(input) : numeric(input);
  return number === undefined ? otherwise : Number(number);
};

const round: Filter = (input, args) => {
  const { precision, method } = bind("round", args, ["precision", "method"], {
    precision: 0n,
    method: text("common"),
  });
  const how = method instanceof Text ? method.value : "";
  if (!["common", "ceil", "floor"].includes(how)) fail("method must be common, ceil or floor");
  const number = numeric(input);
  if (number === undefined) fail(`type ${typeName(input)} doesn't define __round__ method`);
  if (precision === null && how === "common") {
    // Python's round(value, None) is an int.
    const whole = Number(roundTo(Number(number), 0));
    if (!Number.isFinite(whole)) fail("cannot convert float infinity or NaN to integer");
    return typeof number === "bigint" ? number : BigInt(whole);
  }
  const digits = asIndex(precision);
  if (Math.abs(digits) > 400) fail(`round to ${digits} digits`);
  if (how === "common") return roundTo(number, digits);
  const unit: Value = binary("**", 10n, BigInt(digits));
  const scaled = numeric(binary("*", number, unit)) ?? 0n;
  if (typeof scaled === "bigint") return binary("/", scaled, unit);
  const whole = how === "ceil" ? Math.ceil(scaled) : Math.floor(scaled);
  return binary("/", BigInt(whole), unit);
};

const filesizeformat: Filter = (input, args) => {
  const { binary: two } = bind("filesizeformat", args, ["binary"], { binary: false });
  const number = input instanceof Text ? parseFloatText(input) : numeric(input);
  if (number === undefined) fail(`filesizeformat takes a number, got '${typeName(input)}'`);
  const bytes = Number(number), base = truth(two) ? 1024 : 1000;
  if (bytes === 1) return text("1 Byte");
  if (bytes < base) return text(`${Math.trunc(bytes)} Bytes`);
  const letters = truth(two) ? "KMGTPEZY" : "kMGTPEZY", suffix = truth(two) ? "iB" : "B";
  let power = 1;
  while (power < 8 && bytes >= base ** (power + 1)) power++;
  return text(`${fixed(base * bytes / base ** (power + 1), 1)} ${letters[power - 1]}${suffix}`);
};

/** The filters by their names. */
export const NUMBER_FILTERS: readonly (readonly [string, Filter])[] = [
  ["abs", (input, args) => {
    bind("abs", args, []);
    const number = numeric(input);
    if (number === undefined) fail(`bad operand type for abs(): '${typeName(input)}'`);
    return typeof number === "number" ? Math.abs(number) : number < 0n ? -number : number;
  }],
  ["filesizeformat", filesizeformat],
  ["float", toFloat],
  ["int", toInteger],
  ["round", round],
];
