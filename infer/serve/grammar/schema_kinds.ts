/**
 * What kinds of values schemas are of.
 *
 * @module
 */
import { isObject } from "../../../model/files/json_file.ts";

/** A schema that says something. */
export type Schema = Record<string, unknown>;

/** Keywords that say nothing of what is valid. */
export const ANNOTATIONS: readonly string[] = [
  ...["title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs"],
  ...["definitions", "deprecated", "readOnly", "writeOnly"],
];

/** Keywords that each type has. */
export const OF_TYPE: Readonly<Record<string, readonly string[]>> = {
  string: ["minLength", "maxLength", "format", "pattern"],
  integer: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
  number: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
  boolean: [],
  null: [],
  array: ["items", "prefixItems", "minItems", "maxItems"],
  object: ["properties", "required", "additionalProperties", "propertyNames"],
};
/** The types that there are. */
export const TYPES: readonly string[] = Object.keys(OF_TYPE);

/** Whether a value is of one of a schema's types. */
export function hasType(value: unknown, type: unknown): boolean {
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
export function impliedType(schema: Schema): string | undefined {
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
export function areApart(schemas: readonly unknown[]): boolean {
  const marks = schemas.map(marksOf);
  const known = marks.filter((mark) => mark !== undefined);
  const all = known.flat();
  const isMixed = all.some((mark) => /^["\d{[-]|^(true|false)$/.test(mark)) &&
    all.some((mark) => /^(string|number|boolean|array|object)$/.test(mark));
  return known.length === marks.length && new Set(all).size === all.length && !isMixed &&
    !(all.includes("object") && all.some((mark) => mark.startsWith("object ")));
}
