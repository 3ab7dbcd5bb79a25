/**
 * Values as whole numbers.
 *
 * @module
 */
import { fail } from "./errors.ts";
import { typeName, Undefined, type Value } from "./values.ts";

/** A number, of a `bool` the `int` that it is; undefined where it is none. */
export function numeric(value: Value): bigint | number | undefined {
  if (typeof value === "bigint" || typeof value === "number") return value;
  return typeof value === "boolean" ? BigInt(value) : undefined;
}

/** An `int` as an index or a count, which may be any. */
export function asInteger(value: Value): bigint {
  const number = numeric(value);
  if (typeof number === "bigint") return number;
  if (value instanceof Undefined) value.fail();
  fail(`'${typeName(value)}' object cannot be interpreted as an integer`);
}

/** An `int` as a JavaScript number; far beyond any length where it does not fit. */
export function asIndex(value: Value): number {
  const integer = asInteger(value);
  if (integer > 2n ** 50n) return 2 ** 50;
  return integer < -(2n ** 50n) ? -(2 ** 50) : Number(integer);
}

/** Python's `a // b`. */
export function floorDivide(a: bigint, b: bigint): bigint {
  const quotient = a / b;
  return a % b !== 0n && (a < 0n) !== (b < 0n) ? quotient - 1n : quotient;
}
