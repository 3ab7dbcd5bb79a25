import assert from "node:assert/strict";
import { UserError } from "../../../../kernels/errors.ts";
import { isTable, TableRows } from "../../../../model/text/data/csv_rows.ts";
import type { Row } from "../../../../model/text/data/row.ts";
import { isField } from "../../../../model/text/data/sample.ts";

const bytesOf = (text: string) => new TextEncoder().encode(text);

async function read(text: string | Uint8Array, limit = Infinity, piece = 1 << 20) {
  const bytes = typeof text === "string" ? bytesOf(text) : text, rows: Row[] = [];
  assert.ok(isTable(bytes, isField), "a table");
  const reader = await TableRows.open(bytes, { file: "some.csv", isField, limit });
  for (let at = 0; at < bytes.length; at += piece) {
    reader.push(bytes.slice(at, at + piece));
    rows.push(...reader.take());
  }
  reader.finish();
  for (let more = reader.take(); more.length > 0; more = reader.take()) rows.push(...more);
  return rows;
}

const header = "instruction,input,output";
const row = (instruction: string, input: string | null, output: string) => ({
  instruction,
  input,
  output,
});

/** What a table is called, its text, and its rows. */
const tables: [string, string, Record<string, string | null>[]][] = [
  ["commas", `${header}\nWhat?,,"That, there"\n`, [row("What?", null, "That, there")]],
  ["tabs", `${header.replaceAll(",", "\t")}\na, b\tc\td\n`, [row("a, b", "c", "d")]],
  ["semicolons", `${header.replaceAll(",", ";")}\na,b;c;d`, [row("a,b", "c", "d")]],
  [
    "quotes, line breaks and commas inside quotes",
    `${header}\r\n"She said ""hi"", then\r\nleft","a\n\nb",c\r\n`,
    [row('She said "hi", then\r\nleft', "a\n\nb", "c")],
  ],
  ["blank lines between rows", `${header}\n\na,b,c\n\n\nd,e,f\n`, [
    row("a", "b", "c"),
    row("d", "e", "f"),
  ]],
  ["old Macs' line ends", `${header}\ra,b,c\rd,e,f`, [row("a", "b", "c"), row("d", "e", "f")]],
  ["mixed line ends", `${header}\na,b,c\r\nd,e,f\n`, [row("a", "b", "c"), row("d", "e", "f")]],
  ["names in quotes with blanks", `"instruction", input ,output\n1,2.50,true`, [
    row("1", "2.50", "true"),
  ]],
  [
    "blanks after every delimiter",
    'instruction, input, output\na, , c \n"d,e", "f, ""g""",  " h"\ni,j,k',
    [row("a", null, "c "), row("d,e", 'f, "g"', " h"), row("i", "j", "k")],
  ],
  ["blanks before names in quotes, between tabs", `instruction\t "output"\na\t\nb\t "c\td"\n`, [
    { instruction: "a", output: null },
    { instruction: "b", output: "c\td" },
  ]],
  ["blanks that begin values alone", `${header}\na, b, c\n`, [row("a", " b", " c")]],
  ["a blank inside a name in quotes", '"a, b",instruction,output\n1, 2, 3\n', [
    { "a, b": "1", instruction: " 2", output: " 3" },
  ]],
  ["words that mean nothing elsewhere", `${header}\nNA,null,None`, [row("NA", "null", "None")]],
];
for (const [name, text, expected] of tables) {
  Deno.test(`csv rows: ${name}, whole and in pieces of any size`, async () => {
    const whole = await read(text);
    assert.deepEqual(whole.map(({ value }) => value), expected);
    for (const piece of [1, 2, 3, 7, 30, 31, 32, 33]) {
      const rows = await read(text, Infinity, piece);
      const known = (rows: Row[]) => rows.map(({ value, where }) => [value, where()]);
      assert.deepEqual(known(rows), known(whole), `pieces of ${piece}`);
    }
  });
}

Deno.test("csv rows: rows know their number and line", async () => {
  const rows = await read(`${header}\n"a\nb",,c\n\nd,,e\n`);
  assert.deepEqual(rows.map(({ where }) => where()), [
    'data file "some.csv", row 1 (line 2)',
    'data file "some.csv", row 2 (line 5)',
  ]);
});

Deno.test("csv rows: those beyond the limit aren't checked", async () => {
  const text = `${header}\na,b,c\nd,e\n`;
  assert.equal((await read(text, 1)).length, 1);
  await assert.rejects(read(text, 2), /row 2 \(line 3\) has 2 values; expected 3/);
});

Deno.test("csv rows: a first line that names no field is no table", () => {
  for (
    const text of ["question,answer\na,b\n", "Once upon a time, instruction was rare.", "", "a"]
  ) {
    assert.ok(!isTable(bytesOf(text), isField), text);
  }
  assert.ok(isTable(bytesOf("text\nOnce upon a time\n"), isField));
});

const faults: [string, string, RegExp][] = [
  ["too few values", `${header}\na,b`, /, row 1 \(line 2\) has 2 values; expected 3, as many/],
  ["too many values", `${header}\na,b,c\nd,e,f,g`, /, row 2 \(line 3\) has 4 values; expected 3/],
  [
    "a quote that does not end",
    `${header}\na,b,"c\nd`,
    /is truncated: a value in quotes does not end/,
  ],
  [
    "a quote inside a value",
    `${header}\na "b",c,d`,
    /, line 2, has a quote inside a value; expected/,
  ],
  ["text after a quote", `${header}\n"a"b,c,d`, /, line 2, has a quote inside a value; expected/],
  [
    "a name twice",
    "instruction,output,output\na,b,c",
    /has two columns named output; expected one/,
  ],
];
for (const [name, text, message] of faults) {
  Deno.test(`csv rows: ${name} is refused`, async () => {
    await assert.rejects(read(text, Infinity, 9), message);
    await assert.rejects(read(text), (error) => {
      assert.ok(error instanceof UserError);
      assert.ok(error.message.startsWith('data file "some.csv"'), error.message);
      assert.match(error.message, message);
      return true;
    });
  });
}

Deno.test("csv rows: what is no UTF-8 is refused", async () => {
  const bytes = bytesOf(`${header}\n?,b,c`);
  bytes[bytes.indexOf(0x3f)] = 0xe9;
  await assert.rejects(read(bytes), /is not UTF-8 text; expected/);
});
