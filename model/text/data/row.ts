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
  /** About as many bytes as its text has. */
  size: number;
  /** Its bytes in the file, where it is JSON that lies there as it is. */
  extent?: Extent;
}

/** A stretch of bytes, from `begin` up to `end`. */
export interface Extent {
  begin: number;
  end: number;
}

/** Rows of a file, read as they are asked for. */
export interface Rows {
  /**
   * The next rows, one at least; undefined where there are no more.
   *
   * @throws {UserError} Where they are damaged.
   */
  next(): Promise<readonly Row[] | undefined>;
  /**
   * As `next`, but only tells where the rows are, unparsed. There where rows have an `extent`.
   *
   * @returns Whether there were any.
   */
  locate?(tell: (begin: number, end: number) => void): Promise<boolean>;
  /** Lines on what else the file holds, for a user; complete once a row was read. */
  readonly notes: readonly string[];
  /** Fields that are left unread, with the rows that have them; their value in a row is null. */
  readonly unread?: ReadonlyMap<string, number>;
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

/** A value of JSON without numbers and booleans; undefined where it has some. @throws {SyntaxError} where it is none. */
export function parsePlain(json: string): Value | undefined {
  const value = JSON.parse(json);
  return isPlain(value) ? value : undefined;
}

/** A value of JSON. @throws {SyntaxError} where it is none. */
export function parseValue(json: string): Value {
  const plain = parsePlain(json);
  // A reviver takes several times as long.
  return plain === undefined ? JSON.parse(json, asWritten) : plain;
}
