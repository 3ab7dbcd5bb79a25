/**
 * Python's `==`, `<` and `in`.
 *
 * @module
 */
import { spend } from "./budget.ts";
import { fail } from "./errors.ts";
import { numeric } from "./integers.ts";
import { Text } from "./text.ts";
import {
  Dict,
  hashKey,
  iterate,
  iteratorOf,
  List,
  Range,
  Tuple,
  typeName,
  Undefined,
  type Value,
  View,
} from "./values.ts";

/** Units of work of a comparison: values can hold one another many times over. */
const COMPARISON_UNITS = 8;

function equalItems(a: readonly Value[], b: readonly Value[]): boolean {
  return a.length === b.length && a.every((item, i) => item === b[i] || equal(item, b[i]));
}

/** Python's `a == b`. */
export function equal(a: Value, b: Value): boolean {
  spend(COMPARISON_UNITS);
  const x = numeric(a), y = numeric(b);
  if (x !== undefined && y !== undefined) {
    if (typeof x === typeof y) return x === y;
    // An int and a float: both are compared as what they are exactly.
    const [whole, float] = typeof x === "bigint" ? [x, y] : [y, x];
    return Number.isInteger(float as number) && BigInt(float) === whole;
  }
  if (a instanceof Text) return b instanceof Text && a.value === b.value;
  if (a instanceof List) return b instanceof List && equalItems(a.items, b.items);
  if (a instanceof Tuple) return b instanceof Tuple && equalItems(a.items, b.items);
  if (a instanceof Dict) {
    if (!(b instanceof Dict) || a.size !== b.size) return false;
    return a.items().every(([key, value]) => {
      const other = b.get(key);
      return other !== undefined && equal(value, other);
    });
  }
  if (a instanceof Undefined) {
    a.use();
    return b instanceof Undefined;
  }
  if (a instanceof Range) {
    if (!(b instanceof Range) || a.length !== b.length) return false;
    return a.length === 0 || (a.start === b.start && (a.length === 1 || a.step === b.step));
  }
  if (a instanceof View && b instanceof View && a.kind !== "values" && a.kind === b.kind) {
    const keys = new Set(b.items().map(hashKey)), own = a.items();
    return own.length === keys.size && own.every((item) => keys.has(hashKey(item)));
  }
  return a === b;
}

/** Order of two strings by their code points: JavaScript's is by UTF-16 units. */
function compareTexts(a: string, b: string): number {
  const end = Math.min(a.length, b.length);
  for (let i = 0; i < end; i++) {
    const x = a.charCodeAt(i), y = b.charCodeAt(i);
    if (x === y) continue;
    const high = (unit: number) => unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit;
    return high(x) - high(y);
  }
  return a.length - b.length;
}

type Ordering = "<" | "<=" | ">" | ">=";

function decide(operator: Ordering, difference: number): boolean {
  switch (operator) {
    case "<":
      return difference < 0;
    case "<=":
      return difference <= 0;
    case ">":
      return difference > 0;
    case ">=":
      return difference >= 0;
  }
}

/** Python's comparison by order. */
export function ordered(operator: Ordering, a: Value, b: Value): boolean {
  const x = numeric(a), y = numeric(b);
  if (x !== undefined && y !== undefined) {
    switch (operator) {
      case "<":
        return x < y;
      case "<=":
        return x <= y;
      case ">":
        return x > y;
      case ">=":
        return x >= y;
    }
  }
  if (a instanceof Text && b instanceof Text) {
    return decide(operator, compareTexts(a.value, b.value));
  }
  if ((a instanceof List && b instanceof List) || (a instanceof Tuple && b instanceof Tuple)) {
    const differs = a.items.findIndex((item, i) => i < b.items.length && !equal(item, b.items[i]));
    if (differs < 0) return decide(operator, a.items.length - b.items.length);
    return ordered(operator, a.items[differs], b.items[differs]);
  }
  if (a instanceof Undefined) a.fail();
  if (b instanceof Undefined) b.fail();
  fail(`'${operator}' not supported between '${typeName(a)}' and '${typeName(b)}'`);
}

/** Python's `value in container`. */
export function contains(container: Value, value: Value): boolean {
  if (container instanceof Text) {
    if (!(value instanceof Text)) {
      fail(`'in <string>' requires string as left operand, not ${typeName(value)}`);
    }
    return container.value.includes(value.value);
  }
  if (container instanceof Dict) return container.has(value);
  if (container instanceof View && container.kind === "keys") return container.dict.has(value);
  if (iteratorOf(container) === undefined) {
    fail(`argument of type '${typeName(container)}' is not iterable`);
  }
  for (const item of iterate(container)) {
    if (item === value || equal(item, value)) return true;
  }
  return false;
}

/** Items in ascending order, as Python's `sorted`: stable, also where `reverse`. */
export function sorted<T>(
  items: readonly T[],
  key: (item: T) => Value,
  reverse: boolean,
): T[] {
  const keyed = items.map((item) => ({ item, key: key(item) }));
  keyed.sort((a, b) => {
    const [x, y] = reverse ? [b, a] : [a, b];
    if (ordered("<", x.key, y.key)) return -1;
    return ordered("<", y.key, x.key) ? 1 : 0;
  });
  return keyed.map(({ item }) => item);
}
