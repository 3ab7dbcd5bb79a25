/**
 * The tables of a report in Markdown, for a README.
 *
 * @module
 */
import { tableLines } from "../../text_table.ts";
import type { Report } from "./content.ts";

/** A cell's text may hold what ends a cell or a line. */
const escape = (cell: string) => cell.replaceAll("|", "\\|").replaceAll(/\s*\n\s*/g, " ");

/** Every table with its caption, below the report's title. */
export function reportMarkdown({ title, subtitle, blocks }: Report): string {
  const tables = blocks.flatMap((block) =>
    block.kind === "table"
      ? ["", block.caption, "", ...tableLines(block.rows.map((row) => row.map(escape)), true)]
      : []
  );
  return [`# ${title}`, "", subtitle, ...tables, ""].join("\n");
}
