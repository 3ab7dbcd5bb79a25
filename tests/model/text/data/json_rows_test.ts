import assert from "node:assert/strict";
import { UserError } from "../../../../kernels/errors.ts";
import { JsonRows } from "../../../../model/text/data/json_rows.ts";
import { Literal, type Row, type Value } from "../../../../model/text/data/row.ts";
import { isField } from "../../../../model/text/data/sample.ts";

const one = { instruction: "Name a bird.", input: "", output: "Lorikeet" };
const two = { instruction: "Add.", input: "1 2", output: "3" };
const [line, other] = [one, two].map((sample) => JSON.stringify(sample));
const pretty = [one, two].map((sample) => JSON.stringify(sample, null, 2));

/** All rows of a text that comes in pieces of so many bytes, those before a fault first. */
function* rowsOf(reader: JsonRows, bytes: Uint8Array, piece: number): Generator<Row, void> {
  for (let at = 0; at < bytes.length; at += piece) {
    reader.push(bytes.slice(at, at + piece));
    yield* reader.take();
  }
  reader.finish();
  for (let rows = reader.take(); rows.length > 0; rows = reader.take()) yield* rows;
}

function read(text: string | Uint8Array, { limit = Infinity, piece = 1 << 20 } = {}) {
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  const reader = new JsonRows({ file: "some.json", isField, limit, begin: 0 });
  const rows = [...rowsOf(reader, bytes, piece)];
  return { rows, notes: reader.notes };
}
const values = (text: string, piece?: number): Value[] =>
  read(text, { piece }).rows.map(({ value }) => value);

/** What a layout of two rows is called, and its text. */
const layouts: [string, string][] = [
  ["a list", JSON.stringify([one, two])],
  ["a list over several lines", ` \n${JSON.stringify([one, two], null, 2)}\n`],
  ["JSON Lines", `${line}\n${other}\n`],
  ["JSON Lines with blank lines and Windows' line ends", `${line}\r\n\r\n${other}`],
  ["objects one after another", pretty.join("\n")],
  ["objects with nothing between them", line + other],
  ["objects and commas", pretty.join(",\n")],
  ["objects and commas, also after the last", `${pretty.join(",\n")},\n`],
  ["files joined with their byte order marks", `\ufeff${line}\n\ufeff${other}`],
  ["an object with a list", JSON.stringify({ data: [one, two] })],
  [
    "an object with a list and more",
    `{"version": 1.0, "rows": [${line}, ${other}], "tags": ["a"]}`,
  ],
];
for (const [name, text] of layouts) {
  Deno.test(`json rows: ${name}, whole and in pieces of any size`, () => {
    for (const piece of [undefined, 1, 2, 3, 7, 31, 64, 101]) {
      assert.deepEqual(values(text, piece), [one, two], `pieces of ${piece}`);
    }
  });
}

Deno.test("json rows: a row alone, also one that holds lists of objects", () => {
  assert.deepEqual(values(pretty[0]), [one]);
  const chat = { messages: [{ role: "user" }] };
  assert.deepEqual(values(JSON.stringify(chat)), [chat]);
});

Deno.test("json rows: of several lists train is taken, and the others are named", () => {
  const lists = { test: [two], train: [one], validation: [two, two], sizes: [1, 2] };
  const { rows, notes } = read(JSON.stringify(lists));
  assert.deepEqual(Array.from(rows, ({ value }) => value), [one]);
  assert.deepEqual(notes, ['Rows of "train"; left out: "test" (1 row), "validation" (2 rows)']);
  assert.deepEqual(read(JSON.stringify({ data: [one] })).notes, ['Rows of "data"']);
});

Deno.test("json rows: an empty list beside one of rows is none", () => {
  assert.deepEqual(values(JSON.stringify({ errors: [], data: [one, two] })), [one, two]);
});

Deno.test("json rows: numbers and booleans stay as they are written, at any depth", () => {
  const written = (source: string) => new Literal(source);
  const text = '{"a": 4, "b": 4.0, "c": -1e3, "d": 12345678901234567890, "e": true, "f": null, ' +
    '"g": [1.50, {"h": false}], "i": "4"}';
  assert.deepEqual(values(text), [{
    a: written("4"),
    b: written("4.0"),
    c: written("-1e3"),
    d: written("12345678901234567890"),
    e: written("true"),
    f: null,
    g: [written("1.50"), { h: written("false") }],
    i: "4",
  }]);
  assert.deepEqual(values("[1, true]"), [written("1"), written("true")]);
});

Deno.test("json rows: names and characters that JavaScript or JSON treats specially", () => {
  const [row] = values(
    '{"__proto__": "a", "constructor": "b", "t": "\\u2028\\ud83e\\udd9c \\"}]["}',
  );
  assert.deepEqual(Object.entries(row as object), [
    ...[["__proto__", "a"], ["constructor", "b"], ["t", '\u2028🦜 "}][']],
  ]);
});

Deno.test("json rows: a row knows its number and line; those that aren't asked for aren't parsed", () => {
  const { rows } = read(`${line}\n\n${other}\n{broken`, { limit: 2 });
  assert.deepEqual(rows.map(({ where }) => where()), [
    'data file "some.json", row 1 (line 1)',
    'data file "some.json", row 2 (line 3)',
  ]);
  const [row] = read(`{"train": [\n${line}]}`).rows;
  assert.equal(row.where(), 'data file "some.json", "train", row 1 (line 2)');
});

const list = JSON.stringify([one, two], null, 1);
/** What is wrong, the text, and what the message says after the file's name. */
const faults: [string, string, RegExp][] = [
  [
    "truncated in a string",
    list.slice(0, 30),
    /is truncated: a string does not end \(row 1, line 3\)/,
  ],
  [
    "truncated after a row",
    list.slice(0, -2),
    /is truncated: the list does not end \(row 3, line 1\)/,
  ],
  ["truncated after a comma", "[1,", /is truncated: the list does not end/],
  [
    "truncated in its last line",
    `${line}\n${line.slice(0, -4)}\n`,
    /truncated: a .* \(row 2, line 2\)/,
  ],
  [
    "truncated in an object with a list",
    '{"train": [{"a": "b"}',
    /is truncated: a value does not end/,
  ],
  ["a line that ends in a string", `${line}\n{"a": "b\n${other}`, /not JSON: .* \(row 2, line 2\)/],
  ["no JSON in a line", `${line}\n\n{instruction}\n`, /, row 2 \(line 3\) is not JSON /],
  ["no JSON further down", list.replace('"Add.",', '"Add."'), /, row 2 \(line 7\) is not JSON /],
  ["a list without commas", `[${line} ${other}]`, /is not JSON: expected "," or "\]" after a row/],
  ["a list with a comma too many", `[${line},]`, /is not JSON: "," before the end of the list/],
  [
    "more after a list",
    `[${line}]\n[${other}]`,
    /is not JSON: more follows after the list .*line 2/,
  ],
  ["JavaScript's or Python's values", `[{"a": NaN}]`, /, row 1 \(line 1\) is not JSON/],
  ["commas alone", `${line},,${other}`, /is not JSON: expected a value/],
  ["deep nesting", `{"a":${"[".repeat(20_000)}`, /is not JSON: nested more than 500 deep/],
  [
    "several lists",
    JSON.stringify({ a: [one], b: [two] }),
    /several lists of rows, "a", "b"; expected/,
  ],
  ["an empty list", '{"train": []}', /: its list "train" holds no rows; expected at least one$/],
  [
    "an empty list in an object",
    '{"a": {"rows": [ ], "n": 0}}',
    /: its list "rows" holds no rows;/,
  ],
  [
    "an empty train beside another",
    JSON.stringify({ test: [one, two], train: [] }),
    /: its list "train" holds no rows \(beside it: "test" \(2 rows\)\); expected/,
  ],
];
for (const [name, text, message] of faults) {
  Deno.test(`json rows: ${name} is refused`, () => {
    assert.throws(() => values(text, 13), message);
    assert.throws(() => values(text), (error) => {
      assert.ok(error instanceof UserError);
      assert.ok(error.message.startsWith('data file "some.json"'), error.message);
      assert.match(error.message, message);
      assert.ok(!error.message.includes("\n") && error.message.includes("expected"), error.message);
      return true;
    });
  });
}

Deno.test("json rows: a row that is no UTF-8 is refused by its place", () => {
  const bytes = new TextEncoder().encode(`${line}\n{"a": "?"}`);
  bytes[bytes.indexOf(0x3f)] = 0xe9;
  assert.throws(() => read(bytes), /row 2 \(line 2\) is not UTF-8 text/);
});

Deno.test("json rows: what they are located at is what they are read from", () => {
  const texts = layouts.slice(0, 9).map(([, text]) => text);
  const many = Array.from({ length: 50 }, (_, i) => [line, other][i % 2]);
  for (const text of [...texts, many.join("\n"), `${many.join("\r\n")}\n`, many.join(" ,\n")]) {
    const bytes = new TextEncoder().encode(text);
    const whole = read(text).rows;
    for (const piece of [1, 5, 17, 1000]) {
      const reader = new JsonRows({ file: "some.json", isField, limit: Infinity, begin: 100 });
      const found: [number, number][] = [];
      const locate = () => reader.locate((begin, end) => void found.push([begin, end]));
      for (let at = 0; at < bytes.length; at += piece) {
        reader.push(bytes.slice(at, at + piece));
        locate();
      }
      reader.finish();
      locate();
      const rows = found.map(([begin, end]) =>
        JSON.parse(new TextDecoder().decode(bytes.subarray(begin - 100, end - 100)))
      );
      assert.deepEqual(rows, whole.map(({ value }) => value), `pieces of ${piece}: ${text}`);
    }
  }
});

Deno.test("json rows: many on one line are read as fast as on lines of their own", () => {
  const rows = Array.from({ length: 60_000 }, () => line), began = performance.now();
  for (const text of [`[${rows.join(",")}]`, rows.join(""), `{"train": [${rows.join(", ")}]}`]) {
    assert.equal(read(text).rows.length, rows.length);
  }
  // Where every row's line is looked through as a whole, it takes minutes.
  assert.ok(performance.now() - began < 15_000);
});
