/**
 * Tables of text: aligned columns for a terminal, or Markdown.
 *
 * @module
 */

/** Lines of a table whose first row is its head; the first column stands left, the others right. */
export function tableLines(rows: readonly (readonly string[])[], markdown: boolean): string[] {
  const widths = rows[0].map((_, i) => Math.max(3, ...rows.map((row) => row[i].length)));
  const padded = rows.map((row) =>
    row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))
  );
  if (!markdown) return padded.map((row) => row.join("  "));
  const rule = widths.map((width, i) => i === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`);
  return [padded[0], rule, ...padded.slice(1)].map((row) => `| ${row.join(" | ")} |`);
}
