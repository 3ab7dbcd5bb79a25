/** The report: the same content in HTML, PDF and Markdown, made of measurements. */
import assert from "node:assert/strict";
import { writeReport } from "../../../bench/course/report.ts";
import { reportHtml } from "../../../bench/course/report/html.ts";
import {
  figure,
  plain,
  type Report,
  reportTables,
  table,
} from "../../../bench/course/report/markdown.ts";
import { reportPdf } from "../../../bench/course/report/pdf.ts";
import { checkpointIntervals } from "../../../bench/course/report/results.ts";
import { loraShares, lossPoints, thinned } from "../../../bench/course/report/sections.ts";
import { areaPlot, barPlot, linePlot } from "../../../bench/plot.ts";
import { CATEGORIES, type MemoryTable } from "../../../kernels/gpu/memory.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { TemporaryFolder } from "../../cli/cli.ts";

const series = [{ name: "a", points: [{ x: 1, y: 2 }, { x: 4, y: 3 }] }];

async function sample(): Promise<Report> {
  const line = await linePlot({ xTitle: "k", yTitle: "MB", series }, [{ x: 2, label: "√n = 2" }]);
  const places = [{ x: 0, values: [1, 2] }, { x: 1, values: [3, 1] }];
  const areas = await areaPlot({ names: ["p", "q"], title: "MB", xTitle: "launch", places });
  const bars = [{ label: "LoRA", values: [1, 2] }, { label: "none", values: [4, 4] }];
  const stacked = await barPlot({ names: ["p", "q"], title: "MB", bars });
  return {
    title: "A <title> & more",
    subtitle: "sub",
    sections: [[
      "## Head",
      plain("1 < 2 & 3"),
      "- one\n- two",
      figure("three", ...[line, areas, stacked].map((svg) => ({ svg, alt: 'a "plot"' }))),
      table("numbers", "Numbers.", [["a", "b|c"], ["x", "↑ 1"]]),
      "    ./lorikeet --help",
    ]],
  };
}

/** Whether every element that has an end is closed in order. */
function assertWellFormed(html: string): void {
  const open: string[] = [];
  const text = html.replace(/<style>[^]*?<\/style>/, "").replace("<!DOCTYPE html>", "");
  for (const [, close, name, rest] of text.matchAll(/<(\/?)(\w+)((?:"[^"]*"|[^">])*)>/g)) {
    if (close) assert.equal(open.pop(), name);
    else if (!rest.endsWith("/") && !/^(br|img)$/.test(name)) open.push(name);
  }
  assert.deepEqual(open, []);
}

Deno.test("report: the HTML needs nothing else, is well-formed and shows every plot", async () => {
  const html = reportHtml(await sample());
  assertWellFormed(html);
  assert.doesNotMatch(html, /https?:\/\/|<script|@import|url\(/);
  const images = [
    ...html.matchAll(/<img src="data:image\/svg\+xml;base64,([^"]+)" alt="a &quot;plot&quot;"/g),
  ];
  assert.equal(images.length, 3);
  for (const [, data] of images) assert.match(atob(data), /^<svg [^]*<\/svg>$/);
  assert.match(html, /<title>A &lt;title&gt; &amp; more<\/title>/);
  assert.match(html, /<h2>Head<\/h2>\s*<p>1 &lt; 2 &amp; 3<\/p>/);
  assert.match(html, /<th scope="row">x<\/th>\s*<td align="right">↑ 1<\/td>/);
});

const MARKUP = "*a* _b_ <b> &lt; `c` ~~d~~ [e](f) ![g](h) \\| http://i.org i@k.org";

Deno.test("report: what looks like markup in a text stays letters, and its lines stay apart", () => {
  const sections = [[
    "## h",
    table("words", MARKUP, [["p", "q"], [MARKUP, `${MARKUP}\n ${MARKUP}`]]),
  ]];
  const report = { title: MARKUP, subtitle: MARKUP, sections }, html = reportHtml(report);
  const escaped = MARKUP.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  for (
    const [before, after] of [["<h1>", "</h1>"], ["<p>", "</p>"], ["<td>", `<br>${escaped}</td>`]]
  ) {
    assert.ok(html.includes(`${before}${escaped}${after}`), `${before} in ${html}`);
  }
  assert.doesNotMatch(html, /<(a|em|strong|code|del|img|b)\b/);
});

Deno.test("report: Markdown has the tables alone, and no cell breaks a line", async () => {
  const text = reportTables(await sample());
  assert.match(text, /Numbers\.\n\n\| a +\| b\\\|c \|\n\| -+ \| -+: \|\n/);
  assert.doesNotMatch(text, /lorikeet --help|three/);
});

Deno.test("report: three whole files are written, nothing temporary is left", async () => {
  using folder = new TemporaryFolder();
  const output = folder.file("out"), paths = await writeReport(output, await sample());
  const names = [...Deno.readDirSync(output)].map(({ name }) => name).sort();
  assert.deepEqual(names, ["report.html", "report.pdf", "tables.md"]);
  const pdf = new TextDecoder("latin1").decode(Deno.readFileSync(paths[1]));
  assert.match(pdf, /^%PDF-1\.\d/);
  assert.match(pdf, /%%EOF\s*$/);
  assert.equal([...pdf.matchAll(/\/Type \/Page\b/g)].length, 1);
  assert.match(pdf, /\/FontFile2/, "the font is inside");
});

/** What the pages of a PDF are told to draw. */
async function drawing(pdf: Uint8Array): Promise<string> {
  let text = "";
  const whole = new TextDecoder("latin1").decode(pdf);
  for (const { index, 0: head, 1: length } of whole.matchAll(/\/Length (\d+)[^]*?stream\n/g)) {
    const start = index + head.length;
    const bytes = pdf.slice(start, start + Number(length));
    const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    text += await new Response(inflated).text();
  }
  return text;
}

Deno.test("report: the PDF draws the arrows that its font lacks", async () => {
  const strokes = async (...cells: string[]) => {
    const sections = [[table("words", "c", [cells, cells])]];
    const pdf = await reportPdf({ title: "t", subtitle: "s", sections });
    return (await drawing(pdf)).match(/^S$/gm)!.length;
  };
  const without = await strokes("−", "a b", "1");
  // In both rows.
  assert.equal(await strokes("↑", "↓", "1.5 → 2"), without + 2 * 3);
});

Deno.test("report: the PDF draws every letter of what looks like markup, and its lines", async () => {
  const glyphs = async (cell: string) => {
    const sections = [[table("words", "c", [["h"], [cell]])]];
    const text = await drawing(await reportPdf({ title: "t", subtitle: "s", sections }));
    // [<four digits a glyph> move <...>] TJ
    const shown = text.match(/^\[<.*\] TJ$/gm)!.join().match(/[0-9a-f]+(?=>)/g)!;
    return shown.join("").length / 4;
  };
  const letters = MARKUP.replaceAll(" ", ""), without = await glyphs("");
  assert.equal(await glyphs(letters), without + letters.length);
  assert.equal(await glyphs(`${letters}\n${letters}`), without + 2 * letters.length);
});

Deno.test("report: checkpoint intervals are the powers of two and the root", () => {
  assert.deepEqual(checkpointIntervals(16), [1, 2, 4, 8, 16]);
  assert.deepEqual(checkpointIntervals(32), [1, 2, 4, 6, 8, 16, 32]);
  assert.deepEqual(checkpointIntervals(1), [1]);
});

Deno.test("report: losses are averaged eight at a time, the last ones fewer", () => {
  assert.deepEqual(lossPoints([1, 3, 1, 3, 1, 3, 1, 3, 5, 7]), [{ x: 8, y: 2 }, { x: 10, y: 6 }]);
});

Deno.test("report: a thinned timeline keeps its peak", () => {
  const zero = Object.fromEntries(CATEGORIES.map((c) => [c, 0])) as MemoryTable;
  const points = Array.from({ length: 1000 }, (_, launch) => ({
    launch,
    program: "p",
    phase: "forward" as const,
    memory_mb: { ...zero, activation: launch === 501 ? 9 : 1 },
  }));
  const few = thinned(points);
  assert.ok(few.length <= 300);
  assert.equal(few.filter(({ launch }) => launch === 501).length, 1);
});

Deno.test("report: LLaMA-2 7B's share of LoRA parameters is counted exactly", () => {
  const share = loraShares(presetConfig("llama2-7b"), ["q_proj", "v_proj"]).find(({ rank }) =>
    rank === 16
  )!;
  // 32 blocks · 2 layers · 2 matrices · 16 · 4096 of 6,738,415,616 and themselves.
  assert.equal(share.percent, 100 * 8_388_608 / (6_738_415_616 + 8_388_608));
});
