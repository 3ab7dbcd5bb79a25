/**
 * Python's arithmetic, and `+` and `*` of strings and lists.
 *
 * @module
 */
import { fail } from "./errors.ts";
import { floorDivide, numeric } from "./integers.ts";
import type { BinaryOperator } from "./nodes.ts";
import { percentFormat } from "./percent_format.ts";
import { escapeHtml, Text } from "./text.ts";
import { List, MAX_ITEMS, Tuple, typeName, Undefined, type Value } from "./values.ts";

/** The most bits that an `int` may have. */
const MAX_BITS = 20_000;

/** @throws TemplateError where an `int` gets too large. */
function bounded(value: bigint): bigint {
  // Most are small, and a comparison costs less than to count bits.
  if (value < 2n ** 64n && value > -(2n ** 64n)) return value;
  if (value.toString(16).length * 4 > MAX_BITS) fail(`a number of more than ${MAX_BITS} bits`);
  return value;
}

function floatRemainder(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b) || !Number.isFinite(a)) return NaN;
  const rest = Number.isFinite(b) ? a % b : a;
  if (rest === 0) return b < 0 ? -0 : 0;
  return (rest < 0) !== (b < 0) ? rest + b : rest;
}

function floatFloorDivide(a: number, b: number): number {
  const quotient = (a - floatRemainder(a, b)) / b;
  const floor = Math.floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

function power(a: bigint | number, b: bigint | number): Value {
  if (typeof a === "bigint" && typeof b === "bigint" && b >= 0n) {
    const bits = BigInt(a.toString(2).length);
    if (a !== 0n && a !== 1n && a !== -1n && b * bits > BigInt(MAX_BITS)) {
      fail(`a number of more than ${MAX_BITS} bits`);
    }
    if (a === -1n) return b % 2n === 0n ? 1n : -1n;
    return a === 0n || a === 1n ? (b === 0n ? 1n : a) : a ** b;
  }
  const base = Number(a), exponent = Number(b);
  if (base === 0 && exponent < 0) fail("0.0 cannot be raised to a negative power");
  if (base < 0 && Number.isFinite(base) && !Number.isInteger(exponent)) {
    fail("a negative number can't be raised to a fraction");
  }
  const result = base === 1 ? 1 : base ** exponent;
  if (!Number.isFinite(result) && Number.isFinite(base) && Number.isFinite(exponent)) {
    fail("the result of ** is too large");
  }
  return result;
}

function calculate(operator: BinaryOperator, a: bigint | number, b: bigint | number): Value {
  if (operator === "**") return power(a, b);
  if (["/", "//", "%"].includes(operator) && Number(b) === 0) fail("division by zero");
  if (typeof a === "bigint" && typeof b === "bigint") {
    switch (operator) {
      case "+":
        return bounded(a + b);
      case "-":
        return bounded(a - b);
      case "*":
        return bounded(a * b);
      case "/":
        return Number(a) / Number(b);
      case "//":
        return floorDivide(a, b);
      case "%":
        return a - floorDivide(a, b) * b;
    }
  }
  const x = Number(a), y = Number(b);
  switch (operator) {
    case "+":
      return x + y;
    case "-":
      return x - y;
    case "*":
      return x * y;
    case "/":
      return x / y;
    case "//":
      return floatFloorDivide(x, y);
    case "%":
      return floatRemainder(x, y);
  }
}

/** `sequence * count`. */
function repeat(sequence: Text | List | Tuple, count: bigint): Value {
  const times = count <= 0n ? 0 : Number(count);
  if (sequence instanceof Text) {
    if (sequence.value.length * times > MAX_ITEMS * 20) fail("a text is repeated too often");
    return Text.concat(Array<Text>(times).fill(sequence), sequence.markup);
  }
  if (sequence.items.length * times > MAX_ITEMS) fail("a list is repeated too often");
  const items = Array<readonly Value[]>(times).fill(sequence.items).flat();
  return sequence instanceof List ? new List(items) : new Tuple(items);
}

function concatenate(left: Value, right: Value): Value | undefined {
  if (left instanceof Text && right instanceof Text) {
    if (!left.markup && !right.markup) return Text.concat([left, right]);
    return Text.concat([escapeHtml(left), escapeHtml(right)], true);
  }
  if (left instanceof List && right instanceof List) {
    return new List([...left.items, ...right.items]);
  }
  if (left instanceof Tuple && right instanceof Tuple) {
    return new Tuple([...left.items, ...right.items]);
  }
  return undefined;
}

const isSequence = (value: Value): value is Text | List | Tuple =>
  value instanceof Text || value instanceof List || value instanceof Tuple;

/** Python's binary operators. */
export function binary(operator: BinaryOperator, left: Value, right: Value): Value {
  const a = numeric(left), b = numeric(right);
  if (a !== undefined && b !== undefined) return calculate(operator, a, b);
  if (operator === "%" && left instanceof Text) return percentFormat(left, right);
  if (left instanceof Undefined) left.fail();
  if (right instanceof Undefined) right.fail();
  if (operator === "+") {
    const joined = concatenate(left, right);
    if (joined !== undefined) return joined;
    if (left instanceof Text) {
      fail(`can only concatenate str (not "${typeName(right)}") to str`);
    }
  }
  if (operator === "*") {
    if (isSequence(left) && typeof b === "bigint") return repeat(left, b);
    if (isSequence(right) && typeof a === "bigint") return repeat(right, a);
  }
  fail(
    `unsupported operand type(s) for ${operator}: '${typeName(left)}' and '${typeName(right)}'`,
  );
}

/** Python's `-value` and `+value`. */
export function signed(operator: "-" | "+", value: Value): Value {
  const number = numeric(value);
  if (number !== undefined) return operator === "-" ? -number : number;
  if (value instanceof Undefined) value.fail();
  fail(`bad operand type for unary ${operator}: '${typeName(value)}'`);
}
