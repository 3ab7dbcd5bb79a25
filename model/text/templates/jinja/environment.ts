/**
 * What filters and tests are, and how they call each other.
 *
 * @module
 */
import { getItem } from "./attributes.ts";
import { lower } from "./string_cases.ts";
import { Text } from "./text.ts";
import { type Arguments, text, Undefined, type Value } from "./values.ts";

/** Calls filters and tests by their names. */
export interface Environment {
  filter(name: string, input: Value, args: Arguments): Value;
  test(name: string, input: Value, args: Arguments): boolean;
  hasFilter(name: string): boolean;
  hasTest(name: string): boolean;
}

/** What stands behind `|`. */
export type Filter = (input: Value, args: Arguments, environment: Environment) => Value;
/** What stands behind `is`. */
export type Test = (input: Value, args: Arguments, environment: Environment) => boolean;

/** A text in lower case, and anything else as it is: how filters compare by default. */
export function ignoreCase(value: Value): Value {
  return value instanceof Text ? lower(value) : value;
}

/**
 * Finds what `attribute` of a filter names: an item or attribute, or one of one, with dots between.
 *
 * @param otherwise What stands in place of one that is undefined, unless it is None.
 */
export function attributeGetter(attribute: Value, otherwise: Value = null): (item: Value) => Value {
  const parts = attribute === null
    ? []
    : attribute instanceof Text
    ? attribute.value.split(".").map((part) => /^[0-9]+$/.test(part) ? BigInt(part) : text(part))
    : [attribute];
  return (item) => {
    let found = item;
    for (const part of parts) {
      found = getItem(found, part);
      if (otherwise !== null && found instanceof Undefined) found = otherwise;
    }
    return found;
  };
}
