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
const MARGIN = 42, WIDTH = 595.28 - 2 * MARGIN, GAP = 10, PLOT_WIDTH = 300;
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

/** Characters that the font lacks, as those that it has. */
const WRITTEN: Record<string, string> = { "↑": "up", "↓": "down", "→": "to" };
const written = (text: string) => text.replaceAll(/[↑↓→]/g, (character) => WRITTEN[character]);

/**
 * Plots side by side, two to a line. Their letters are in the font in use, the report's: its file is in memory,
 * where the plot's renderer warns that it does not find it.
 */
function plotRows(plots: readonly Plot[]): unknown[] {
  const width = plots.length === 1 ? PLOT_WIDTH : (WIDTH - GAP) / 2;
  const lines = Array.from(
    { length: Math.ceil(plots.length / 2) },
    (_, i) => plots.slice(2 * i, 2 * i + 2),
  );
  return lines.map((line) => ({
    columns: line.map(({ svg }) => ({ svg, width, options: { warningCallback: () => {} } })),
    columnGap: GAP,
    margin: [0, 0, 0, 4],
  }));
}

/** Rows of a table that surely fit a page. */
const MOST_ROWS = 24;

function tablePart({ caption, rows: [head, ...rows], cells }: Table): unknown {
  const columns = head.length;
  const align = (column: number) => cells === "numbers" && column > 0 ? "right" : "left";
  const cell = (text: string, column: number, bold: boolean) => ({
    ...{ text: written(text), bold, alignment: align(column) },
  });
  // A caption does not stay behind alone; only a table longer than a page may be cut.
  const unbreakable = rows.length <= MOST_ROWS;
  const stack = [
    { text: written(caption), color: QUIET, margin: [0, 6, 0, 3] },
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
        paddingTop: () => 2,
        paddingBottom: () => 2,
      },
      fontSize: columns > 10 ? 6.2 : 8,
      margin: [0, 0, 0, 8],
    },
  ];
  return { stack, unbreakable };
}

function part(block: Block): unknown {
  switch (block.kind) {
    case "heading":
      return { text: written(block.text), style: "heading" };
    case "paragraph":
      return { text: written(block.text), margin: [0, 0, 0, 6] };
    case "list":
      return { ul: block.items.map(written), margin: [0, 0, 0, 6] };
    case "preformatted":
      return { text: block.text, fontSize: 7, preserveLeadingSpaces: true, margin: [0, 0, 0, 6] };
    case "figure":
      return {
        stack: [...plotRows(block.plots), { text: written(block.caption), color: QUIET }],
        unbreakable: true,
        margin: [0, 4, 0, 10],
      };
    case "table":
      return tablePart(block);
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

/** A heading stays on the page of what it is about: its first figure or table, if it has one. */
function sectionPart(blocks: readonly Block[]): unknown {
  const first = blocks.findIndex(({ kind }) => kind === "figure" || kind === "table");
  const together = first < 0 ? 2 : first + 1;
  return [
    { stack: blocks.slice(0, together).map(part), unbreakable: true },
    ...blocks.slice(together).map(part),
  ];
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
      ...{ text: `${page} / ${pages}`, alignment: "center", fontSize: 8, color: QUIET },
    }),
    content: [
      { text: title, fontSize: 20, bold: true },
      { text: subtitle, color: QUIET, margin: [0, 2, 0, 4] },
      ...sections(blocks).map(sectionPart),
    ],
  });
  return new Uint8Array(await document.getBuffer());
}
