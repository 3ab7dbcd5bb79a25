/**
 * Attributes, items and slices of values, as Jinja2's immutable sandbox gives them: nothing that would
 * change a list or a dictionary, and nothing of Python's inside.
 *
 * @module
 */
import { bind, optionalIndex, unnamed } from "./arguments.ts";
import { equal } from "./compare.ts";
import { fail } from "./errors.ts";
import { asIndex, numeric } from "./integers.ts";
import { str } from "./repr.ts";
import { formatText, type Lookup } from "./string_format.ts";
import { STRING_METHODS } from "./string_methods.ts";
import { Text } from "./text.ts";
import {
  type Arguments,
  Callable,
  Dict,
  int,
  iterate,
  List,
  Range,
  Thing,
  Tuple,
  typeName,
  Undefined,
  type Value,
  View,
} from "./values.ts";

type Method<Self> = (self: Self, args: Arguments) => Value;
type Methods<Self> = ReadonlyMap<string, Method<Self>>;

/** Methods that change what they belong to: there, but unsafe. */
const CHANGING_LIST = [
  "append",
  "clear",
  "pop",
  "reverse",
  "insert",
  "sort",
  "extend",
  "remove",
] as const;
const CHANGING_DICT = ["clear", "pop", "popitem", "setdefault", "update"] as const;

function indexOf(self: List | Tuple | Range, args: Arguments): Value {
  const [value, from, to] = unnamed("index", args, 1, 3);
  const items = self instanceof Range ? [...iterate(self)] : self.items;
  const start = optionalIndex(from) ?? 0, end = optionalIndex(to) ?? items.length;
  const place = (at: number) => at < 0 ? Math.max(0, at + items.length) : at;
  for (let i = place(start); i < Math.min(items.length, place(end)); i++) {
    if (equal(items[i], value)) return int(i);
  }
  fail(`${str(value).value} is not in ${typeName(self)}`);
}

function countOf(self: List | Tuple | Range, args: Arguments): Value {
  const [value] = unnamed("count", args, 1);
  return int([...iterate(self)].filter((item) => equal(item, value)).length);
}

/** Attributes of numbers that are no methods. */
function numberAttribute(number: bigint | number, name: string): Value | undefined {
  const whole = typeof number === "bigint";
  if (name === "real" || (name === "numerator" && whole)) return number;
  if (name === "imag") return whole ? 0n : 0;
  return name === "denominator" && whole ? 1n : undefined;
}

const FLOAT_METHODS: Methods<number> = new Map<string, Method<number>>([
  ["is_integer", (self) => Number.isInteger(self)],
  ["conjugate", (self) => self],
]);

const INT_METHODS: Methods<bigint> = new Map<string, Method<bigint>>([
  ["bit_length", (self) => {
    return self === 0n ? 0n : int((self < 0n ? -self : self).toString(2).length);
  }],
  ["bit_count", (self) => int((self < 0n ? -self : self).toString(2).replaceAll("0", "").length)],
  ["conjugate", (self) => self],
]);

const LIST_METHODS: Methods<List> = new Map<string, Method<List>>([
  ["copy", (self) => new List(self.items)],
  ["count", countOf],
  ["index", indexOf],
]);

const ROW_METHODS: Methods<Tuple | Range> = new Map<string, Method<Tuple | Range>>([
  ["count", countOf],
  ["index", indexOf],
]);

const DICT_METHODS: Methods<Dict> = new Map<string, Method<Dict>>([
  ["copy", (self) => new Dict(self.items())],
  ["fromkeys", (_, args) => {
    const [keys, value = null] = unnamed("fromkeys", args, 1, 2);
    return new Dict([...iterate(keys)].map((key) => [key, value] as const));
  }],
  ["get", (self, args) => {
    const [key, otherwise = null] = unnamed("get", args, 1, 2);
    const value = self.get(key);
    return value === undefined ? otherwise : value;
  }],
  ["items", (self, args) => view(self, "items", args)],
  ["keys", (self, args) => view(self, "keys", args)],
  ["values", (self, args) => view(self, "values", args)],
]);

function view(self: Dict, kind: View["kind"], args: Arguments): View {
  unnamed(kind, args, 0);
  return new View(self, kind);
}

function method<Self extends Value>(
  methods: Methods<Self>,
  self: Self,
  name: string,
): Callable | undefined {
  const found = methods.get(name);
  return found && new Callable(name, (args) => found(self, args));
}

function textAttribute(self: Text, name: string): Value | undefined {
  if (name === "format") return new Callable(name, (args) => formatText(self, args, LOOKUP));
  if (name === "format_map") {
    return new Callable(name, (args) => {
      const { mapping } = bind("format_map", args, ["mapping"]);
      if (!(mapping instanceof Dict)) fail("format_map() takes a mapping");
      const named = new Map(mapping.items().map(([key, value]) => [str(key).value, value]));
      return formatText(self, { positional: [], named }, LOOKUP);
    });
  }
  return method(STRING_METHODS, self, name);
}

/** An attribute that a value has of itself, which is safe; undefined where there is none. */
export function ownAttribute(object: Value, name: string): Value | undefined {
  if (object instanceof Text) return textAttribute(object, name);
  if (object instanceof Dict) return method(DICT_METHODS, object, name);
  if (object instanceof List) return method(LIST_METHODS, object, name);
  if (object instanceof Tuple) {
    const field = object.fields.indexOf(name);
    return field < 0 ? method(ROW_METHODS, object, name) : object.items[field];
  }
  if (object instanceof Range) {
    if (name === "start" || name === "stop" || name === "step") return object[name];
    return method(ROW_METHODS, object, name);
  }
  if (object instanceof View && name === "mapping") return object.dict;
  if (object instanceof Thing) return object.attribute(name);
  const number = numeric(object);
  if (number === undefined) return undefined;
  const plain = numberAttribute(number, name);
  if (plain !== undefined) return plain;
  return typeof number === "bigint"
    ? method(INT_METHODS, number, name)
    : method(FLOAT_METHODS, number, name);
}

/** Whether the value has such an attribute that the sandbox keeps from templates. */
function isUnsafe(object: Value, name: string): boolean {
  if (name.startsWith("__") && name.endsWith("__") && name.length > 4) {
    return ["__class__", "__doc__", "__init__", "__dict__", "__eq__", "__len__", "__iter__"]
      .includes(name);
  }
  const changing: readonly string[] = object instanceof List
    ? CHANGING_LIST
    : object instanceof Dict
    ? CHANGING_DICT
    : [];
  return changing.includes(name);
}

function describe(object: Value): string {
  return object === null ? "None" : `'${typeName(object)} object'`;
}

function unsafe(object: Value, name: string): Undefined {
  const type = typeName(object);
  return new Undefined(`access to attribute '${name}' of '${type}' object is unsafe.`);
}

/** The item of a list or the like at an index; undefined where there is none. */
function itemAt(object: Value, key: Value): Value | undefined {
  if (object instanceof Dict) {
    return key instanceof List || key instanceof Dict ? undefined : object.get(key);
  }
  const number = numeric(key);
  if (typeof number !== "bigint") return undefined;
  const at = asIndex(number);
  const place = (length: number) => at < 0 ? at + length : at;
  if (object instanceof List || object instanceof Tuple) {
    return object.items[place(object.items.length)];
  }
  if (object instanceof Range) {
    const index = place(object.length);
    return index >= 0 && index < object.length ? object.at(index) : undefined;
  }
  if (object instanceof Text) {
    const index = place(object.length);
    return index >= 0 && index < object.length ? object.slice(index, index + 1) : undefined;
  }
  return undefined;
}

/** `object.name`: an attribute before an item of that name. */
export function getAttribute(object: Value, name: string): Value {
  if (object instanceof Undefined) object.fail();
  const own = ownAttribute(object, name);
  if (own !== undefined) return own;
  if (isUnsafe(object, name)) return unsafe(object, name);
  const item = object instanceof Dict ? object.text(name) : undefined;
  return item === undefined
    ? new Undefined(`${describe(object)} has no attribute '${name}'`)
    : item;
}

/** `object[key]`: an item before an attribute of that name. */
export function getItem(object: Value, key: Value): Value {
  if (object instanceof Undefined) object.fail();
  const item = itemAt(object, key);
  if (item !== undefined) return item;
  if (key instanceof Text) {
    const own = ownAttribute(object, key.value);
    if (own !== undefined) return own;
    if (isUnsafe(object, key.value)) return unsafe(object, key.value);
    return new Undefined(`${describe(object)} has no attribute '${key.value}'`);
  }
  return new Undefined(`${typeName(object)} object has no element ${str(key).value}`);
}

const LOOKUP: Lookup = { attribute: getAttribute, item: getItem };

/** Places of a slice, as Python's `slice.indices` has them. */
function places(
  length: number,
  [start, stop, step]: readonly (number | undefined)[],
): { from: number; count: number; by: number } {
  const by = step ?? 1;
  if (by === 0) fail("slice step cannot be zero");
  const [low, high] = by < 0 ? [-1, length - 1] : [0, length];
  const clamp = (at: number) => Math.min(high, Math.max(low, at < 0 ? at + length : at));
  const from = start === undefined ? (by < 0 ? high : low) : clamp(start);
  const to = stop === undefined ? (by < 0 ? low : high) : clamp(stop);
  return { from, count: Math.max(0, Math.ceil((to - from) / by)), by };
}

/** `object[start:stop:step]`. */
export function getSlice(object: Value, bounds: readonly (Value | undefined)[]): Value {
  if (object instanceof Undefined) object.fail();
  const given = bounds.map((bound) => {
    if (bound instanceof Undefined) {
      fail("slice indices must be integers or None or have an __index__ method");
    }
    return optionalIndex(bound);
  });
  const pick = <T>(items: readonly T[]): T[] => {
    const { from, count, by } = places(items.length, given);
    return Array.from({ length: count }, (_, i) => items[from + i * by]);
  };
  if (object instanceof Text) {
    const { from, count, by } = places(object.length, given);
    if (by === 1) return object.slice(from, from + count);
    return Text.concat(pick([...object.characters()]), object.markup);
  }
  if (object instanceof List) return new List(pick(object.items));
  if (object instanceof Tuple) return new Tuple(pick(object.items));
  if (object instanceof Range) {
    const { from, count, by } = places(object.length, given);
    const step = object.step * BigInt(by), start = object.at(from);
    return new Range(start, start + BigInt(count) * step, step);
  }
  if (object instanceof Dict) fail("unhashable type: 'slice'");
  fail(`'${typeName(object)}' object is not subscriptable`);
}
