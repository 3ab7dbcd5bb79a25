/**
 * Tables of text: aligned columns for a terminal, or Markdown.
 *
 * @module
 */

/**
 * Lines of a table whose first row is its head, and whose first column stands left.
 *
 * @param numbers Whether the other columns are numbers, which stand right, or words.
 */
export function tableLines(
  rows: readonly (readonly string[])[],
  markdown: boolean,
  numbers = true,
): string[] {
  const left = (column: number) => column === 0 || !numbers;
  const widths = rows[0].map((_, i) => Math.max(3, ...rows.map((row) => row[i].length)));
  const padded = rows.map((row) =>
    row.map((cell, i) => left(i) ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))
  );
  if (!markdown) return padded.map((row) => row.join("  "));
  const rule = widths.map((width, i) => left(i) ? "-".repeat(width) : `${"-".repeat(width - 1)}:`);
  return [padded[0], rule, ...padded.slice(1)].map((row) => `| ${row.join(" | ")} |`);
}
