/**
 * What a format of data is: which rows are in it, and what samples they are.
 *
 * @module
 */
import type { Sample } from "../../sample.ts";
import type { RowFields } from "./row_fields.ts";

/** What is made of a row. */
export interface ReadRow {
  sample: Sample;
  /** What of the row holds nothing to learn, where that is so: the row is left out. */
  empty?: string;
}

/** How rows are read. */
export interface ReadOptions {
  /** Whether a sample needs something to be learnt. Questions to be answered don't. */
  outputs: boolean;
}

/** A format of data. */
export interface DataFormat {
  /** As the key `data_format` has it. */
  readonly name: string;
  /** Names that fields of its rows may have. */
  readonly fields: readonly string[];
  /** What its rows have, for messages. */
  readonly expected: string;
  /** Whether a row is in this format, if it is in none of those before it. */
  tells(fields: RowFields): boolean;
  /** @throws {UserError} where a field is missing or wrong; names the row. */
  read(fields: RowFields, options: ReadOptions): ReadRow;
}

/** What `empty` names, where a text to be learnt is blank. */
export function emptyName(
  text: string,
  name: string,
  { outputs }: ReadOptions,
): string | undefined {
  return outputs && text.trim() === "" ? name : undefined;
}
