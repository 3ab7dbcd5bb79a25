/**
 * A record of a data file, whatever the file's format.
 *
 * @module
 */

/**
 * What a field holds. Numbers and booleans are text as the file writes them, so that `4.0`, `1e3` and
 * `12345678901234567890` stay what they are.
 */
export type Value = string | null | Value[] | { [name: string]: Value };

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
  return typeof value === "object" ? "an object" : "text";
}

/** Numbers and booleans as they are written. `context` is JavaScript's JSON.parse source text access. */
function asText(_key: string, value: unknown, context?: { source?: string }): unknown {
  return typeof value === "number" || typeof value === "boolean" ? context?.source : value;
}

function isPlain(value: unknown): boolean {
  return typeof value === "string" || value === null;
}

/** A value of JSON. */
export function parseValue(json: string): Value {
  const value = JSON.parse(json);
  const plain = isPlain(value) ||
    typeof value === "object" && !Array.isArray(value) && Object.values(value).every(isPlain);
  // A reviver takes several times as long.
  return plain ? value : JSON.parse(json, asText);
}
