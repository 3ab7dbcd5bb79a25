/** Whether every row of docs/compatibility.md still has the test that proves it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { ROOT } from "../scripts/compile.ts";

/** A row's proof: a file of tests, and the name of one in it or the beginning of several names. */
const PROOF = /\[`([^`]+)`\]\(\.\.\/(tests\/[a-z0-9_/]+_test\.ts)\)$/;

const rows = Deno.readTextFileSync(join(ROOT, "docs/compatibility.md")).split("\n")
  .filter((line) => line.startsWith("| ") && !/^\| (what|---)/.test(line))
  .map((line) => line.slice(1, -1).split(/(?<!\\)\|/).map((cell) => cell.trim()));

Deno.test("compatibility: every row has a test that exists", () => {
  assert.ok(rows.length >= 60, `only ${rows.length} rows`);
  const sources = new Map<string, string>();
  for (const row of rows) {
    const [, name, path] = PROOF.exec(row[row.length - 1]) ?? [];
    assert.ok(name !== undefined, `no test is named in the row "${row[0]}"`);
    if (!sources.has(path)) sources.set(path, Deno.readTextFileSync(join(ROOT, path)));
    // Names that are made of parts are named by their first one, which stands after a quotation mark.
    const begins = ['"', "`", "'"].some((quote) => sources.get(path)!.includes(quote + name));
    assert.ok(begins, `row "${row[0]}": ${path} has no test "${name}"`);
  }
});

Deno.test("compatibility: no row stands twice", () => {
  const names = rows.map(([what]) => what);
  assert.deepEqual(names.filter((name, i) => names.indexOf(name) !== i), []);
});
