/**
 * Python's values, as templates see them: `None` is null, an `int` a bigint, a `float` a number.
 *
 * Dictionaries are maps and never JavaScript objects, whose prototypes a template could reach.
 *
 * @module
 */
import { spend } from "./budget.ts";
import { fail } from "./errors.ts";
import { EMPTY, Text } from "./text.ts";

/** Any of them. */
export type Value =
  | null
  | boolean
  | bigint
  | number
  | Text
  | List
  | Tuple
  | Dict
  | View
  | Range
  | Stream
  | Undefined
  | Thing;

/** What a call is given. */
export interface Arguments {
  positional: readonly Value[];
  named: ReadonlyMap<string, Value>;
}

/** Units of work that an item of a list counts as. */
const ITEM_UNITS = 16;

/** The most items that a template's list may have. */
export const MAX_ITEMS = 1_000_000;

/** A `list`, which no template can change. */
export class List {
  constructor(readonly items: readonly Value[]) {
    spend(ITEM_UNITS * items.length);
    if (items.length > MAX_ITEMS) fail(`a list of more than ${MAX_ITEMS} items is made`);
  }
}

/** A `tuple`, named or not. */
export class Tuple {
  /** @param fields Names of the items, of a named tuple. */
  constructor(readonly items: readonly Value[], readonly fields: readonly string[] = []) {
    spend(ITEM_UNITS * items.length);
    if (items.length > MAX_ITEMS) fail(`a tuple of more than ${MAX_ITEMS} items is made`);
  }
}

/** A `dict`, in the order of insertion. */
export class Dict {
  readonly #entries = new Map<string, readonly [Value, Value]>();

  constructor(items: Iterable<readonly [Value, Value]> = []) {
    for (const [key, value] of items) this.set(key, value);
  }

  get size(): number {
    return this.#entries.size;
  }

  /** @throws TemplateError where the key is a list or the like. */
  get(key: Value): Value | undefined {
    return this.#entries.get(hashKey(key))?.[1];
  }

  /** Value of a key that is a text. */
  text(key: string): Value | undefined {
    return this.#entries.get(`s${key}`)?.[1];
  }

  has(key: Value): boolean {
    return this.#entries.has(hashKey(key));
  }

  /** Only for a dictionary in the making: templates can't change one. */
  set(key: Value, value: Value): void {
    spend(2 * ITEM_UNITS);
    const hash = hashKey(key);
    // As in Python, an equal key stays as it was first.
    this.#entries.set(hash, [this.#entries.get(hash)?.[0] ?? key, value]);
  }

  keys(): Value[] {
    return [...this.#entries.values()].map(([key]) => key);
  }

  values(): Value[] {
    return [...this.#entries.values()].map(([, value]) => value);
  }

  items(): (readonly [Value, Value])[] {
    return [...this.#entries.values()];
  }
}

/** What a dictionary's `keys()`, `values()` and `items()` give. */
export class View {
  constructor(readonly dict: Dict, readonly kind: "keys" | "values" | "items") {}

  items(): Value[] {
    if (this.kind === "keys") return this.dict.keys();
    if (this.kind === "values") return this.dict.values();
    return this.dict.items().map((item) => new Tuple(item));
  }
}

/** A `range`. */
export class Range {
  readonly length: number;

  constructor(readonly start: bigint, readonly stop: bigint, readonly step: bigint) {
    const [span, by] = step > 0n ? [stop - start, step] : [start - stop, -step];
    this.length = span <= 0n ? 0 : Number((span + by - 1n) / by);
  }

  at(index: number): bigint {
    return this.start + BigInt(index) * this.step;
  }
}

/** An iterator: it can be gone through once, and has neither length nor items. */
export class Stream {
  constructor(readonly iterator: Iterator<Value>, readonly type = "generator") {}
}

/** Whether the rendering under way takes all uses of what is undefined for errors. */
let strictlyUndefined = false;

/** Runs a rendering in which printing, testing or going through what is undefined is an error, where `strict` says so. */
export function withUndefined<T>(strict: boolean, run: () => T): T {
  strictlyUndefined = strict;
  try {
    return run();
  } finally {
    strictlyUndefined = false;
  }
}

/**
 * A variable, item or attribute that there is none of. It prints as nothing, is false and has no items, unless it is
 * strictly undefined; most else is an error.
 */
export class Undefined {
  constructor(readonly message: string) {}

  /** Called for what is an error only where it is strictly undefined. @throws TemplateError then. */
  use(): void {
    if (strictlyUndefined) this.fail();
  }

  /** Called where it would be printed. @throws TemplateError where that is an error. */
  print(): void {
    this.use();
  }

  /** @throws TemplateError that says what is undefined. */
  fail(): never {
    fail(this.message);
  }
}

/** A field that a record lacks, though others have it: false and without items in any rendering, and never printed. */
export class Absent extends Undefined {
  override use(): void {}

  override print(): void {
    this.fail();
  }
}

/** A function, or an object of Jinja's own. */
export abstract class Thing {
  /** Name of the type. */
  abstract readonly type: string;

  /** An attribute; undefined where there is none. */
  attribute(_name: string): Value | undefined {
    return undefined;
  }

  /** Number of its items, where it has any. */
  get length(): number | undefined {
    return undefined;
  }

  /** Calls it. */
  call(_args: Arguments): Value {
    fail(`'${this.type}' object is not callable`);
  }

  /** Whether it can be called. */
  get callable(): boolean {
    return false;
  }

  /** As it is printed. */
  describe(): string {
    return `<${this.type} object>`;
  }
}

/** A function or method. */
export class Callable extends Thing {
  readonly type = "builtin_function_or_method";

  constructor(readonly name: string, readonly run: (args: Arguments) => Value) {
    super();
  }

  override call(args: Arguments): Value {
    return this.run(args);
  }

  override get callable(): boolean {
    return true;
  }

  override describe(): string {
    return `<built-in method ${this.name}>`;
  }
}

/** Name of a value's type in Python. */
export function typeName(value: Value): string {
  if (value === null) return "NoneType";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "bigint") return "int";
  if (typeof value === "number") return "float";
  if (value instanceof Text) return value.markup ? "Markup" : "str";
  if (value instanceof List) return "list";
  if (value instanceof Tuple) return "tuple";
  if (value instanceof Dict) return "dict";
  if (value instanceof View) return `dict_${value.kind}`;
  if (value instanceof Range) return "range";
  if (value instanceof Undefined) return "Undefined";
  return value.type;
}

const identities = new WeakMap<object, number>();
let identitiesGiven = 0;

/** A number that stands for an object. */
function identity(value: object): number {
  let number = identities.get(value);
  if (number === undefined) identities.set(value, number = identitiesGiven++);
  return number;
}

/**
 * A text that is the same for keys that Python takes for equal.
 *
 * @throws TemplateError where the value can't be a key.
 */
export function hashKey(value: Value): string {
  if (value === null) return "-";
  if (typeof value === "boolean") return value ? "n1" : "n0";
  if (typeof value === "bigint") return `n${value}`;
  if (typeof value === "number") {
    return Number.isInteger(value) ? `n${BigInt(value)}` : `n${value}`;
  }
  if (value instanceof Text) return `s${value.value}`;
  if (value instanceof Tuple) {
    const keys = value.items.map(hashKey);
    const key = `t${keys.map(({ length }) => length).join(",")}:${keys.join("")}`;
    spend(key.length);
    return key;
  }
  if (value instanceof Undefined) {
    value.use();
    return "u";
  }
  if (value instanceof Range) return `r${value.length}:${value.start}:${value.step}`;
  if (value instanceof List || value instanceof Dict || value instanceof View) {
    fail(`unhashable type: '${typeName(value)}'`);
  }
  return `o${identity(value)}`;
}

/** Units of work that it takes to look through a value. */
export function sizeOf(value: Value): number {
  if (value instanceof Text) return value.value.length;
  if (value instanceof List || value instanceof Tuple) return ITEM_UNITS * value.items.length;
  return value instanceof Dict ? ITEM_UNITS * value.size : ITEM_UNITS;
}

/** Python's `bool(value)`. */
export function truth(value: Value): boolean {
  if (value === null) return false;
  if (value instanceof Undefined) {
    value.use();
    return false;
  }
  if (typeof value === "boolean") return value;
  if (typeof value === "bigint") return value !== 0n;
  if (typeof value === "number") return value !== 0;
  if (value instanceof Text) return value.value !== "";
  if (value instanceof List || value instanceof Tuple) return value.items.length > 0;
  if (value instanceof Dict) return value.size > 0;
  if (value instanceof View) return value.dict.size > 0;
  if (value instanceof Range) return value.length > 0;
  return true;
}

/** Python's `len(value)`, or undefined where it has none. */
export function lengthOf(value: Value): number | undefined {
  if (value instanceof Text || value instanceof Range) return value.length;
  if (value instanceof List || value instanceof Tuple) return value.items.length;
  if (value instanceof Dict) return value.size;
  if (value instanceof View) return value.dict.size;
  if (value instanceof Undefined) {
    value.use();
    return 0;
  }
  return value instanceof Thing ? value.length : undefined;
}

function* rangeItems(range: Range): Generator<Value> {
  for (let i = 0; i < range.length; i++) yield range.at(i);
}

/** Python's `iter(value)`, or undefined where it can't be gone through. */
export function iteratorOf(value: Value): Iterator<Value> | undefined {
  if (value instanceof List || value instanceof Tuple) return value.items[Symbol.iterator]();
  if (value instanceof Text) return value.characters();
  if (value instanceof Dict) return value.keys()[Symbol.iterator]();
  if (value instanceof View) return value.items()[Symbol.iterator]();
  if (value instanceof Range) return rangeItems(value);
  if (value instanceof Stream) return value.iterator;
  if (value instanceof Undefined) {
    value.use();
    return [][Symbol.iterator]();
  }
  return undefined;
}

/**
 * The items of what can be gone through.
 *
 * @throws TemplateError where it can't.
 */
export function* iterate(value: Value): Generator<Value> {
  const iterator = iteratorOf(value);
  if (iterator === undefined) fail(`'${typeName(value)}' object is not iterable`);
  // Not by for-of, which would end a stream that is only left for a while.
  for (let next = iterator.next(); !next.done; next = iterator.next()) yield next.value;
}

/** All items of what can be gone through. */
export function listOf(value: Value): Value[] {
  const items: Value[] = [];
  for (const item of iterate(value)) {
    items.push(item);
    if (items.length > MAX_ITEMS) fail(`a list of more than ${MAX_ITEMS} items is made`);
  }
  return items;
}

/** A plain string of the template. */
export function text(value: string): Text {
  return value === "" ? EMPTY : new Text(value);
}

/** An `int` of a JavaScript integer. */
export const int = (value: number): bigint => BigInt(value);
