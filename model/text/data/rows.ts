/**
 * From a data file to its rows: which format it is in, its content decides.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { csvRows, isTable } from "./csv_rows.ts";
import { FORMATS, readDataFile, startsWith } from "./file.ts";
import { jsonRows } from "./json_rows.ts";
import { parquetRows } from "./parquet_rows.ts";
import type { Rows } from "./row.ts";
import { toUtf8 } from "./utf8.ts";

/**
 * Opens a data file.
 *
 * @param isField Which fields of rows are known.
 * @param limit Only the first so many rows are needed.
 * @throws {UserError} Where it can't be read; the rows throw it where they are damaged.
 */
export async function readRows(
  path: string,
  isField: (name: string) => boolean,
  limit: number,
): Promise<Rows> {
  const bytes = await readDataFile(path);
  if (startsWith(bytes, "PAR1")) return await parquetRows(bytes, path, isField, limit);
  const text = toUtf8(bytes, path);
  if (text.every(isBlank)) {
    throw new UserError(`data file "${path}" is empty; expected ${FORMATS}`);
  }
  if (isTable(text, isField)) return await csvRows(text, path, isField, limit);
  const first = new TextDecoder().decode(text.subarray(0, 4096)).trimStart()[0];
  if (first === "[" || first === "{") return jsonRows(text, path, isField);
  throw new UserError(
    `data file "${path}" is neither JSON nor a table with a first line of names; expected ${FORMATS} ` +
      "with fields such as instruction, input and output",
  );
}

function isBlank(byte: number): boolean {
  return byte === 0x20 || byte >= 0x09 && byte <= 0x0d;
}
