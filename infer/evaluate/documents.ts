/**
 * The rows of a task's data files, with the types that Python's `datasets` gives them.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { csvRows } from "../../model/text/data/csv_rows.ts";
import { readDataFile } from "../../model/text/data/file.ts";
import { jsonRowsAs } from "../../model/text/data/json_rows.ts";
import { checkCell, parquetRowsAs } from "../../model/text/data/parquet_rows.ts";
import type { Row } from "../../model/text/data/row.ts";
import { toUtf8 } from "../../model/text/data/utf8.ts";
import { readJsonText } from "../../model/text/templates/jinja/json.ts";
import { str } from "../../model/text/templates/jinja/repr.ts";
import {
  Absent,
  Dict,
  List,
  text,
  typeName,
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

const PYTHON_DATE = (date: Date) =>
  date.toISOString().replace("T", " ").replace(/(?:\.000)?Z$/, "");

/** A value of a Parquet file. */
function cellValue(value: unknown, fraction: boolean): Value {
  if (value === null) return null;
  checkCell(value);
  if (typeof value === "boolean" || typeof value === "bigint") return value;
  if (typeof value === "number") {
    return fraction || !Number.isInteger(value) ? value : BigInt(value);
  }
  if (typeof value === "string") return text(value);
  if (Array.isArray(value)) return new List(value.map((item) => cellValue(item, fraction)));
  if (value instanceof Date) return text(PYTHON_DATE(value));
  if (ArrayBuffer.isView(value)) return new Undefined("the column holds binary data, not text");
  return new Dict(
    Object.entries(value as object).map(([key, item]) => [text(key), cellValue(item, fraction)]),
  );
}

function asDict(value: Value, where: () => string): Dict {
  if (value instanceof Dict) return value;
  throw new UserError(`${where()} is a ${typeName(value)}; expected an object with fields`);
}

function* jsonDocuments(bytes: Uint8Array<ArrayBuffer>, file: string): Generator<Document> {
  for (const { where, value } of jsonRowsAs(toUtf8(bytes, file), file, readJsonText)) {
    yield { where, fields: asDict(value, where) };
  }
}

async function parquetDocuments(bytes: Uint8Array<ArrayBuffer>, file: string): Promise<Document[]> {
  const reading = { isField: () => true, limit: Infinity, readCell: cellValue };
  const { rows } = await parquetRowsAs(bytes, file, reading);
  return Array.from(rows, ({ where, value }) => ({
    where,
    fields: new Dict(Object.entries(value).map(([key, item]) => [text(key), item])),
  }));
}

async function csvDocuments(bytes: Uint8Array<ArrayBuffer>, file: string): Promise<Document[]> {
  const { rows } = await csvRows(toUtf8(bytes, file), file, () => true, Infinity);
  const all: Row[] = [...rows];
  const records = all.map(({ value }) => value as Record<string, string | null>);
  const names = [...new Set(records.flatMap(Object.keys))];
  const columns = names.map((name) => columnValues(records.map((record) => record[name] ?? "")));
  return all.map(({ where }, row) => ({
    where,
    fields: new Dict(names.map((name, i) => [text(name), columns[i][row]])),
  }));
}

function textDocuments(bytes: Uint8Array<ArrayBuffer>, file: string): Document[] {
  const whole = new TextDecoder().decode(toUtf8(bytes, file));
  const lines = whole.split(/\r\n|\r|\n/);
  if (lines.at(-1) === "") lines.pop();
  return lines.map((line, i) => ({
    where: () => `data file "${file}", line ${i + 1}`,
    fields: new Dict([[text("text"), text(line)]]),
  }));
}

/** The rows of one file. */
async function readFile(file: string, format: DataFormat): Promise<Document[]> {
  const bytes = await readDataFile(file);
  if (bytes.length === 0) return [];
  switch (format) {
    case "json":
      return [...jsonDocuments(bytes, file)];
    case "csv":
      return await csvDocuments(bytes, file);
    case "parquet":
      return await parquetDocuments(bytes, file);
    case "text":
      return textDocuments(bytes, file);
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
