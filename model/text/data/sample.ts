/**
 * From a row of data to a sample, by the names of its fields.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import type { DataFormat, ReadOptions, ReadRow } from "./formats/format.ts";
import { DATA_FORMATS } from "./formats/formats.ts";
import { isPreference } from "./formats/preference.ts";
import { RowFields } from "./formats/row_fields.ts";
import { isFields, kindOf, type Row } from "./row.ts";

const FORMATS: readonly DataFormat[] = DATA_FORMATS;
const NAMES = new Set(FORMATS.flatMap(({ fields }) => fields));

/** Whether a field of this name may be one of a sample's. */
export function isField(name: string): boolean {
  return NAMES.has(name);
}

/** What rows may have, for messages. */
const EXPECTED = FORMATS.map(({ expected }, i) =>
  (i === FORMATS.length - 1 ? "or " : "") + expected
)
  .join(", ");

/** How rows are read, and which format they are in. */
export interface SampleOptions extends ReadOptions {
  /** The name of their format; `auto` and none: each row's fields tell it. */
  data_format?: string;
}

/** What a row that is no sample has, for a message. */
function unknownRow(fields: RowFields): UserError {
  if (fields.has("output")) return fields.refusal("instruction is missing; expected text");
  const names = Object.keys(fields.fields);
  const listed = names.slice(0, 8).map((name) => JSON.stringify(name.slice(0, 40))).join(", ");
  const has = names.length === 0
    ? "is empty"
    : `has the fields ${listed}${names.length > 8 ? " ..." : ""}`;
  return new UserError(`${fields.where()} ${has}; expected ${EXPECTED}`);
}

/** The format of a row. @throws {UserError} where it is in none. */
function formatOf(fields: RowFields, name: string): DataFormat {
  const format = FORMATS.find((format) =>
    name === "auto" ? format.tells(fields) : format.name === name
  );
  if (format === undefined) throw unknownRow(fields);
  return format;
}

/**
 * A row as a sample.
 *
 * @returns The sample, and which fields were asked for.
 * @throws {UserError} Where it is in no format that is known, or a field is missing or wrong; names the row.
 */
export function toSample(
  { where, value }: Pick<Row, "where" | "value">,
  { data_format = "auto", ...options }: SampleOptions,
): ReadRow & { used: ReadonlySet<string> } {
  if (!isFields(value)) {
    throw new UserError(`${where()} is ${kindOf(value)}; expected an object with ${EXPECTED}`);
  }
  if (options.outputs && isPreference({ value })) {
    throw new UserError(
      `${where()} has a preference (chosen and rejected); expected ${EXPECTED}, ` +
        "or to train with objective dpo, orpo, kto or simpo",
    );
  }
  const fields = new RowFields(where, value), { used } = fields;
  if (!options.outputs) ["output", "response", "completion"].forEach((name) => used.add(name));
  return { ...formatOf(fields, data_format).read(fields, options), used };
}
