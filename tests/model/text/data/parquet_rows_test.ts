import assert from "node:assert/strict";
import { UserError } from "../../../../kernels/errors.ts";
import { ParquetRows } from "../../../../model/text/data/parquet_rows.ts";
import { Literal, type Row, type Value } from "../../../../model/text/data/row.ts";
import { isField } from "../../../../model/text/data/sample.ts";
import { fixturePath } from "../../../fixtures.ts";
import { concat } from "../../formats/pth_writer.ts";

const folder = fixturePath("rows");
const bytesOf = (name: string) => Deno.readFileSync(`${folder}/${name}.parquet`);
const expected: Record<string, Record<string, Value>[]> = JSON.parse(
  Deno.readTextFileSync(`${folder}/rows.json`),
);

async function read(bytes: Uint8Array<ArrayBuffer>, limit = Infinity) {
  const from = {
    size: bytes.length,
    read: (at: number, target: Uint8Array) => target.set(bytes.subarray(at, at + target.length)),
  };
  const reader = await ParquetRows.open(from, { file: "some.parquet", isField, limit });
  const rows: Row[] = [];
  for (let some = await reader.next(); some !== undefined; some = await reader.next()) {
    rows.push(...some);
  }
  return { rows, unread: reader.unread };
}

/** A value with text in place of numbers and booleans, which are text in the file of what is expected. */
function written(value: Value): Value {
  if (value instanceof Literal) return value.source;
  if (Array.isArray(value)) return value.map(written);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, written(inner)]));
}

for (const [name, rows] of Object.entries(expected)) {
  Deno.test(`parquet rows: ${name}, as pyarrow reads it`, async () => {
    // A column that is no sample's isn't read.
    const known = rows.map((row) => "id" in row ? { ...row, id: null } : row);
    assert.deepEqual((await read(bytesOf(name))).rows.map(({ value }) => written(value)), known);
  });
}

Deno.test("parquet rows: a limit, places, and names of columns that aren't read", async () => {
  const { rows, unread } = await read(bytesOf("groups"), 3);
  assert.deepEqual(
    rows.map(({ where }) => where()),
    [1, 2, 3].map((i) => {
      return `data file "some.parquet", row ${i}`;
    }),
  );
  assert.deepEqual(unread, new Map([["id", 3]]));
  assert.deepEqual((await read(bytesOf("others"))).rows.map(({ value }) => value), [
    { question: null, answer: null },
  ]);
});

const whole = bytesOf("groups");
/** The last bytes: the metadata's size and the format's mark. */
const size = new DataView(whole.buffer).getUint32(whole.length - 8, true);
/** The file without the metadata's first bytes, and with others of them. */
const cut = (by: number) =>
  concat(
    whole.subarray(0, whole.length - 8 - size),
    whole.subarray(whole.length - 8 - size + by),
  );

const faults: [string, Uint8Array<ArrayBuffer>][] = [
  ["cut at its end", whole.slice(0, -100)],
  ["cut in the middle", whole.slice(0, whole.length / 2)],
  ["no more than its mark", new TextEncoder().encode("PAR1")],
  ["without some metadata", cut(40)],
];
for (const [name, bytes] of faults) {
  Deno.test(`parquet rows: a file ${name} is refused`, async () => {
    await assert.rejects(read(bytes), (error) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, /^data file "some\.parquet" is truncated or damaged: it can't/);
      return true;
    });
  });
}

Deno.test("parquet rows: bytes that are no UTF-8 are refused by column and row", async () => {
  const refusal = (column: string, row: number) => ({
    name: "UserError",
    message: `data file "some.parquet", row ${row}: column "${column}" is not UTF-8 text; ` +
      "expected text in UTF-8",
  });
  await assert.rejects(read(bytesOf("bytes")), refusal("output", 1));
  const bytes = bytesOf("none");
  bytes[new TextDecoder("latin1").decode(bytes).indexOf("Now three.")] = 0xe9;
  await assert.rejects(read(bytes), refusal("output", 3));
  assert.equal((await read(bytes, 2)).rows.length, 2);
});

Deno.test("parquet rows: metadata of other columns or another number of rows is refused", async () => {
  const text = new TextDecoder("latin1").decode(whole);
  const at = text.lastIndexOf("instruction");
  const renamed = whole.slice();
  renamed[at] ^= 1;
  await assert.rejects(read(renamed), /a row group has other columns than the schema/);
});

Deno.test("parquet rows: damage beyond the rows that are asked for is not looked at", async () => {
  const damaged = whole.slice();
  // The second row group's pages begin behind the first's; zeros are no page.
  damaged.fill(0, Math.floor((whole.length - size) / 2), whole.length - 8 - size);
  assert.equal((await read(damaged, 2)).rows.length, 2);
  await assert.rejects(read(damaged), /is truncated or damaged/);
});
