/**
 * Bounds of numbers and of counts, as a schema has them.
 *
 * @module
 */
import { integerBetween } from "./integer_range.ts";
import { numberBetween } from "./number_range.ts";
import type { Schema } from "./schema_kinds.ts";

/**
 * A pattern of the numbers between a schema's bounds; undefined where it has none.
 *
 * @param fail Refuses what is at a place in the schema, such as `.minimum`.
 */
export function boundedNumber(
  schema: Schema,
  type: "integer" | "number",
  fail: (place: string, problem: string) => never,
): string | undefined {
  const bound = (key: string) => {
    const value = schema[key];
    if (value === undefined || typeof value === "number") return value;
    fail(`.${key}`, "expected a number");
  };
  const [low = -Infinity, above = -Infinity] = [bound("minimum"), bound("exclusiveMinimum")];
  const [high = Infinity, below = Infinity] = [bound("maximum"), bound("exclusiveMaximum")];
  if ([low, above, -high, -below].every((value) => value === -Infinity)) return undefined;
  if (type === "integer") {
    const least = Math.max(Math.ceil(low), Math.floor(above + 1));
    const most = Math.min(Math.floor(high), Math.ceil(below - 1));
    return (least <= most && integerBetween(least, most)) ||
      fail("", "no integer is between its bounds");
  }
  const between = numberBetween(
    { value: Math.max(low, above), excluded: above >= low },
    { value: Math.min(high, below), excluded: below <= high },
  );
  if (between === undefined) {
    fail("", "has a bound of too many digits; expected 15 at most, of both together");
  }
  return between === "" ? fail("", "no number is between its bounds") : between;
}

/**
 * The least and the most of something that is counted, such as a list's items; no most where a schema has none.
 *
 * @param keys The schema's keywords of both.
 * @param fail Refuses what is at a place in the schema, such as `.minItems`.
 */
export function countRange(
  schema: Schema,
  [low, high]: readonly [string, string],
  fail: (place: string, problem: string) => never,
): [least: number, most: number | undefined] {
  const count = (key: string) => {
    const value = schema[key];
    if (value === undefined) return value;
    if (typeof value === "number" && Number.isInteger(value) && value >= 0) return value;
    fail(`.${key}`, "expected a whole number of at least 0");
  };
  const least = count(low) ?? 0, most = count(high);
  if (most !== undefined && most < least) fail(`.${high}`, `is less than ${low}`);
  return [least, most];
}
