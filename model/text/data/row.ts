/**
 * A record of a data file, whatever the file's format.
 *
 * @module
 */

/** A number or a boolean as the file writes it, so that `4.0`, `1e3` and `12345678901234567890` stay what they are. */
export class Literal {
  constructor(readonly source: string) {}
}

/** An object's fields. */
export interface Fields {
  [name: string]: Value;
}

/** What a field holds. */
export type Value = string | Literal | null | Value[] | Fields;

/** One record. */
export interface Row {
  /** Where it is, for messages: the file, the row's number from 1, and its line where there are lines. */
  where: () => string;
  /** What it holds by field; a record that is no object is refused where it is used. */
  value: Value;
}

/** Rows of a file, with what a user is to be told about them. */
export interface Rows {
  rows: Iterable<Row>;
  /** Lines on what else the file holds. */
  notes: string[];
  /** Fields that were left unread, with the rows that have them; their value in a row is null. */
  unread?: ReadonlyMap<string, number>;
}

/** What a value is, with its article, for messages. */
export function kindOf(value: Value): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return isFields(value) ? "an object" : "text";
}

/** A text, or a number or boolean as it is written; undefined for all else. */
export function asText(value: Value): string | undefined {
  return value instanceof Literal ? value.source : typeof value === "string" ? value : undefined;
}

/** Whether a value is an object of fields. */
export function isFields(value: Value): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) &&
    !(value instanceof Literal);
}

/** Numbers and booleans as they are written. `context` is JavaScript's JSON.parse source text access. */
function asWritten(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== "number" && typeof value !== "boolean") return value;
  return new Literal(context?.source ?? String(value));
}

/** Whether a value holds neither numbers nor booleans. */
function isPlain(value: unknown): boolean {
  if (typeof value === "string" || value === null) return true;
  return typeof value === "object" && Object.values(value).every(isPlain);
}

/** A value of JSON. */
export function parseValue(json: string): Value {
  const value = JSON.parse(json);
  // A reviver takes several times as long.
  return isPlain(value) ? value : JSON.parse(json, asWritten);
}
