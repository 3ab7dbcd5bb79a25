import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { UserError } from "../../../../kernels/errors.ts";
import { DataFile } from "../../../../model/text/data/file.ts";
import type { Row } from "../../../../model/text/data/row.ts";
import { openRows } from "../../../../model/text/data/rows.ts";
import { isField } from "../../../../model/text/data/sample.ts";
import { TemporaryFolder } from "../../../cli/cli.ts";
import { fixturePath } from "../../../fixtures.ts";
import { concat } from "../../formats/pth_writer.ts";

const one = { instruction: "Größe?", input: "", output: "groß" };
const line = JSON.stringify(one);
const table = "instruction,input,output\nGröße?,,groß\n";
const utf8 = (text: string) => new TextEncoder().encode(text);

/** Text in UTF-16 after its mark. */
function utf16(text: string, little: boolean): Uint8Array {
  const view = new DataView(new ArrayBuffer(2 + 2 * text.length));
  view.setUint16(0, 0xfeff, little);
  for (let i = 0; i < text.length; i++) view.setUint16(2 + 2 * i, text.charCodeAt(i), little);
  return new Uint8Array(view.buffer);
}

const gzip = (bytes: Uint8Array) => Uint8Array.from(gzipSync(bytes));

async function rowsOf(path: string) {
  using file = await DataFile.open(path);
  const reader = await openRows(file, { isField, limit: Infinity }), rows: Row[] = [];
  for (let some = await reader.next(); some !== undefined; some = await reader.next()) {
    rows.push(...some);
  }
  return rows.map(({ value }) => value);
}

/** What a file is called, its name and its bytes; each holds the row above. */
const files: [string, string, Uint8Array][] = [
  ["JSON after a byte order mark", "a.json", utf8(`\ufeff[${line}]`)],
  ["JSON in UTF-16LE", "a.json", utf16(line, true)],
  ["JSON in UTF-16BE", "a.json", utf16(line, false)],
  ["JSON under a table's name", "a.csv", utf8(line)],
  ["JSON packed by gzip", "a.jsonl.gz", gzip(utf8(line))],
  [
    "JSON in two parts that gzip packed",
    "a.gz",
    concat(gzip(utf8(line.slice(0, 9))), gzip(utf8(line.slice(9)))),
  ],
  ["JSON packed by gzip under another name", "a.json", gzip(utf8(`\ufeff${line}`))],
];
for (const [name, file, bytes] of files) {
  Deno.test(`data file: ${name}`, async () => {
    using folder = new TemporaryFolder();
    assert.deepEqual(await rowsOf(folder.file(file, bytes)), [one]);
  });
}

/** Tables have null where there is no value. */
const tables: [string, string, Uint8Array][] = [
  ["a table after a byte order mark", "a.csv", utf8(`\ufeff${table}`)],
  [
    "a table in UTF-16 with tabs, as spreadsheets save it",
    "a.txt",
    utf16(table.replaceAll(",", "\t"), true),
  ],
  ["a table packed by gzip", "a.csv.gz", gzip(utf8(table))],
  ["a table under JSON's name", "a.json", utf8(table)],
];
for (const [name, file, bytes] of tables) {
  Deno.test(`data file: ${name}`, async () => {
    using folder = new TemporaryFolder();
    assert.deepEqual(await rowsOf(folder.file(file, bytes)), [{ ...one, input: null }]);
  });
}

Deno.test("data file: Parquet under any name, also packed by gzip", async () => {
  using folder = new TemporaryFolder();
  const bytes = Deno.readFileSync(fixturePath("rows/snappy.parquet"));
  for (const content of [bytes, gzip(bytes)]) {
    assert.equal((await rowsOf(folder.file("a.json", content))).length, 5);
  }
});

const packed = gzip(utf8(line.repeat(50)));
const flipped = packed.slice();
flipped[flipped.length - 6] ^= 1;
const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${
  "0".repeat(64)
}\nsize 9\n`;
/** What is wrong, the bytes, and what the message says after the file's name. */
const faults: [string, Uint8Array, RegExp][] = [
  ["nothing", utf8(""), /is empty; expected JSON, JSON Lines, CSV, TSV or Parquet/],
  ["blanks", utf8(" \n\t"), /is empty; expected/],
  [
    "prose",
    utf8("Once upon a time"),
    /is neither JSON nor a table with a first line of names; exp/,
  ],
  ["a table of other names", utf8("question,answer\na,b\n"), /is neither JSON nor a table/],
  ["a web page", utf8("<!DOCTYPE html>\n<html>"), /is an HTML page, not the file itself; exp/],
  [
    "a Git LFS pointer",
    utf8(pointer),
    /is a Git LFS pointer, not the file itself of 9 bytes; "git lfs pull"/,
  ],
  ["XML", utf8('<?xml version="1.0"?>'), /is HTML or XML; expected JSON/],
  ["a ZIP archive", utf8("PK\x03\x04..."), /is a ZIP archive .*; unpack it, .*; expected JSON/],
  ["zstd", Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0), /is compressed by zstd; unpack it first; exp/],
  ["Arrow", utf8("ARROW1\0\0"), /is an Arrow file; write its rows with to_json/],
  ["a cut gzip", packed.slice(0, -9), /is truncated: gzip can't unpack it/],
  ["a damaged gzip", flipped, /is damaged: gzip can't unpack it \(incorrect data check\)/],
  ["gzip twice", gzip(packed), /is packed twice by gzip; unpack it once/],
  [
    "UTF-32",
    Uint8Array.of(0xff, 0xfe, 0, 0, 0x7b, 0, 0, 0),
    /is text in UTF-32; expected text in UTF-8/,
  ],
  [
    "UTF-16 without a mark",
    utf16(line, true).slice(2),
    /is text in UTF-16 without a byte order mark/,
  ],
  ["half of UTF-16", utf16(line, true).slice(0, -1), /is damaged as UTF-16LE/],
];
for (const [name, bytes, message] of faults) {
  Deno.test(`data file: ${name} is refused`, async () => {
    using folder = new TemporaryFolder();
    const path = folder.file("some.json", bytes);
    await assert.rejects(rowsOf(path), (error) => {
      assert.ok(error instanceof UserError);
      const names = [`data file "${path}" `, `${path}: `];
      assert.ok(names.some((name) => error.message.startsWith(name)), error.message);
      assert.match(error.message, message);
      return true;
    });
  });
}

Deno.test("data file: one that is missing, and a folder, are refused", async () => {
  using folder = new TemporaryFolder();
  await assert.rejects(rowsOf(`${folder.path}/none.json`), /none\.json" does not exist; expected/);
  await assert.rejects(rowsOf(folder.path), /is a folder; expected one file of JSON/);
});

Deno.test("data: UTF-16 is recoded in pieces, no character of which is cut", async () => {
  using folder = new TemporaryFolder();
  // The pair of 🦜 lies across the end of the first 16 MiB.
  const output = "a".repeat(2 ** 23 - 10) + "🦜".repeat(9);
  const path = folder.file("large.json", utf16(JSON.stringify({ instruction: "a", output }), true));
  const [row] = await rowsOf(path) as { output: string }[];
  assert.ok(row.output === output);
});

Deno.test("data: a row that is too large is called so, in JSON and in tables", async () => {
  using folder = new TemporaryFolder();
  const large = new Uint8Array(100_000_100).fill(97);
  for (
    const [name, begin, message] of [
      [
        "row.json",
        '{"instruction":"a","output":"',
        /row 1 \(line 1\) has 100000100 bytes; expected/,
      ],
      ["row.csv", "instruction,output\nb,", /line \d+, has more than 100000000 bytes; expected/],
    ] as const
  ) {
    large.set(new TextEncoder().encode(begin));
    if (name === "row.json") large.set(new TextEncoder().encode('"}'), large.length - 2);
    await assert.rejects(rowsOf(folder.file(name, large)), { name: "UserError", message });
    large.fill(97);
  }
});
