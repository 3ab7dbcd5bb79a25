/**
 * Jinja2's filters of lists and dictionaries.
 *
 * @module
 */
import { asText, bind } from "./arguments.ts";
import { getAttribute, ownAttribute } from "./attributes.ts";
import { equal, ordered, sorted } from "./compare.ts";
import { attributeGetter, type Environment, type Filter, ignoreCase } from "./environment.ts";
import { fail } from "./errors.ts";
import { asIndex } from "./integers.ts";
import { binary } from "./numbers.ts";
import { repr, str } from "./repr.ts";
import { join } from "./string_methods.ts";
import { EMPTY, Text } from "./text.ts";
import {
  type Arguments,
  Dict,
  hashKey,
  int,
  iterate,
  iteratorOf,
  lengthOf,
  List,
  listOf,
  MAX_ITEMS,
  Stream,
  text,
  truth,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

const length: Filter = (input, args) => {
  bind("length", args, []);
  const found = lengthOf(input);
  if (found === undefined) fail(`object of type '${typeName(input)}' has no len()`);
  return int(found);
};

const defaultTo: Filter = (input, args) => {
  const { default_value, boolean } = bind("default", args, ["default_value", "boolean"], {
    default_value: EMPTY,
    boolean: false,
  });
  const missing = input instanceof Undefined || (truth(boolean) && !truth(input));
  return missing ? default_value : input;
};

function* inBatches(input: Value, linecount: Value, fill_with: Value): Generator<Value> {
  const size = asIndex(linecount);
  let batch: Value[] = [];
  for (const item of iterate(input)) {
    if (batch.length === size) {
      yield new List(batch);
      batch = [];
    }
    batch.push(item);
  }
  if (batch.length === 0) return;
  if (size > MAX_ITEMS) fail(`a batch of more than ${MAX_ITEMS} items`);
  while (fill_with !== null && batch.length < size) batch.push(fill_with);
  yield new List(batch);
}

function* inSlices(input: Value, slices: Value, fill_with: Value): Generator<Value> {
  const items = listOf(input), count = asIndex(slices);
  if (count === 0) fail("integer division or modulo by zero");
  const each = Math.floor(items.length / count), longer = items.length % count;
  let start = 0;
  for (let i = 0; i < count; i++) {
    const end = start + each + (i < longer ? 1 : 0), slice = items.slice(start, end);
    if (fill_with !== null && i >= longer) slice.push(fill_with);
    yield new List(slice);
    start = end;
  }
}

function* uniqueItems(input: Value, sensitive: boolean, attribute: Value): Generator<Value> {
  const get = attributeGetter(attribute), seen = new Set<string>();
  for (const item of iterate(input)) {
    const key = sensitive ? get(item) : ignoreCase(get(item));
    const hash = hashKey(key);
    if (seen.has(hash)) continue;
    seen.add(hash);
    yield item;
  }
}

function* mapped(input: Value, args: Arguments, environment: Environment): Generator<Value> {
  if (!truth(input)) return;
  const { positional, named } = args;
  if (positional.length === 0 && named.has("attribute")) {
    const { attribute, default: otherwise } = bind("map", args, ["attribute", "default"], {
      default: null,
    });
    const get = attributeGetter(attribute, otherwise);
    for (const item of iterate(input)) yield get(item);
    return;
  }
  const [name, ...rest] = positional;
  if (name === undefined) fail("map requires a filter argument");
  const filter = asText("map", name).value;
  for (const item of iterate(input)) {
    yield environment.filter(filter, item, { positional: rest, named });
  }
}

/** `select`, `reject` and, `byAttribute`, their like of an attribute. */
function* selected(
  input: Value,
  { positional, named }: Arguments,
  environment: Environment,
  { wanted, byAttribute }: { wanted: boolean; byAttribute: boolean },
): Generator<Value> {
  if (!truth(input)) return;
  if (byAttribute && positional.length === 0) fail("Missing parameter for attribute name");
  const get = byAttribute ? attributeGetter(positional[0]) : (item: Value) => item;
  const [name, ...rest] = positional.slice(byAttribute ? 1 : 0);
  const test = name === undefined
    ? truth
    : (item: Value) =>
      environment.test(asText("select", name).value, item, { positional: rest, named });
  for (const item of iterate(input)) {
    if (test(get(item)) === wanted) yield item;
  }
}

const selecting = (wanted: boolean, byAttribute: boolean): Filter => (input, args, environment) =>
  new Stream(selected(input, args, environment, { wanted, byAttribute }));

const extreme = (name: string, operator: "<" | ">"): Filter => (input, args) => {
  const { case_sensitive, attribute } = bind(name, args, ["case_sensitive", "attribute"], {
    case_sensitive: false,
    attribute: null,
  });
  const get = attributeGetter(attribute), sensitive = truth(case_sensitive);
  const key = (item: Value) => sensitive ? get(item) : ignoreCase(get(item));
  const [first, ...rest] = listOf(input);
  if (first === undefined) return new Undefined("No aggregated item, sequence was empty.");
  let best = first, bestKey = rest.length > 0 ? key(first) : first;
  for (const item of rest) {
    const itemKey = key(item);
    if (ordered(operator, itemKey, bestKey)) [best, bestKey] = [item, itemKey];
  }
  return best;
};

const sort: Filter = (input, args) => {
  const { reverse, case_sensitive, attribute } = bind(
    "sort",
    args,
    ["reverse", "case_sensitive", "attribute"],
    { reverse: false, case_sensitive: false, attribute: null },
  );
  const names = attribute instanceof Text
    ? attribute.value.split(",").map((name) => text(name))
    : [attribute];
  const getters = names.map((name) => attributeGetter(name)), sensitive = truth(case_sensitive);
  const key = (item: Value) =>
    new List(getters.map((get) => sensitive ? get(item) : ignoreCase(get(item))));
  return new List(sorted(listOf(input), key, truth(reverse)));
};

const dictsort: Filter = (input, args) => {
  const { case_sensitive, by, reverse } = bind(
    "dictsort",
    args,
    ["case_sensitive", "by", "reverse"],
    { case_sensitive: false, by: text("key"), reverse: false },
  );
  const place = by instanceof Text ? ["key", "value"].indexOf(by.value) : -1;
  if (place < 0) fail('You can only sort by either "key" or "value"');
  if (input instanceof Undefined) input.fail();
  if (!(input instanceof Dict)) fail(`dictsort takes a dict, got '${typeName(input)}'`);
  const sensitive = truth(case_sensitive);
  const key = (item: Tuple) => sensitive ? item.items[place] : ignoreCase(item.items[place]);
  const items = input.items().map((item) => new Tuple(item));
  return new List(sorted(items, key, truth(reverse)));
};

const groupby: Filter = (input, args) => {
  const { attribute, default: otherwise, case_sensitive } = bind(
    "groupby",
    args,
    ["attribute", "default", "case_sensitive"],
    { default: null, case_sensitive: false },
  );
  const get = attributeGetter(attribute, otherwise), sensitive = truth(case_sensitive);
  const key = (item: Value) => sensitive ? get(item) : ignoreCase(get(item));
  const groups: { key: Value; items: Value[] }[] = [];
  for (const item of sorted(listOf(input), key, false)) {
    const last = groups.at(-1), itemKey = key(item);
    if (last !== undefined && equal(last.key, itemKey)) last.items.push(item);
    else groups.push({ key: itemKey, items: [item] });
  }
  return new List(
    groups.map(({ items }) => new Tuple([get(items[0]), new List(items)], ["grouper", "list"])),
  );
};

const sum: Filter = (input, args) => {
  const { attribute, start } = bind("sum", args, ["attribute", "start"], {
    attribute: null,
    start: 0n,
  });
  if (start instanceof Text) fail("sum() can't sum strings [use ''.join(seq) instead]");
  const get = attributeGetter(attribute);
  let total: Value = start;
  for (const item of iterate(input)) total = binary("+", total, get(item));
  return total;
};

const joinItems: Filter = (input, args) => {
  const { d, attribute } = bind("join", args, ["d", "attribute"], { d: EMPTY, attribute: null });
  const get = attributeGetter(attribute);
  return join(str(d), listOf(input).map((item) => str(get(item))));
};

/** What Python's `reversed` takes; undefined where it does not. */
function reversible(input: Value): Value[] | undefined {
  if (input instanceof Stream || lengthOf(input) === undefined) return undefined;
  return iteratorOf(input) === undefined ? undefined : listOf(input).reverse();
}

const reverse: Filter = (input, args) => {
  bind("reverse", args, []);
  if (input instanceof Text) {
    return Text.concat([...input.characters()].reverse(), input.markup);
  }
  const items = reversible(input);
  if (items !== undefined) return new Stream(items[Symbol.iterator](), "reversed");
  if (iteratorOf(input) === undefined) fail("argument must be iterable");
  return new List(listOf(input).reverse());
};

const first: Filter = (input, args) => {
  bind("first", args, []);
  const next = iterate(input).next();
  return next.done ? new Undefined("No first item, sequence was empty.") : next.value;
};

const last: Filter = (input, args) => {
  bind("last", args, []);
  const items = reversible(input);
  if (items === undefined) fail(`'${typeName(input)}' object is not reversible`);
  return items.length === 0 ? new Undefined("No last item, sequence was empty.") : items[0];
};

const items: Filter = (input, args) => {
  bind("items", args, []);
  function* pairs(): Generator<Value> {
    if (input instanceof Undefined) return;
    if (!(input instanceof Dict)) fail("Can only get item pairs from a mapping.");
    for (const item of input.items()) yield new Tuple(item);
  }
  return new Stream(pairs());
};

const attr: Filter = (input, args) => {
  const name = asText("attr", bind("attr", args, ["name"]).name).value;
  if (input instanceof Undefined) input.fail();
  if (ownAttribute(input, name) !== undefined) return getAttribute(input, name);
  return new Undefined(`'${typeName(input)} object' has no attribute '${name}'`);
};

/** Dictionaries with their keys in order, as `pprint` shows them. */
function withSortedKeys(value: Value): Value {
  if (value instanceof List) return new List(value.items.map(withSortedKeys));
  if (value instanceof Tuple) return new Tuple(value.items.map(withSortedKeys));
  if (!(value instanceof Dict)) return value;
  const pairs = value.items().map(([key, item]) => [key, withSortedKeys(item)] as const);
  return new Dict(sorted(pairs, ([key]) => key, false));
}

const pprint: Filter = (input, args) => {
  bind("pprint", args, []);
  const shown = repr(withSortedKeys(input));
  if (shown.length > 80) fail("pprint of more than one line is not supported; use tojson");
  return shown;
};

/** The filters by their names. */
export const SEQUENCE_FILTERS: readonly (readonly [string, Filter])[] = [
  ["attr", attr],
  ["batch", (input, args) => {
    const { linecount, fill_with } = bind("batch", args, ["linecount", "fill_with"], {
      fill_with: null,
    });
    return new Stream(inBatches(input, linecount, fill_with));
  }],
  ["count", length],
  ["d", defaultTo],
  ["default", defaultTo],
  ["dictsort", dictsort],
  ["first", first],
  ["groupby", groupby],
  ["items", items],
  ["join", joinItems],
  ["last", last],
  ["length", length],
  ["list", (input, args) => {
    bind("list", args, []);
    return new List(listOf(input));
  }],
  ["map", (input, args, environment) => new Stream(mapped(input, args, environment))],
  ["max", extreme("max", ">")],
  ["min", extreme("min", "<")],
  ["pprint", pprint],
  ["random", () => fail("filter 'random' is not supported: a prompt is the same each time")],
  ["reject", selecting(false, false)],
  ["rejectattr", selecting(false, true)],
  ["reverse", reverse],
  ["select", selecting(true, false)],
  ["selectattr", selecting(true, true)],
  ["slice", (input, args) => {
    const { slices, fill_with } = bind("slice", args, ["slices", "fill_with"], { fill_with: null });
    return new Stream(inSlices(input, slices, fill_with));
  }],
  ["sort", sort],
  ["sum", sum],
  ["unique", (input, args) => {
    const { case_sensitive, attribute } = bind("unique", args, ["case_sensitive", "attribute"], {
      case_sensitive: false,
      attribute: null,
    });
    return new Stream(uniqueItems(input, truth(case_sensitive), attribute));
  }],
];
