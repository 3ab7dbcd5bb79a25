/**
 * A report as a PDF of A4 pages.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import pdfmake from "pdfmake";
import roboto from "pdfmake/build/vfs_fonts.js";
import type { Block, Plot, Report, Table } from "./content.ts";

/** Points (1/72 inch). */
const MARGIN = 42, WIDTH = 595.28 - 2 * MARGIN, GAP = 10;
const QUIET = "#555555";

/** The text's font goes by the name that plots call theirs by. */
const FONT = "sans-serif";
const FACES = {
  normal: "Roboto-Regular.ttf",
  bold: "Roboto-Medium.ttf",
  italics: "Roboto-Italic.ttf",
  bolditalics: "Roboto-MediumItalic.ttf",
};

function loadFonts(): void {
  for (const face of Object.values(FACES)) {
    pdfmake.virtualfs.writeFileSync(face, Buffer.from(roboto[face], "base64"));
  }
  pdfmake.addFonts({ [FONT]: FACES });
  pdfmake.setUrlAccessPolicy(() => false);
  pdfmake.setLocalAccessPolicy(() => false);
}

/** Arrows, which the font lacks, as paths in a square of 8 units. */
const ARROWS: Record<string, string> = {
  "↑": "M4 7.5V1M1.5 3.5 4 1l2.5 2.5",
  "↓": "M4 .5V7M1.5 4.5 4 7l2.5-2.5",
  "→": "M.5 4.5H7M4.5 2 7 4.5 4.5 7",
};

function drawn(path: string): unknown {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path d="${path}" ` +
    'fill="none" stroke="black" stroke-width="0.8"/></svg>';
  return { svg, width: 7, margin: [0, 1, 0, 0] };
}

/** A cell's content: an arrow, alone or between two words, is drawn. */
function cellContent(text: string): Record<string, unknown> {
  const arrow = /^(?:(\S+) )?([↑↓→])(?: (\S+))?$/.exec(text);
  if (arrow === null) return { text };
  const words = (words = "") => words === "" ? [] : [{ text: words, width: "auto" }];
  const [, before, character, after] = arrow;
  return { columns: [...words(before), drawn(ARROWS[character]), ...words(after)], columnGap: 3 };
}

/**
 * Plots side by side, two to a line, the last of which stays with the caption. Their letters are in the font in use,
 * the report's: its file is in memory, where the plot's renderer warns that it does not find it.
 */
function figureLines(plots: readonly Plot[], caption: string): unknown[] {
  const width = (WIDTH - GAP) / 2;
  const lines = Array.from(
    { length: Math.ceil(plots.length / 2) },
    (_, i) => plots.slice(2 * i, 2 * i + 2),
  );
  return lines.map((line, i) => {
    const images = line.map(({ svg }) => ({ svg, width, options: { warningCallback: () => {} } }));
    const columns = { columns: images, columnGap: GAP, margin: [0, 4, 0, 4] };
    const last = [columns, { text: caption, color: QUIET, margin: [0, 0, 0, 10] }];
    return i < lines.length - 1 ? columns : { stack: last, unbreakable: true };
  });
}

/** Rows of a table that surely fit a page. */
const MOST_ROWS = 24;

function tablePart({ caption, rows: [head, ...rows], cells }: Table): unknown {
  const [fontSize, padding] = head.length > 10 ? [6.2, 1.3] : [8, 2];
  const align = (column: number) => cells === "numbers" && column > 0 ? "right" : "left";
  const cell = (text: string, column: number, bold: boolean) => ({
    ...cellContent(text),
    bold,
    alignment: align(column),
  });
  // A caption does not stay behind alone; only a table longer than a page may be cut.
  const unbreakable = rows.length <= MOST_ROWS;
  const stack = [
    { text: caption, color: QUIET, margin: [0, 6, 0, 3] },
    {
      table: {
        headerRows: 1,
        dontBreakRows: true,
        widths: head.map(() => cells === "words" ? "*" : "auto"),
        body: [
          head.map((text, column) => cell(text, column, true)),
          ...rows.map((row) => row.map((text, column) => cell(text, column, column === 0))),
        ],
      },
      layout: {
        hLineWidth: () => 0.5,
        vLineWidth: () => 0,
        hLineColor: () => "#bbbbbb",
        paddingLeft: () => 3,
        paddingRight: () => 3,
        paddingTop: () => padding,
        paddingBottom: () => padding,
      },
      fontSize,
      margin: [0, 0, 0, 8],
    },
  ];
  return { stack, unbreakable };
}

/** What a block looks like: parts between which a page may end. */
function parts(block: Block): unknown[] {
  switch (block.kind) {
    case "heading":
      return [{ text: block.text, style: "heading" }];
    case "paragraph":
      return [{ text: block.text, margin: [0, 0, 0, 6] }];
    case "list":
      return [{ ul: block.items, margin: [0, 0, 0, 6] }];
    case "preformatted":
      return [{
        text: block.text,
        fontSize: 7,
        preserveLeadingSpaces: true,
        margin: [0, 0, 0, 6],
      }];
    case "figure":
      return figureLines(block.plots, block.caption);
    case "table":
      return [tablePart(block)];
  }
}

/** The blocks from each heading to the next. */
function sections(blocks: readonly Block[]): Block[][] {
  const all: Block[][] = [];
  for (const block of blocks) {
    if (block.kind === "heading" || all.length === 0) all.push([]);
    all.at(-1)!.push(block);
  }
  return all;
}

/** A heading stays on the page of what it is about: its first plots or table, if it has any. */
function sectionPart(blocks: readonly Block[]): unknown {
  const first = blocks.findIndex(({ kind }) => kind === "figure" || kind === "table");
  const together = first < 0 ? 2 : first + 1, all = blocks.flatMap(parts);
  return [{ stack: all.slice(0, together), unbreakable: true }, ...all.slice(together)];
}

/** The file's bytes. */
export async function reportPdf({ title, subtitle, blocks }: Report): Promise<Uint8Array> {
  loadFonts();
  const document = pdfmake.createPdf({
    pageSize: "A4",
    pageMargins: [MARGIN, MARGIN, MARGIN, MARGIN],
    info: { title },
    defaultStyle: { font: FONT, fontSize: 9.5, lineHeight: 1.2 },
    styles: { heading: { fontSize: 14, bold: true, margin: [0, 14, 0, 5] } },
    footer: (page: number, pages: number) => ({
      text: `${page} / ${pages}`,
      alignment: "center",
      fontSize: 8,
      color: QUIET,
    }),
    content: [
      { text: title, fontSize: 20, bold: true },
      { text: subtitle, color: QUIET, margin: [0, 2, 0, 4] },
      ...sections(blocks).map(sectionPart),
    ],
  });
  return new Uint8Array(await document.getBuffer());
}
