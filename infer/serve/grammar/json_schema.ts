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
import { mergedSchema, type Surroundings } from "./all_of.ts";
import { textOf } from "./automaton.ts";
import { boundedNumber, countRange } from "./bounds.ts";
import { isOfFormat } from "./format_patterns.ts";
import { asciiJson, FORMATS, JSON_RULES, literal, times } from "./json_rules.ts";
import { patternLanguage, PatternProblem } from "./pattern.ts";
import { Rules } from "./rules.ts";
import {
  ANNOTATIONS,
  areApart,
  hasType,
  impliedType,
  OF_TYPE,
  type Schema,
  TYPES,
} from "./schema_kinds.ts";
import { SchemaSize } from "./schema_size.ts";

/** Levels of a schema at most. */
const DEEPEST = 64;

/**
 * Characters of a string that rules count: the more there are, the longer each mask takes. Of longer ones the mask counts
 * (masks.ts), and ends them so many characters before their most.
 */
const COUNTED = 40, ROOM = 64;

/** Keywords of which one schema of several is to hold. */
const UNIONS: readonly string[] = ["anyOf", "oneOf"];

/** A grammar. */
export interface Grammar {
  readonly ebnf: string;
  /** Characters of any string at most, which the rules don't say. */
  readonly longest?: number;
}

/** Writes the rules of one schema. */
class Writer {
  readonly #rules = new Rules((path, problem) => this.#fail(path, problem));
  /** Rules of `$ref`s, and of schemas that were merged. */
  readonly #named = new Map<string, string>();
  /** The least of the strings' most characters, where rules don't count them, and the most of their least. */
  #longest = Infinity;
  #shortest = 0;
  readonly #size = new SchemaSize((path, problem) => this.#fail(path, problem));
  /** Rules of strings, by their patterns. */
  readonly #patterns = new Map<string, string>();

  constructor(readonly root: unknown, readonly param: string) {}

  /** The grammar. */
  grammar(): Grammar {
    const start = this.#value(this.root, "", 0);
    this.#rules.refuseCircles();
    const longest = this.#longest;
    const ebnf = [`root ::= ${start}`, ...this.#rules.lines, JSON_RULES].join("\n");
    if (longest < this.#shortest + ROOM) {
      this.#fail(
        "",
        `has strings of ${this.#shortest} characters and more, and of at most ${longest}; ` +
          `expected a maxLength of more than ${COUNTED} to be ${ROOM} above every minLength`,
      );
    }
    return longest === Infinity ? { ebnf } : { ebnf, longest };
  }

  #fail(path: string, problem: string): never {
    throw new ApiError(400, `${this.param}${path}: ${problem}`, {
      param: this.param,
      code: "invalid_schema",
    });
  }

  /** What a value of a schema is: the name of a rule, or an expression in brackets. */
  #value(schema: unknown, path: string, depth: number): string {
    if (depth > DEEPEST) this.#fail(path, `is nested too deep; expected at most ${DEEPEST} levels`);
    if (schema === true) return "any";
    if (!isObject(schema)) this.#fail(path, "is no schema; expected an object");
    if (this.#isMixed(schema)) return this.#merged(schema, path, depth);
    if (schema.$ref !== undefined) return this.#reference(schema, path, depth);
    if (schema.const !== undefined) return this.#enumeration(schema, "const", [schema.const], path);
    if (schema.enum !== undefined) {
      const { enum: values } = schema;
      if (!Array.isArray(values) || values.length === 0) this.#fail(`${path}.enum`, "has no value");
      return this.#enumeration(schema, "enum", values, path);
    }
    for (const union of UNIONS) {
      if (schema[union] !== undefined) return this.#union(schema, union, path, depth);
    }
    return this.#typed(schema, path, depth);
  }

  /** Whether values have to be valid by several schemas at once. */
  #isMixed(schema: Schema): boolean {
    const said = Object.keys(schema).filter((key) => !ANNOTATIONS.includes(key));
    const isWhole = said.some((key) => key === "$ref" || UNIONS.includes(key));
    return schema.allOf !== undefined || (isWhole && said.length > 1);
  }

  /** A value that is valid by all that a schema says. */
  #merged(schema: Schema, path: string, depth: number): string {
    const around = {
      target: (reference: unknown, path: string) => this.#target(reference, path),
      fail: (path: string, problem: string) => this.#fail(path, problem),
    };
    const merged = mergedSchema(schema, path, around), key = JSON.stringify(merged);
    // One that refers to itself is the same again.
    const known = this.#named.get(key);
    if (known !== undefined) return known;
    const name = this.#name(key);
    this.#rules.set(name, this.#mergedUnion(merged, path, { depth, around }));
    return name;
  }

  /** The name of a rule that may refer to itself. */
  #name(key: string): string {
    const name = `d${this.#named.size}`;
    this.#named.set(key, name);
    return name;
  }

  /** A value of a merged schema, which may have a union beside all else. */
  #mergedUnion(
    merged: Schema,
    path: string,
    { depth, around }: { depth: number; around: Surroundings },
  ): string {
    const keyword = UNIONS.find((union) => merged[union] !== undefined);
    if (keyword === undefined) return this.#value(merged, path, depth + 1);
    const { [keyword]: branches, ...rest } = merged;
    if (!Array.isArray(branches) || Object.keys(rest).length === 0) {
      return this.#union({ [keyword]: branches }, keyword, path, depth + 1);
    }
    // What is said beside a union holds in each of its branches.
    const whole = branches.map((branch, i) =>
      mergedSchema({ allOf: [rest, branch] }, `${path}.${keyword}[${i}]`, around)
    );
    return this.#union({ [keyword]: whole }, keyword, path, depth + 1);
  }

  /** @throws {ApiError} where values may be valid by several of the schemas. */
  #checkApart(branches: unknown, path: string): void {
    if (!Array.isArray(branches) || areApart(branches)) return;
    this.#fail(
      path,
      "its schemas may be valid together; expected anyOf, or schemas of different types or constants",
    );
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
    const target = this.#target(schema.$ref, path), reference = String(schema.$ref);
    const known = this.#named.get(reference);
    if (known !== undefined) return known;
    const name = this.#name(reference);
    const body = this.#value(target, `(${reference})`, depth + 1);
    if (body === name) this.#fail(`${path}.$ref`, `${reference} is nothing but itself`);
    this.#rules.set(name, body);
    return name;
  }

  /** The schema that a reference leads to. */
  #target(reference: unknown, path: string): unknown {
    if (typeof reference !== "string" || !/^#(\/|$)/.test(reference)) {
      this.#fail(`${path}.$ref`, "expected a place in the schema, such as #/$defs/name");
    }
    let target: unknown = this.root;
    for (const part of reference.split("/").slice(1)) {
      const key = decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
      target = Object.hasOwn(Object(target), key) ? (target as Schema)[key] : undefined;
    }
    if (target === undefined) this.#fail(`${path}.$ref`, `there is no ${reference}`);
    return target;
  }

  #enumeration(schema: Schema, keyword: string, values: unknown[], path: string): string {
    this.#only(schema, [keyword, "type"], path);
    this.#size.add("values", values.length, `${path}.${keyword}`);
    const fitting = values.filter((value) => hasType(value, schema.type));
    if (fitting.length === 0) this.#fail(`${path}.${keyword}`, "has no value of its type");
    const parts = fitting.map((value) => textOf(asciiJson(JSON.stringify(value))));
    return this.#rules.addLanguage({ kind: "union", parts }, `${path}.${keyword}`);
  }

  #union(schema: Schema, keyword: string, path: string, depth: number): string {
    const { [keyword]: branches } = schema;
    this.#only(schema, [keyword], path);
    if (!Array.isArray(branches) || branches.length === 0) {
      this.#fail(`${path}.${keyword}`, "expected a list of schemas");
    }
    this.#size.add("schemas", branches.length, `${path}.${keyword}`);
    if (keyword === "oneOf") this.#checkApart(branches, `${path}.oneOf`);
    const values = branches.map((branch, i) =>
      this.#value(branch, `${path}.${keyword}[${i}]`, depth + 1)
    );
    return this.#rules.addUnion(values, path);
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
    return this.#rules.addUnion(values, path);
  }

  #ofType(type: string, schema: Schema, path: string, depth: number): string {
    switch (type) {
      case "string":
        return this.#string(schema, path);
      case "integer":
      case "number":
        return this.#number(schema, type, path);
      case "array":
        return this.#array(schema, path, depth);
      case "object":
        return this.#object(schema, path, depth);
      default:
        return type; // boolean, null
    }
  }

  /** How many of something there may be, by the keywords of least and most. */
  #range(schema: Schema, keys: [string, string], path: string): [number, number | undefined] {
    return countRange(schema, keys, (place, problem) => this.#fail(path + place, problem));
  }

  #string(schema: Schema, path: string): string {
    const { format, pattern } = schema;
    if (pattern !== undefined && isOfFormat(pattern, format)) {
      // The pattern of emails lets more come than the format does.
      const { [format === "email" ? "pattern" : "format"]: _, ...rest } = schema;
      return this.#string(rest, path);
    }
    if (pattern !== undefined && format === undefined) return this.#pattern(schema, path);
    const [least, most] = this.#range(schema, ["minLength", "maxLength"], path);
    if (format !== undefined) {
      this.#only(schema, ["type", "format"], path);
      const rule = Object.hasOwn(FORMATS, String(format)) ? FORMATS[String(format)] : undefined;
      if (rule === undefined) {
        this.#fail(`${path}.format`, `can't be kept; expected ${Object.keys(FORMATS).join(", ")}`);
      }
      return this.#quoted(`^${rule}$`, path);
    }
    this.#shortest = Math.max(this.#shortest, least);
    if (most !== undefined && most <= COUNTED) {
      return this.#rules.add(`"\\"" ${times("char", least, most)} "\\""`);
    }
    this.#longest = Math.min(this.#longest, most ?? Infinity);
    if (least === 0) return "string";
    return this.#rules.add(`"\\"" ${times("char", least, least)} char* "\\""`);
  }

  #pattern(schema: Schema, path: string): string {
    this.#only(schema, ["type", "pattern"], path);
    if (typeof schema.pattern !== "string") this.#fail(`${path}.pattern`, "expected a text");
    return this.#quoted(schema.pattern, path);
  }

  /** Strings that a pattern matches. */
  #quoted(pattern: string, path: string): string {
    const quote = textOf('"'), known = this.#patterns.get(pattern);
    if (known !== undefined) return known;
    try {
      const parts = [quote, patternLanguage(pattern), quote];
      const name = this.#rules.addLanguage({ kind: "sequence", parts }, `${path}.pattern`);
      this.#patterns.set(pattern, name);
      return name;
    } catch (error) {
      if (!(error instanceof PatternProblem)) throw error;
      this.#fail(`${path}.pattern`, error.message);
    }
  }

  #number(schema: Schema, type: "integer" | "number", path: string): string {
    const between = boundedNumber(schema, type, (key, problem) => this.#fail(path + key, problem));
    return between === undefined
      ? type
      : this.#rules.addLanguage(patternLanguage(`^(${between})$`), path);
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
      return this.#rules.add(`"[" ${fixed.join(' ", " ') || '""'} "]"`);
    }
    const item = this.#value(items, `${path}.items`, depth + 1),
      more = this.#rules.add(`", " ${item}`);
    if (fixed.length > 0) {
      return this.#rules.add(`"[" ${fixed.join(' ", " ')} ${times(more, needed, left)} "]"`);
    }
    const some = `"[" ${item} ${times(more, Math.max(0, needed - 1), left && left - 1)} "]"`;
    return this.#rules.add(needed === 0 ? `"[]" | ${some}` : some);
  }

  #object(schema: Schema, path: string, depth: number): string {
    const { properties = {}, required = [], additionalProperties: others } = schema;
    const { propertyNames: named = true } = schema;
    // All of them are texts.
    if (named !== true && JSON.stringify(named) !== `{"type":"string"}`) {
      this.#fail(`${path}.propertyNames`, "can't be kept; leave it out");
    }
    if (!isObject(properties)) this.#fail(`${path}.properties`, "expected an object of schemas");
    if (!Array.isArray(required)) this.#fail(`${path}.required`, "expected a list of names");
    const names = Object.keys(properties);
    this.#size.add("properties", names.length, `${path}.properties`);
    const strange = required.find((name) => !names.includes(name));
    if (strange !== undefined) {
      this.#fail(`${path}.required`, `names ${JSON.stringify(strange)}, which properties has not`);
    }
    if (names.length === 0) {
      if (others === false) return '"{}"';
      // Without a word of them, any are valid.
      const value = this.#value(others ?? true, `${path}.additionalProperties`, depth + 1);
      const pair = this.#rules.add(`string ": " ${value}`), more = this.#rules.add(`", " ${pair}`);
      return this.#rules.add(`"{}" | "{" ${pair} ${times(more, 0)} "}"`);
    }
    // After each property: what may follow as the object's first, and after others.
    let first = '"}"', next = '"}"';
    for (const name of names.toReversed()) {
      const value = this.#value(properties[name], `${path}.properties.${name}`, depth + 1);
      const pair = `${literal(`${JSON.stringify(name)}: `)} ${value}`,
        isRequired = required.includes(name);
      const [asFirst, asNext] = [`${pair} ${next}`, `", " ${pair} ${next}`];
      first = this.#rules.add(isRequired ? asFirst : `${asFirst} | ${first}`);
      next = this.#rules.add(isRequired ? asNext : `${asNext} | ${next}`);
    }
    return this.#rules.add(`"{" ${first}`);
  }
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
