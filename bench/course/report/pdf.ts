/**
 * A report as a PDF of A4 pages.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { lexer, type Token, type Tokens } from "marked";
import pdfmake from "pdfmake";
import roboto from "pdfmake/build/vfs_fonts.js";
import { isFigure, type Report } from "./markdown.ts";

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

/** The letters of Markdown in a line; the HTML in it is line breaks alone. */
function textOf(tokens: readonly Token[] = []): string {
  return tokens.map((token) => {
    if ("tokens" in token) return textOf(token.tokens);
    return token.type === "html" ? "\n" : "text" in token ? token.text : "";
  }).join("");
}

/** A cell's content: an arrow, alone or between two words, is drawn. */
function cell({ tokens, header, align }: Tokens.TableCell, column: number): unknown {
  const text = textOf(tokens), style = { bold: header || column === 0, alignment: align ?? "left" };
  const arrow = /^(?:(\S+) )?([↑↓→])(?: (\S+))?$/.exec(text);
  if (arrow === null) return { text, ...style };
  const words = (words = "") => words === "" ? [] : [{ text: words, width: "auto" }];
  const [, before, character, after] = arrow;
  const columns = [...words(before), drawn(ARROWS[character]), ...words(after)];
  return { columns, columnGap: 3, ...style };
}

function tablePart({ header, align, rows }: Tokens.Table): unknown {
  const [fontSize, padding] = header.length > 10 ? [6.2, 1.3] : [8, 2];
  return {
    table: {
      headerRows: 1,
      dontBreakRows: true,
      widths: header.map(() => align.includes("right") ? "auto" : "*"),
      body: [header, ...rows].map((row) => row.map(cell)),
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
  };
}

/**
 * Plots side by side, two to a line. Their letters are in the font in use, the report's: its file is in memory, where
 * the plot's renderer warns that it does not find it.
 */
function plotLines(images: readonly Tokens.Image[]): unknown {
  const plots = images.map(({ href }) => ({
    svg: Buffer.from(href.split(",")[1], "base64").toString(),
    width: (WIDTH - GAP) / 2,
    options: { warningCallback: () => {} },
  }));
  const lines = Object.values(Object.groupBy(plots, (_, i) => i >> 1));
  return lines.map((columns) => ({ columns, columnGap: GAP, margin: [0, 4, 0, 4] }));
}

/** What a block of Markdown looks like; `text` is the style of a paragraph. */
function blockPart(token: Token, text: "paragraph" | "caption"): unknown {
  switch (token.type) {
    case "heading":
      return { text: textOf(token.tokens), style: "heading" };
    case "paragraph": {
      const images = token.tokens?.filter(({ type }) => type === "image") ?? [];
      if (images.length > 0) return plotLines(images as Tokens.Image[]);
      return { text: textOf(token.tokens), style: text };
    }
    case "table":
      return tablePart(token as Tokens.Table);
    case "list":
      return {
        ul: token.items.map(({ tokens }: Tokens.ListItem) => textOf(tokens)),
        style: "paragraph",
      };
    case "code":
      return { text: token.text, style: "code", preserveLeadingSpaces: true };
    default: // the space between blocks
      return [];
  }
}

/** Rows of a table that surely fit a page. */
const MOST_ROWS = 24;

/** A caption does not stay behind alone; only a table longer than a page may be cut. */
function piecePart(piece: string): unknown {
  const blocks = lexer(piece), style = isFigure(piece) ? "caption" : "paragraph";
  const long = blocks.some((block) => block.type === "table" && block.rows.length > MOST_ROWS);
  return { stack: blocks.map((block) => blockPart(block, style)), unbreakable: !long };
}

/** A heading stays on the page of what it is about: its first plots or table, if it has any. */
function sectionPart(pieces: readonly string[]): unknown {
  const first = pieces.findIndex(isFigure);
  const together = first < 0 ? 2 : first + 1, all = pieces.map(piecePart);
  return [{ stack: all.slice(0, together), unbreakable: true }, ...all.slice(together)];
}

/** The file's bytes. */
export async function reportPdf({ title, subtitle, sections }: Report): Promise<Uint8Array> {
  loadFonts();
  const document = pdfmake.createPdf({
    pageSize: "A4",
    pageMargins: [MARGIN, MARGIN, MARGIN, MARGIN],
    info: { title },
    defaultStyle: { font: FONT, fontSize: 9.5, lineHeight: 1.2 },
    styles: {
      heading: { fontSize: 14, bold: true, margin: [0, 14, 0, 5] },
      paragraph: { margin: [0, 0, 0, 6] },
      caption: { color: QUIET, margin: [0, 4, 0, 5] },
      code: { fontSize: 7, margin: [0, 0, 0, 6] },
    },
    footer: (page: number, pages: number) => ({
      text: `${page} / ${pages}`,
      alignment: "center",
      fontSize: 8,
      color: QUIET,
    }),
    content: [
      { text: title, fontSize: 20, bold: true },
      { text: subtitle, color: QUIET, margin: [0, 2, 0, 4] },
      ...sections.map(sectionPart),
    ],
  });
  return new Uint8Array(await document.getBuffer());
}
