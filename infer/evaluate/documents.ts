/**
 * The rows of a task's data files, with the types that Python's `datasets` gives them.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { UTF8 } from "../../model/files/whole_file.ts";
import { DataFile, takeBytes } from "../../model/text/data/file.ts";
import {
  asText,
  type Fields,
  isFields,
  kindOf,
  Literal,
  type Row,
  type Value as FileValue,
} from "../../model/text/data/row.ts";
import { openRows } from "../../model/text/data/rows.ts";
import { utf8Text } from "../../model/text/data/utf8.ts";
import { str } from "../../model/text/templates/jinja/repr.ts";
import {
  Absent,
  Dict,
  List,
  text,
  Undefined,
  type Value,
} from "../../model/text/templates/jinja/values.ts";
import { columnValues } from "./table_columns.ts";

/** The formats of data files, by the names that `dataset_path` has for them. */
export const DATA_FORMATS = ["json", "csv", "parquet", "text"] as const;

/** One of them. */
export type DataFormat = typeof DATA_FORMATS[number];

/** A row, which templates see. */
export interface Document {
  /** Where it is, for messages: the file and the row's number. */
  where: () => string;
  /** Its fields; one that it lacks and other rows have is {@linkcode Absent}. */
  fields: Dict;
}

/** Rows of a split, and the names of all their fields. */
export interface Split {
  documents: readonly Document[];
  features: ReadonlySet<string>;
}

/** A value of a data file. */
function valueOf(value: FileValue): Value {
  if (value === null) return null;
  if (typeof value === "string") return text(value);
  if (Array.isArray(value)) return new List(value.map(valueOf));
  if (!(value instanceof Literal)) {
    return new Dict(Object.entries(value).map(([key, item]) => [text(key), valueOf(item)]));
  }
  const { source } = value;
  if (source === "true" || source === "false") return source === "true";
  return /^-?\d+$/.test(source) ? BigInt(source) : Number(source);
}

/** Rows of a file as it holds them. */
async function readRows(file: DataFile, format: "json" | "table" | "parquet"): Promise<Row[]> {
  const rows = await openRows(file, { isField: () => true, limit: Infinity, format });
  const all: Row[] = [];
  for (let next = await rows.next(); next !== undefined; next = await rows.next()) {
    for (const row of next) all.push(row);
  }
  return all;
}

function fieldsOf({ value, where }: Row): Fields {
  if (isFields(value)) return value;
  throw new UserError(`${where()} is ${kindOf(value)}; expected an object with fields`);
}

/** Rows of JSON; in Parquet, what is an object without fields here is a date or binary data, which templates can't read. */
function typedRows(rows: readonly Row[], format: "json" | "parquet"): Document[] {
  const hidden = "the column holds dates or binary data; expected text or numbers";
  const isHidden = (value: FileValue) =>
    format === "parquet" && isFields(value) && Object.keys(value).length === 0;
  return rows.map((row) => ({
    where: row.where,
    fields: new Dict(
      Object.entries(fieldsOf(row)).map((
        [name, value],
      ) => [text(name), isHidden(value) ? new Undefined(hidden) : valueOf(value)]),
    ),
  }));
}

function tableRows(rows: readonly Row[]): Document[] {
  const records = rows.map(fieldsOf);
  const names = [...new Set(records.flatMap(Object.keys))];
  const columns = names.map((name) =>
    columnValues(records.map((record) => asText(record[name] ?? null) ?? ""))
  );
  return rows.map(({ where }, row) => ({
    where,
    fields: new Dict(names.map((name, i) => [text(name), columns[i][row]])),
  }));
}

async function lines(file: DataFile): Promise<Document[]> {
  const { pieces } = utf8Text(file);
  const whole = UTF8.decode(await takeBytes(pieces, Infinity)), { path } = file;
  const lines = whole.split(/\r\n|\r|\n/);
  if (lines.at(-1) === "") lines.pop();
  return lines.map((line, i) => ({
    where: () => `data file "${path}", line ${i + 1}`,
    fields: new Dict([[text("text"), text(line)]]),
  }));
}

/** The rows of one file. */
async function readFile(path: string, format: DataFormat): Promise<Document[]> {
  using file = await DataFile.open(path);
  switch (format) {
    case "json":
    case "parquet":
      return typedRows(await readRows(file, format), format);
    case "csv":
      return tableRows(await readRows(file, "table"));
    case "text":
      return await lines(file);
  }
}

/** The names of a row's fields. */
function fieldNames(fields: Dict): string[] {
  return fields.keys().map((key) => str(key).value);
}

/** Fields that hold whole numbers in some rows and numbers with fractions in others: all of these are the latter. */
function mixedFields(documents: readonly Document[]): Set<string> {
  const whole = new Set<string>(), fractions = new Set<string>();
  for (const { fields } of documents) {
    for (const [key, value] of fields.items()) {
      if (typeof value === "bigint") whole.add(str(key).value);
      else if (typeof value === "number") fractions.add(str(key).value);
    }
  }
  return whole.intersection(fractions);
}

/** Gives all rows the same fields, and the values of a field one type. */
function unified(documents: readonly Document[], features: ReadonlySet<string>): Document[] {
  const mixed = mixedFields(documents);
  return documents.map(({ where, fields }) => {
    const values = [...features].map((name) => {
      const value = fields.text(name);
      if (value === undefined) {
        return [text(name), new Absent(`'${name}' is missing from this row`)] as const;
      }
      return [
        text(name),
        typeof value === "bigint" && mixed.has(name) ? Number(value) : value,
      ] as const;
    });
    return { where, fields: new Dict(values) };
  });
}

/**
 * Reads the rows of a split.
 *
 * @param files One after the other.
 * @throws {UserError} where one can't be read or is of another format, or there is no row.
 */
export async function readSplit(files: readonly string[], format: DataFormat): Promise<Split> {
  const documents: Document[] = [];
  for (const file of files) documents.push(...await readFile(file, format));
  if (documents.length === 0) {
    throw new UserError(`data file "${files.join('", "')}" holds no rows; expected at least one`);
  }
  const features = new Set(documents.flatMap(({ fields }) => fieldNames(fields)));
  return { documents: unified(documents, features), features };
}
