/**
 * Jinja2's tests: what follows `is`.
 *
 * @module
 */
import { asText, unnamed } from "./arguments.ts";
import { contains, equal, ordered } from "./compare.ts";
import type { Test } from "./environment.ts";
import { numeric } from "./integers.ts";
import { binary } from "./numbers.ts";
import { str } from "./repr.ts";
import { KINDS } from "./string_cases.ts";
import { Text } from "./text.ts";
import { Dict, iteratorOf, List, Range, Thing, Tuple, Undefined, type Value } from "./values.ts";

const alone = (name: string, test: (value: Value) => boolean): [string, Test] => [
  name,
  (input, args) => {
    unnamed(name, args, 0);
    return test(input);
  },
];

const withOther = (name: string, test: (value: Value, other: Value) => boolean): [string, Test] => [
  name,
  (input, args) => test(input, unnamed(name, args, 1)[0]),
];

const remainder = (value: Value, by: bigint, rest: bigint) => equal(binary("%", value, by), rest);

/** Python's `is`: texts and numbers that are alike are mostly one object. */
function same(a: Value, b: Value): boolean {
  if (a instanceof Text && b instanceof Text) return a.value === b.value && a.markup === b.markup;
  return a === b;
}

const isKind = (kind: string) => (value: Value) => KINDS.get(kind)?.(str(value).value) ?? false;

const less = (value: Value, other: Value) => ordered("<", value, other);
const more = (value: Value, other: Value) => ordered(">", value, other);
const different = (value: Value, other: Value) => !equal(value, other);

/** The tests by their names. */
export const TESTS: ReadonlyMap<string, Test> = new Map<string, Test>([
  alone("boolean", (value) => typeof value === "boolean"),
  alone(
    "callable",
    (value) => value instanceof Undefined || (value instanceof Thing && value.callable),
  ),
  alone("defined", (value) => !(value instanceof Undefined)),
  alone("escaped", (value) => value instanceof Text && value.markup),
  alone("even", (value) => remainder(value, 2n, 0n)),
  alone("false", (value) => value === false),
  alone("float", (value) => typeof value === "number"),
  alone("integer", (value) => typeof value === "bigint"),
  alone("iterable", (value) => iteratorOf(value) !== undefined),
  alone("lower", isKind("islower")),
  alone("mapping", (value) => value instanceof Dict),
  alone("none", (value) => value === null),
  alone("number", (value) => numeric(value) !== undefined),
  alone("odd", (value) => remainder(value, 2n, 1n)),
  alone(
    "sequence",
    (value) => [Text, List, Tuple, Dict, Range, Undefined].some((type) => value instanceof type),
  ),
  alone("string", (value) => value instanceof Text),
  alone("true", (value) => value === true),
  alone("undefined", (value) => value instanceof Undefined),
  alone("upper", isKind("isupper")),
  withOther("divisibleby", (value, by) => equal(binary("%", value, by), 0n)),
  withOther("in", (value, container) => contains(container, value)),
  withOther("sameas", same),
  ...["==", "eq", "equalto"].map((name) => withOther(name, equal)),
  ...["!=", "ne"].map((name) => withOther(name, different)),
  ...["<", "lt", "lessthan"].map((name) => withOther(name, less)),
  ...[">", "gt", "greaterthan"].map((name) => withOther(name, more)),
  ...["<=", "le"].map((name) => withOther(name, (value, other) => ordered("<=", value, other))),
  ...[">=", "ge"].map((name) => withOther(name, (value, other) => ordered(">=", value, other))),
  ["filter", (input, args, environment) => {
    unnamed("filter", args, 0);
    return environment.hasFilter(asText("filter", input).value);
  }],
  ["test", (input, args, environment) => {
    unnamed("test", args, 0);
    return environment.hasTest(asText("test", input).value);
  }],
]);
