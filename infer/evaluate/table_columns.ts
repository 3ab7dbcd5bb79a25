/**
 * The types of a CSV table's columns, as pandas' `read_csv` tells them, by which `datasets` reads such files.
 *
 * @module
 */
import { text, type Value } from "../../model/text/templates/jinja/values.ts";

/** What stands for no value. */
const MISSING = new Set([
  "",
  "#N/A",
  "#N/A N/A",
  "#NA",
  "-1.#IND",
  "-1.#QNAN",
  "-NaN",
  "-nan",
  "1.#IND",
  "1.#QNAN",
  "<NA>",
  "N/A",
  "NA",
  "NULL",
  "NaN",
  "None",
  "n/a",
  "nan",
  "null",
]);
const INTEGER = /^\s*[+-]?\d+\s*$/;
const FLOAT = /^\s*[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf(?:inity)?)\s*$/i;
const BOOLEAN = /^(?:true|false)$/i;

/** How a column's cells, those that are there, become values. */
function readerOf(cells: readonly string[], complete: boolean): (cell: string) => Value {
  if (cells.length === 0) return () => null;
  if (complete && cells.every((cell) => INTEGER.test(cell))) return (cell) => BigInt(cell.trim());
  if (cells.every((cell) => FLOAT.test(cell))) {
    return (cell) => Number(cell.replace(/inf(?:inity)?/i, "Infinity"));
  }
  if (complete && cells.every((cell) => BOOLEAN.test(cell))) {
    return (cell) => cell.toLowerCase() === "true";
  }
  return text;
}

/** The values of a column of a table. */
export function columnValues(cells: readonly (string | undefined)[]): Value[] {
  const isThere = (cell: string | undefined): cell is string =>
    cell !== undefined && !MISSING.has(cell);
  const present = cells.filter(isThere);
  const read = readerOf(present, present.length === cells.length);
  return cells.map((cell) => isThere(cell) ? read(cell) : null);
}
