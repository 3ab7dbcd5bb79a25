/**
 * Several schemas at once as one: `allOf`, and what is said beside a `$ref` or a union.
 *
 * @module
 */
import { isObject } from "../../../model/files/json_file.ts";
import { ANNOTATIONS, type Schema } from "./schema_kinds.ts";

/** What of the whole schema is needed. */
export interface Surroundings {
  /** The schema that a `$ref` leads to. */
  readonly target: (reference: unknown, path: string) => unknown;
  /** Refuses what is at a path. */
  readonly fail: (path: string, problem: string) => never;
}

/** Schemas within one another at most, and in all. */
const DEEPEST = 64, MOST_PARTS = 256;

/** A schema and where it stands. */
interface Part {
  readonly schema: Schema;
  readonly path: string;
}

/** Takes a schema apart. */
class Parts {
  /** All that was said, in parts of which none has `allOf` or `$ref`. */
  readonly all: Part[] = [];

  constructor(readonly around: Surroundings) {}

  add(schema: unknown, path: string, depth = 0): void {
    const { fail, target } = this.around;
    if (schema === true) return;
    if (!isObject(schema)) return fail(path, "is no schema; expected an object");
    if (depth > DEEPEST) fail(path, "a schema refers to itself without anything around it");
    const { allOf = [], $ref, ...own } = schema;
    if (!Array.isArray(allOf)) return fail(`${path}.allOf`, "expected a list of schemas");
    if ($ref !== undefined) this.add(target($ref, path), `(${$ref})`, depth + 1);
    this.all.push({ schema: own, path });
    if (this.all.length > MOST_PARTS) fail(path, "has too many schemas at once");
    allOf.forEach((one, i) => this.add(one, `${path}.allOf[${i}]`, depth + 1));
  }
}

const asList = (value: unknown): unknown[] => Array.isArray(value) ? value : [value];
const isSame = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);

/** A schema that is valid where two are. */
const both = (a: unknown, b: unknown) => a === false || b === false ? false : { allOf: [a, b] };

/** The types that two lists of types have in common. */
function commonTypes(a: unknown, b: unknown): unknown {
  const isIn = (type: unknown, types: unknown[]) =>
    types.includes(type) || (type === "integer" && types.includes("number"));
  const [first, second] = [asList(a), asList(b)];
  const common = new Set([
    ...first.filter((type) => isIn(type, second)),
    ...second.filter((type) => isIn(type, first)),
  ]);
  return common.size === 0 ? undefined : [...common];
}

/** The values that two lists have in common. */
function commonValues(a: unknown, b: unknown): unknown {
  const common = asList(a).filter((value) => asList(b).some((other) => isSame(value, other)));
  return common.length === 0 ? undefined : common;
}

/** Properties of two schemas. */
function bothProperties(a: unknown, b: unknown): unknown {
  if (!isObject(a) || !isObject(b)) return a;
  const all: Schema = { ...a };
  for (const [name, schema] of Object.entries(b)) {
    all[name] = Object.hasOwn(a, name) ? both(a[name], schema) : schema;
  }
  return all;
}

/** One of two numbers; what is none is told of later. */
const numbers = (pick: (a: number, b: number) => number) => (a: unknown, b: unknown) => {
  if (typeof a !== "number") return a;
  return typeof b === "number" ? pick(a, b) : b;
};
const greater = numbers(Math.max), smaller = numbers(Math.min);

/** How two values of a keyword are one; undefined where nothing is valid by both. */
const TOGETHER: Readonly<Record<string, (a: unknown, b: unknown) => unknown>> = {
  type: commonTypes,
  enum: commonValues,
  properties: bothProperties,
  required: (a, b) => [...new Set([...asList(a), ...asList(b)])],
  items: both,
  additionalProperties: both,
  minimum: greater,
  exclusiveMinimum: greater,
  minLength: greater,
  minItems: greater,
  maximum: smaller,
  exclusiveMaximum: smaller,
  maxLength: smaller,
  maxItems: smaller,
};

function namesOf({ schema: { properties } }: Part): string[] {
  return isObject(properties) ? Object.keys(properties) : [];
}

/** Refuses lists and objects of which one schema says what others say of other items or properties. */
function checkOthers(parts: readonly Part[], { fail }: Surroundings): void {
  for (const part of parts) {
    const { schema: { additionalProperties, prefixItems }, path } = part;
    const rest = parts.filter((other) => other !== part);
    if (prefixItems !== undefined && rest.some(({ schema }) => schema.items !== undefined)) {
      fail(`${path}.prefixItems`, "can't be kept beside another schema's items");
    }
    if (additionalProperties === undefined || additionalProperties === true) continue;
    const own = namesOf(part);
    const other = rest.flatMap(namesOf).find((name) => !own.includes(name));
    if (other === undefined) continue;
    const name = JSON.stringify(other);
    fail(
      `${path}.additionalProperties`,
      `can't be kept beside another schema's property ${name}`,
    );
  }
}

/**
 * A schema that says all that another one says with `allOf`, or beside a `$ref` or a union.
 *
 * @throws by `fail`, where nothing is valid by all, or one schema can't say it.
 */
export function mergedSchema(schema: Schema, path: string, around: Surroundings): Schema {
  const parts = new Parts(around), merged: Schema = {};
  parts.add(schema, path);
  checkOthers(parts.all, around);
  for (const { schema: { const: constant, ...rest }, path } of parts.all) {
    const said = constant === undefined ? rest : { ...rest, enum: [constant] };
    for (const [key, value] of Object.entries(said)) {
      if (value === undefined || ANNOTATIONS.includes(key)) continue;
      const before = merged[key];
      if (before === undefined || isSame(before, value)) merged[key] = value;
      else if (!Object.hasOwn(TOGETHER, key)) {
        around.fail(`${path}.${key}`, "can't be kept beside that of another schema; leave it out");
      } else {
        merged[key] = TOGETHER[key](before, value) ??
          around.fail(`${path}.${key}`, "has nothing in common with that of another schema");
      }
    }
  }
  return merged;
}
