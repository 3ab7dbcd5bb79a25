/**
 * What a report says, apart from how it looks: html.ts, pdf.ts and markdown.ts write the same content.
 *
 * @module
 */

/** A plot with the words for those who can't see it. */
export interface Plot {
  /** A whole SVG document with a white background. */
  svg: string;
  alt: string;
}

/** A table; its first row is the head, and its first column names the rows. */
export interface Table {
  kind: "table";
  caption: string;
  rows: string[][];
  /** Whether the cells after the first column are numbers, which stand right, or words. */
  cells: "numbers" | "words";
}

/** One part of a report, in the order of reading. */
export type Block =
  | { kind: "heading"; text: string }
  | { kind: "paragraph"; text: string }
  | { kind: "list"; items: string[] }
  | { kind: "preformatted"; text: string }
  | { kind: "figure"; plots: Plot[]; caption: string }
  | Table;

/** A whole report. */
export interface Report {
  title: string;
  subtitle: string;
  blocks: Block[];
}
