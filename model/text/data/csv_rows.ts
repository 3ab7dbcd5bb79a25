/**
 * Rows of a table in text: values separated by commas, tabs or semicolons, the first line their names.
 *
 * @module
 */
import type { CsvError, Info } from "csv/sync";
import { UserError } from "../../../kernels/errors.ts";
import { MOST_ROW_BYTES } from "./file.ts";
import type { Row, Rows } from "./row.ts";

const DELIMITERS = [",", "\t", ";"];

/** Names in the first line of a table, if its values are separated so. */
function headerNames(line: string, delimiter: string): string[] {
  return line.split(delimiter).map((name) => name.trim().replace(/^"(.*)"$/, "$1").trim());
}

/** What separates the values of a table with this first line; undefined where it names no field. */
function delimiterOf(line: string, isField: (name: string) => boolean): string | undefined {
  const known = DELIMITERS.map((delimiter) => headerNames(line, delimiter).filter(isField).length);
  const most = Math.max(...known);
  return most > 0 ? DELIMITERS[known.indexOf(most)] : undefined;
}

/** The first line, of which names are all that matters: so many bytes are enough. */
function firstLine(bytes: Uint8Array): string {
  const head = new TextDecoder().decode(bytes.subarray(0, 4096));
  return head.trimStart().split(/[\r\n]/, 1)[0];
}

/** Whether bytes are a table whose first line names a field of rows. */
export function isTable(bytes: Uint8Array, isField: (name: string) => boolean): boolean {
  return delimiterOf(firstLine(bytes), isField) !== undefined;
}

/**
 * Whether a name begins with blanks, as where a header is written `instruction, output`: then the blanks after a
 * delimiter are no part of any value.
 */
function isSpaced([, ...names]: readonly string[]): boolean {
  return names.some((name) => /^\s+\S/.test(name));
}

/** A record with where it ends. */
interface Record {
  record: string[];
  info: Info;
}

/** What `csv-parse` found wrong, in words. */
function fault({ code, message }: CsvError): string {
  switch (code) {
    case "CSV_QUOTE_NOT_CLOSED":
      return "is truncated: a value in quotes does not end";
    case "CSV_MAX_RECORD_SIZE":
      return `has more than ${MOST_ROW_BYTES} bytes; expected smaller rows`;
    case "INVALID_OPENING_QUOTE":
    case "CSV_INVALID_CLOSING_QUOTE":
      return "has a quote inside a value; expected such values in quotes, and each quote in them twice";
    default:
      return `can't be read (${message.replaceAll(/\s+/g, " ")})`;
  }
}

/**
 * Reads a table.
 *
 * @param bytes UTF-8 for which {@linkcode isTable} holds.
 * @param file What to call it in messages.
 * @param limit Only the first so many rows; the others aren't even checked.
 */
export async function csvRows(
  bytes: Uint8Array,
  file: string,
  isField: (name: string) => boolean,
  limit: number,
): Promise<Rows> {
  const { isUtf8, Buffer } = await import("node:buffer");
  if (!isUtf8(bytes)) {
    throw new UserError(`data file "${file}" is not UTF-8 text; expected a table in UTF-8`);
  }
  const { parse } = await import("csv/sync");
  let records: Record[];
  try {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const common = {
      delimiter: delimiterOf(firstLine(bytes), isField),
      record_delimiter: ["\r\n", "\n", "\r"],
      relax_column_count: true,
      max_record_size: MOST_ROW_BYTES,
      skip_empty_lines: true,
    };
    // A quote after blanks is no fault of this reading, which is only to see the blanks.
    const [names = []] = parse(text, { ...common, relax_quotes: true, to: 1 });
    records = parse(text, {
      ...common,
      ltrim: isSpaced(names),
      info: true,
      ...(Number.isFinite(limit) ? { to: limit + 1 } : {}),
    }) as unknown as Record[];
  } catch (error) {
    const { lines } = error as CsvError & { lines?: number };
    throw new UserError(`data file "${file}", line ${lines}, ${fault(error as CsvError)}`);
  }
  const [header, ...rows] = records;
  return { rows: tableRows(header.record, rows, file), notes: [] };
}

/** Records as rows; names that are there twice, or too few or many values, are refused. */
function* tableRows(
  header: readonly string[],
  records: Iterable<Record>,
  file: string,
): Generator<Row, void> {
  const names = header.map((name) => name.trim());
  const twice = names.find((name, i) => name !== "" && names.indexOf(name) < i);
  if (twice !== undefined) {
    throw new UserError(`data file "${file}" has two columns named ${twice}; expected one`);
  }
  let number = 0;
  for (const { record, info: { lines } } of records) {
    number++;
    const row = number;
    const where = () => {
      const breaks = record.join("").split("\n").length - 1;
      return `data file "${file}", row ${row} (line ${lines - breaks})`;
    };
    if (record.length !== names.length) {
      throw new UserError(
        `${where()} has ${record.length} values; expected ${names.length}, as many as the first ` +
          "line has names",
      );
    }
    // An empty cell is how tables write that there is no value.
    const entries = names.map((name, i) => [name, record[i] === "" ? null : record[i]] as const);
    yield { where, value: Object.fromEntries(entries) };
  }
}
