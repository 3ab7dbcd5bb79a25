/** `lorikeet report` from end to end: measurements, then three files that show them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Table2Row } from "../../bench/course/table2.ts";
import { ROOT } from "../../scripts/compile.ts";
import { TemporaryFolder } from "./cli.ts";
import { gpuTest } from "../kernels/harness.ts";

const SECTIONS = [
  ...["What each technique does", "Memory and time of every combination of techniques"],
  ...["Where the memory goes", "Loss", "Memory over one step"],
  ...["Time and memory against sequence length", "Time and memory against checkpoint interval"],
  ...["LoRA rank against trainable parameters", "Answers before and after fine-tuning"],
  "Hardware, versions and commands",
];

gpuTest("cli: report measures, and writes the same in HTML, PDF and Markdown", async () => {
  using temporary = new TemporaryFolder();
  const folder = temporary.file("course");
  // The least of everything: it is the way from measurements to files that counts here.
  const flags = ["--model", "random:tiny", "--layers", "1", "--samples", "1", "--gpu", "deno"];
  const { code, stdout, stderr } = await new Deno.Command(join(ROOT, "lorikeet"), {
    args: ["report", ...flags, "--folder", folder],
    stdin: "null",
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  const [html, pdf, markdown] = ["report.html", "report.pdf", "tables.md"].map((name) => {
    const path = join(folder, name);
    assert.ok(new TextDecoder().decode(stdout).includes(path));
    return new TextDecoder("latin1").decode(Deno.readFileSync(path));
  });

  assert.deepEqual([...html.matchAll(/<h2>([^<]*)<\/h2>/g)].map(([, text]) => text), SECTIONS);
  assert.doesNotMatch(html, /https?:\/\/|<script|@import|url\(/);
  assert.equal([...html.matchAll(/<img src="data:image\/svg\+xml;base64,/g)].length, 13);
  assert.match(pdf, /^%PDF-1\.\d[^]*%%EOF\s*$/);
  assert.ok([...pdf.matchAll(/\/Type \/Page\b/g)].length >= 4);

  // The rows are those that were measured.
  const name = "table2-accumulation-8-mixed-lora-on-checkpointing-block-adamw.json";
  const { result } = JSON.parse(Deno.readTextFileSync(join(folder, name)));
  const { peak_memory_mb, first_loss } = result as Required<Table2Row>;
  for (const text of [html, markdown]) {
    assert.ok(text.includes(peak_memory_mb.toFixed(1)) && text.includes(first_loss.toFixed(4)));
  }
  assert.match(html, /Counted for the first block of random:tiny, /);
});
