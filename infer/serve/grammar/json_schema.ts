/**
 * From a JSON schema to a grammar of the JSON texts that are valid by it, in the EBNF that xgrammar reads.
 *
 * The texts are some of the valid ones, never others: they have one line and a space after commas and colons, properties
 * in the schema's order, and no properties that the schema does not name. What a grammar can't say, such as `multipleOf`, is
 * refused by its name.
 *
 * @module
 */
import { isObject } from "../../../model/files/json_file.ts";
import { ApiError } from "../api_error.ts";
import { FORMATS, integerBetween, JSON_RULES, literal, times } from "./json_rules.ts";

/** Keywords that say nothing of what is valid. */
const ANNOTATIONS = [
  ...["title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs"],
  ...["definitions", "deprecated", "readOnly", "writeOnly"],
];

/** Keywords that each type has. */
const OF_TYPE: Readonly<Record<string, readonly string[]>> = {
  string: ["minLength", "maxLength", "format"],
  integer: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
  number: [],
  boolean: [],
  null: [],
  array: ["items", "prefixItems", "minItems", "maxItems"],
  object: ["properties", "required", "additionalProperties"],
};
const TYPES = Object.keys(OF_TYPE);

/** Levels of a schema at most, and of its rules. */
const DEEPEST = 64, MOST_RULES = 5000;

type Schema = Record<string, unknown>;

/**
 * Characters of a string that rules count: the more there are, the longer each mask takes. Of longer ones the mask counts
 * (masks.ts), and ends them so many characters before their most.
 */
const COUNTED = 40, ROOM = 64;

/** A grammar. */
export interface Grammar {
  readonly ebnf: string;
  /** Characters of any string at most, which the rules don't say. */
  readonly longest?: number;
}

/** Writes the rules of one schema. */
class Writer {
  readonly #rules = new Map<string, string>();
  /** Rules of `$ref`s. */
  readonly #named = new Map<string, string>();
  /** The least of the strings' most characters, where rules don't count them, and the most of their least. */
  #longest = Infinity;
  #shortest = 0;

  constructor(readonly root: unknown, readonly param: string) {}

  /** The grammar. */
  grammar(): Grammar {
    const start = this.#value(this.root, "", 0);
    for (const name of this.#rules.keys()) this.#refuseCircle(name, []);
    const rules = Array.from(this.#rules, ([name, body]) => `${name} ::= ${body}`);
    const longest = this.#longest, ebnf = [`root ::= ${start}`, ...rules, JSON_RULES].join("\n");
    if (longest < this.#shortest + ROOM) {
      this.#fail(
        "",
        `has strings of ${this.#shortest} characters and more, and of at most ${longest}; ` +
          `expected a maxLength of more than ${COUNTED} to be ${ROOM} above every minLength`,
      );
    }
    return longest === Infinity ? { ebnf } : { ebnf, longest };
  }

  /** Refuses a schema that may be nothing but itself, as a union with a reference back to it. */
  #refuseCircle(name: string, trail: readonly string[]): void {
    if (trail.includes(name)) {
      this.#fail("", "a schema refers to itself without anything around it");
    }
    for (const alternative of this.#rules.get(name)?.split(" | ") ?? []) {
      if (this.#rules.has(alternative)) this.#refuseCircle(alternative, [...trail, name]);
    }
  }

  #fail(path: string, problem: string): never {
    throw new ApiError(400, `${this.param}${path}: ${problem}`, {
      param: this.param,
      code: "invalid_schema",
    });
  }

  #rule(body: string): string {
    const name = `r${this.#rules.size}`;
    if (this.#rules.size > MOST_RULES) this.#fail("", "the schema is too large");
    this.#rules.set(name, body);
    return name;
  }

  /** What a value of a schema is: the name of a rule, or an expression in brackets. */
  #value(schema: unknown, path: string, depth: number): string {
    if (depth > DEEPEST) this.#fail(path, `is nested too deep; expected at most ${DEEPEST} levels`);
    if (schema === true) return "any";
    if (!isObject(schema)) this.#fail(path, "is no schema; expected an object");
    if (schema.$ref !== undefined) return this.#reference(schema, path, depth);
    if (schema.const !== undefined) return this.#enumeration(schema, "const", [schema.const], path);
    if (schema.enum !== undefined) {
      const { enum: values } = schema;
      if (!Array.isArray(values) || values.length === 0) this.#fail(`${path}.enum`, "has no value");
      return this.#enumeration(schema, "enum", values, path);
    }
    for (const union of ["anyOf", "oneOf", "allOf"] as const) {
      if (schema[union] !== undefined) return this.#union(schema, union, path, depth);
    }
    return this.#typed(schema, path, depth);
  }

  /** Refuses keywords besides those that are understood. */
  #only(schema: Schema, known: readonly string[], path: string): void {
    const other = Object.keys(schema).find((key) =>
      !known.includes(key) && !ANNOTATIONS.includes(key) && schema[key] !== undefined
    );
    if (other !== undefined) {
      const beside = known.length > 0 ? ` beside ${known.join(", ")}` : "";
      this.#fail(`${path}.${other}`, `can't be kept here${beside}; leave it out`);
    }
  }

  #reference(schema: Schema, path: string, depth: number): string {
    this.#only(schema, ["$ref"], path);
    const { $ref: reference } = schema;
    if (typeof reference !== "string" || !/^#(\/|$)/.test(reference)) {
      this.#fail(`${path}.$ref`, "expected a place in the schema, such as #/$defs/name");
    }
    const known = this.#named.get(reference);
    if (known !== undefined) return known;
    let target: unknown = this.root;
    for (const part of reference.split("/").slice(1)) {
      const key = decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
      target = Object.hasOwn(Object(target), key) ? (target as Schema)[key] : undefined;
    }
    if (target === undefined) this.#fail(`${path}.$ref`, `there is no ${reference}`);
    const name = `d${this.#named.size}`;
    this.#named.set(reference, name);
    const body = this.#value(target, `(${reference})`, depth + 1);
    if (body === name) this.#fail(`${path}.$ref`, `${reference} is nothing but itself`);
    this.#rules.set(name, body);
    return name;
  }

  #enumeration(schema: Schema, keyword: string, values: unknown[], path: string): string {
    this.#only(schema, [keyword, "type"], path);
    const fitting = values.filter((value) => hasType(value, schema.type));
    if (fitting.length === 0) this.#fail(`${path}.${keyword}`, "has no value of its type");
    return this.#rule(fitting.map((value) => literal(JSON.stringify(value))).join(" | "));
  }

  #union(schema: Schema, keyword: string, path: string, depth: number): string {
    const { [keyword]: branches } = schema;
    this.#only(schema, [keyword], path);
    if (!Array.isArray(branches) || branches.length === 0) {
      this.#fail(`${path}.${keyword}`, "expected a list of schemas");
    }
    if (keyword === "allOf" && branches.length > 1) {
      this.#fail(`${path}.allOf`, "several schemas at once can't be kept; expected one");
    }
    if (keyword === "oneOf" && !areApart(branches)) {
      this.#fail(
        `${path}.oneOf`,
        "its schemas may be valid together; expected anyOf, or schemas of different types or constants",
      );
    }
    const values = branches.map((branch, i) =>
      this.#value(branch, `${path}.${keyword}[${i}]`, depth + 1)
    );
    return this.#rule(values.join(" | "));
  }

  #typed(schema: Schema, path: string, depth: number): string {
    const given = schema.type ?? impliedType(schema);
    if (given === undefined) {
      this.#only(schema, [], path);
      return "any";
    }
    const types = Array.isArray(given) ? given : [given];
    const strange = types.find((type) => !TYPES.includes(type));
    if (strange !== undefined || types.length === 0) {
      this.#fail(`${path}.type`, `is ${JSON.stringify(given)}; expected ${TYPES.join(", ")}`);
    }
    this.#only(schema, ["type", ...types.flatMap((type) => OF_TYPE[type])], path);
    const values = types.map((type) => this.#ofType(type, schema, path, depth));
    return values.length === 1 ? values[0] : this.#rule(values.join(" | "));
  }

  #ofType(type: string, schema: Schema, path: string, depth: number): string {
    switch (type) {
      case "string":
        return this.#string(schema, path);
      case "integer":
        return this.#integer(schema, path);
      case "array":
        return this.#array(schema, path, depth);
      case "object":
        return this.#object(schema, path, depth);
      default:
        return type; // number, boolean, null
    }
  }

  /** A whole number of at least 0, or what is said where there is none. */
  #count<T>(schema: Schema, key: string, otherwise: T, path: string): number | T {
    const value = schema[key];
    if (value === undefined) return otherwise;
    if (typeof value === "number" && Number.isInteger(value) && value >= 0) return value;
    this.#fail(`${path}.${key}`, "expected a whole number of at least 0");
  }

  #range(
    schema: Schema,
    [low, high]: [string, string],
    path: string,
  ): [number, number | undefined] {
    const least = this.#count(schema, low, 0, path);
    const most = this.#count(schema, high, undefined, path);
    if (most !== undefined && most < least) this.#fail(`${path}.${high}`, `is less than ${low}`);
    return [least, most];
  }

  #string(schema: Schema, path: string): string {
    const { format } = schema;
    const [least, most] = this.#range(schema, ["minLength", "maxLength"], path);
    if (format !== undefined) {
      this.#only(schema, ["type", "format"], path);
      const rule = Object.hasOwn(FORMATS, String(format)) ? FORMATS[String(format)] : undefined;
      if (rule === undefined) {
        this.#fail(`${path}.format`, `can't be kept; expected ${Object.keys(FORMATS).join(", ")}`);
      }
      return this.#rule(`"\\"" ${rule} "\\""`);
    }
    this.#shortest = Math.max(this.#shortest, least);
    if (most !== undefined && most <= COUNTED) {
      return this.#rule(`"\\"" ${times("char", least, most)} "\\""`);
    }
    this.#longest = Math.min(this.#longest, most ?? Infinity);
    if (least === 0) return "string";
    return this.#rule(`"\\"" ${times("char", least, least)} char* "\\""`);
  }

  #integer(schema: Schema, path: string): string {
    const bound = (key: string) => {
      const value = schema[key];
      if (value === undefined || typeof value === "number") return value;
      this.#fail(`${path}.${key}`, "expected a number");
    };
    const [low, above] = [bound("minimum"), bound("exclusiveMinimum")];
    const [high, below] = [bound("maximum"), bound("exclusiveMaximum")];
    const least = Math.max(Math.ceil(low ?? -Infinity), Math.floor((above ?? -Infinity) + 1));
    const most = Math.min(Math.floor(high ?? Infinity), Math.ceil((below ?? Infinity) - 1));
    if (least > most) this.#fail(path, "no integer is between its bounds");
    if (least === -Infinity && most === Infinity) return "integer";
    return this.#rule(integerBetween(least, most));
  }

  #array(schema: Schema, path: string, depth: number): string {
    const [least, most] = this.#range(schema, ["minItems", "maxItems"], path);
    const { prefixItems = [], items = true } = schema;
    if (!Array.isArray(prefixItems)) {
      this.#fail(`${path}.prefixItems`, "expected a list of schemas");
    }
    if (prefixItems.length > (most ?? Infinity)) {
      this.#fail(`${path}.maxItems`, "is less than the prefixItems that there are");
    }
    const fixed = prefixItems.map((item, i) =>
      this.#value(item, `${path}.prefixItems[${i}]`, depth + 1)
    );
    const left = most === undefined ? undefined : most - fixed.length;
    const needed = Math.max(0, least - fixed.length);
    if (items === false || left === 0) {
      if (needed > 0) this.#fail(`${path}.minItems`, "is more than the items that there may be");
      return this.#rule(`"[" ${fixed.join(' ", " ') || '""'} "]"`);
    }
    const item = this.#value(items, `${path}.items`, depth + 1), more = this.#rule(`", " ${item}`);
    if (fixed.length > 0) {
      return this.#rule(`"[" ${fixed.join(' ", " ')} ${times(more, needed, left)} "]"`);
    }
    const some = `"[" ${item} ${times(more, Math.max(0, needed - 1), left && left - 1)} "]"`;
    return this.#rule(needed === 0 ? `"[]" | ${some}` : some);
  }

  #object(schema: Schema, path: string, depth: number): string {
    const { properties = {}, required = [], additionalProperties: others } = schema;
    if (!isObject(properties)) this.#fail(`${path}.properties`, "expected an object of schemas");
    if (!Array.isArray(required)) this.#fail(`${path}.required`, "expected a list of names");
    const names = Object.keys(properties);
    const strange = required.find((name) => !names.includes(name));
    if (strange !== undefined) {
      this.#fail(`${path}.required`, `names ${JSON.stringify(strange)}, which properties has not`);
    }
    if (names.length === 0) {
      if (others === false) return '"{}"';
      // Without a word of them, any are valid.
      const value = this.#value(others ?? true, `${path}.additionalProperties`, depth + 1);
      const pair = this.#rule(`string ": " ${value}`), more = this.#rule(`", " ${pair}`);
      return this.#rule(`"{}" | "{" ${pair} ${times(more, 0)} "}"`);
    }
    // After each property: what may follow as the object's first, and after others.
    let first = '"}"', next = '"}"';
    for (const name of names.toReversed()) {
      const value = this.#value(properties[name], `${path}.properties.${name}`, depth + 1);
      const pair = `${literal(`${JSON.stringify(name)}: `)} ${value}`,
        isRequired = required.includes(name);
      const [asFirst, asNext] = [`${pair} ${next}`, `", " ${pair} ${next}`];
      first = this.#rule(isRequired ? asFirst : `${asFirst} | ${first}`);
      next = this.#rule(isRequired ? asNext : `${asNext} | ${next}`);
    }
    return this.#rule(`"{" ${first}`);
  }
}

/** Whether a value is of one of a schema's types. */
function hasType(value: unknown, type: unknown): boolean {
  if (type === undefined) return true;
  const types = [type].flat(), own = typeOf(value);
  return types.includes(own) || (own === "integer" && types.includes("number"));
}

function typeOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return typeof value === "number" && Number.isInteger(value) ? "integer" : typeof value;
}

/** The type that a schema's keywords are of, where it says none. */
function impliedType(schema: Schema): string | undefined {
  return ["object", "array", "string"].find((type) =>
    OF_TYPE[type].some((key) => schema[key] !== undefined)
  );
}

/** What tells values of a schema from those of others: its types, or its constants. */
function marksOf(schema: unknown): string[] | undefined {
  if (!isObject(schema)) return undefined;
  const { type, properties, required } = schema;
  const values = schema.const !== undefined ? [schema.const] : schema.enum;
  if (Array.isArray(values)) return values.map((value) => JSON.stringify(value));
  if (type === "object" && isObject(properties) && Array.isArray(required)) {
    // A property of constants that all have.
    const marks = required.flatMap((name) =>
      (marksOf(properties[name]) ?? []).filter((mark) => /^["\d]/.test(mark))
        .map((mark) => `object ${name} ${mark}`)
    );
    if (marks.length > 0) return marks;
  }
  const types = [type].flat().filter((one) => typeof one === "string");
  return types.length === 0 ? undefined : types.map((one) => one === "integer" ? "number" : one);
}

/** Whether no value can be valid by two schemas. */
function areApart(schemas: readonly unknown[]): boolean {
  const marks = schemas.map(marksOf);
  const known = marks.filter((mark) => mark !== undefined);
  const all = known.flat();
  const isMixed = all.some((mark) => /^["\d{[-]|^(true|false)$/.test(mark)) &&
    all.some((mark) => /^(string|number|boolean|array|object)$/.test(mark));
  return known.length === marks.length && new Set(all).size === all.length && !isMixed &&
    !(all.includes("object") && all.some((mark) => mark.startsWith("object ")));
}

/**
 * The grammar of a schema.
 *
 * @param param The field of the request that it is in, for messages.
 * @throws {ApiError} where it is no schema, or says what a grammar can't.
 */
export function jsonSchemaGrammar(schema: unknown, param: string): Grammar {
  return new Writer(schema, param).grammar();
}
