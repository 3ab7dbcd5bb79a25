/**
 * What a report says: Markdown, which html.ts and pdf.ts render.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { tableLines } from "../../text_table.ts";

/** A whole report. */
export interface Report {
  title: string;
  subtitle: string;
  /** Pieces of Markdown, of which the first is a heading: texts, and plots or a table with a caption. */
  sections: string[][];
}

/** A plot with the words for those who can't see it. */
export interface Plot {
  /** A whole SVG document with a white background. */
  svg: string;
  alt: string;
}

/** A text of which nothing is markup. Its lines end as they may in a table's cell. */
export const plain = (text: string): string =>
  text.replaceAll(/[\\`*_[\]<>|~&]/g, "\\$&").replaceAll(/\s*\n\s*/g, "<br>");

/** A table below its caption. Its first row is the head, its first column names the rows; the rest is of one kind. */
export function table(cells: "numbers" | "words", caption: string, rows: string[][]): string {
  const lines = tableLines(rows.map((row) => row.map(plain)), true, cells === "numbers");
  return `${plain(caption)}\n\n${lines.join("\n")}`;
}

/** Plots above their caption, each an image, so that what one's SVG calls its parts does not meet another's. */
export function figure(caption: string, ...plots: Plot[]): string {
  const images = plots.map(({ svg, alt }) =>
    `![${plain(alt)}](data:image/svg+xml;base64,${Buffer.from(svg).toString("base64")})`
  );
  return `${images.join("\n")}\n\n${plain(caption)}`;
}

/** Whether a piece is plots or a table with a caption, two blocks, and not one block of text. */
export const isFigure = (piece: string): boolean => piece.includes("\n\n");

/** The tables with their captions, below the report's title, for a README. */
export function reportTables({ title, subtitle, sections }: Report): string {
  const tables = sections.flat().filter((piece) => piece.includes("\n| "));
  return [`# ${plain(title)}`, plain(subtitle), ...tables].join("\n\n") + "\n";
}
