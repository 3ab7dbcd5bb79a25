/**
 * Lines of CSV. https://www.rfc-editor.org/rfc/rfc4180
 *
 * @module
 */

/** What a field of CSV can be; null is an empty field, and so is a number that JSON can't hold. */
export type CsvValue = string | number | boolean | null;

/** A field, in quotation marks where it would not be one field otherwise. */
function field(value: CsvValue): string {
  const isNothing = value === null || (typeof value === "number" && !Number.isFinite(value));
  const text = isNothing ? "" : String(value);
  return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** A line of CSV with its newline. */
export function csvLine(values: readonly CsvValue[]): string {
  return values.map(field).join(",") + "\n";
}
