/**
 * A report as one HTML file that needs nothing else: no script, no other file, no network.
 *
 * @module
 */
import { Marked, Renderer } from "marked";
import { isFigure, plain, type Report } from "./markdown.ts";

const STYLE = `
:root { color-scheme: light dark; --text: #1c2024; --quiet: #5b6470; --page: #fff; --line: #d6dae0; --band: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ed; --quiet: #a3acb8; --page: #15181c; --line: #3a414b; --band: #20252b; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 17px/1.55 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 2.8rem 0 .6rem; padding-top: .7rem; border-top: 1px solid var(--line); }
p, ul { max-width: 46rem; }
.subtitle, figure p { color: var(--quiet); }
figure { margin: 1.4rem 0; }
figure p { font-size: .92rem; margin: 0; padding: .4rem 0; }
p:has(> img) { display: flex; flex-wrap: wrap; gap: .8rem; max-width: none; }
img { flex: 1 1 20rem; min-width: 0; width: 100%; max-width: 34rem; height: auto; background: #fff; border-radius: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .4rem; border-bottom: 1px solid var(--line); vertical-align: top; text-align: left; }
[align=right] { text-align: right; white-space: nowrap; }
td:not([align]) { min-width: 6rem; }
tbody th { max-width: 22rem; }
thead th { border-bottom: 2px solid var(--quiet); }
tr { background: var(--page); }
tbody tr:nth-child(even) { background: var(--band); }
tbody th { font-weight: 600; }
tr > :first-child { position: sticky; left: 0; background: inherit; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--band); padding: .8rem; border-radius: 4px; font-size: .8rem; line-height: 1.45; }
@media print {
  @page { size: A4; margin: 16mm; }
  :root { color-scheme: light; --text: #000; --quiet: #444; --page: #fff; --line: #bbb; --band: #f4f4f4; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  p:has(> img) { flex-wrap: nowrap; }
  img { flex-basis: 0; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: 2pt 3pt; }
}
`;

const marked = new Marked({
  // What looks like an address in a text is no link.
  tokenizer: { url: () => undefined },
  renderer: {
    table(token) {
      return `<div class="scroll">${Renderer.prototype.table.call(this, token)}</div>\n`;
    },
    tablerow({ text }) {
      return `<tr>${text.replace(/^<td>(.*)<\/td>$/m, '<th scope="row">$1</th>')}</tr>\n`;
    },
  },
});

function pieceHtml(piece: string): string {
  const html = marked.parse(piece, { async: false });
  return isFigure(piece) ? `<figure>${html}</figure>\n` : html;
}

/** The file's text. */
export function reportHtml({ title, subtitle, sections }: Report): string {
  const [name, about] = [title, subtitle].map((text) => marked.parseInline(plain(text)));
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<link rel="icon" href="data:," />
<title>${name}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>${name}</h1>
<p class="subtitle">${about}</p>
${sections.flat().map(pieceHtml).join("")}</main>
</body>
</html>
`;
}
