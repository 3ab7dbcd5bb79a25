/**
 * A report as one HTML file that needs nothing else: no script, no other file, no network.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Block, Plot, Report, Table } from "./content.ts";

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
.subtitle, figcaption { color: var(--quiet); }
figure { margin: 1.4rem 0; }
.plots { display: flex; flex-wrap: wrap; gap: .8rem; }
.plots img { flex: 1 1 20rem; min-width: 0; width: 100%; max-width: 34rem; height: auto; background: #fff; border-radius: 4px; }
figcaption { max-width: 46rem; font-size: .92rem; padding: .4rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .4rem; border-bottom: 1px solid var(--line); vertical-align: top; text-align: left; }
.numbers td, .numbers thead th + th { text-align: right; white-space: nowrap; }
.words td, .words tbody th { min-width: 6rem; }
.words tbody th { max-width: 22rem; }
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
  .plots { flex-wrap: nowrap; }
  .plots img { flex-basis: 0; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: 2pt 3pt; }
}
`;

const ESCAPES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escape = (text: string) => text.replaceAll(/[&<>"]/g, (character) => ESCAPES[character]);

/** As an image, so that what one plot's SVG calls its parts does not meet another's. */
function image({ svg, alt }: Plot): string {
  const source = `data:image/svg+xml;base64,${Buffer.from(svg).toString("base64")}`;
  return `<img src="${source}" alt="${escape(alt)}" />`;
}

function tableHtml({ caption, rows: [head, ...rows], cells }: Table): string {
  const headCells = head.map((text) => `<th scope="col">${escape(text)}</th>`).join("");
  const body = rows.map(([first, ...others]) =>
    `<tr><th scope="row">${escape(first)}</th>` +
    others.map((text) => `<td>${escape(text)}</td>`).join("") + "</tr>"
  );
  return `<figure><figcaption>${
    escape(caption)
  }</figcaption><div class="scroll"><table class="${cells}">\n` +
    `<thead><tr>${headCells}</tr></thead>\n<tbody>\n${
      body.join("\n")
    }\n</tbody></table></div></figure>`;
}

function blockHtml(block: Block): string {
  switch (block.kind) {
    case "heading":
      return `<h2>${escape(block.text)}</h2>`;
    case "paragraph":
      return `<p>${escape(block.text)}</p>`;
    case "list":
      return `<ul>${block.items.map((item) => `<li>${escape(item)}</li>`).join("")}</ul>`;
    case "preformatted":
      return `<pre>${escape(block.text)}</pre>`;
    case "figure":
      return `<figure><div class="plots">${block.plots.map(image).join("\n")}</div>` +
        `<figcaption>${escape(block.caption)}</figcaption></figure>`;
    case "table":
      return tableHtml(block);
  }
}

/** The file's text. */
export function reportHtml({ title, subtitle, blocks }: Report): string {
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<link rel="icon" href="data:," />
<title>${escape(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>${escape(title)}</h1>
<p class="subtitle">${escape(subtitle)}</p>
${blocks.map(blockHtml).join("\n")}
</main>
</body>
</html>
`;
}
