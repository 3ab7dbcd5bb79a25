/**
 * Bounds of numbers, as a schema has them.
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
