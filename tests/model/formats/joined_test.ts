import assert from "node:assert/strict";
import { JoinedMatrix, type Layout, Scratch } from "../../../model/formats/joined.ts";

/** A file of counting bytes that remembers how often it was read. */
class MemoryFile {
  reads = 0;
  constructor(readonly bytes: Uint8Array) {}
  async read(position: number, target: Uint8Array): Promise<void> {
    this.reads++;
    assert.ok(position >= 0 && position + target.length <= this.bytes.length);
    await Promise.resolve();
    target.set(this.bytes.subarray(position, position + target.length));
  }
}

/** Parts with their data at different places of their files, and the rows of each. */
function makeParts(count: number, { rows, rowBytes }: { rows: number; rowBytes: number }) {
  return Array.from({ length: count }, (_, part) => {
    const position = 5 + 3 * part;
    const bytes = new Uint8Array(position + rows * rowBytes + 4).fill(0xee);
    const row = (index: number) =>
      Uint8Array.from({ length: rowBytes }, (_, i) => (part * 89 + index * 7 + i * 3) % 223);
    for (let i = 0; i < rows; i++) bytes.set(row(i), position + i * rowBytes);
    return { file: new MemoryFile(bytes), position, row };
  });
}

/** What the whole should be, row by row. */
function wholeOf(parts: ReturnType<typeof makeParts>, layout: Layout): number[] {
  const { rows, join, headRows } = layout;
  if (join === "columns") {
    return Array.from({ length: rows }, (_, i) => parts.flatMap(({ row }) => [...row(i)])).flat();
  }
  const all = parts.flatMap(({ row }) => Array.from({ length: rows }, (_, i) => [...row(i)]));
  if (headRows === 0) return all.flat();
  // HF = W.view(heads, d / 2, 2, in).transpose(1, 2), written out.
  const whole: number[] = [];
  for (let head = 0; head < all.length / headRows; head++) {
    for (const second of [0, 1]) {
      for (let pair = 0; pair < headRows / 2; pair++) {
        whole.push(...all[head * headRows + 2 * pair + second]);
      }
    }
  }
  return whole;
}

async function read(matrix: JoinedMatrix, begin: number, length: number): Promise<Uint8Array> {
  const target = new Uint8Array(length).fill(0xcc);
  await matrix.read(begin, target);
  return target;
}

const LAYOUTS: Layout[] = [
  { rows: 12, rowBytes: 5, join: "rows", headRows: 0 },
  { rows: 12, rowBytes: 5, join: "rows", headRows: 4 },
  { rows: 12, rowBytes: 5, join: "rows", headRows: 12 },
  { rows: 12, rowBytes: 5, join: "columns", headRows: 0 },
  { rows: 1, rowBytes: 1, join: "columns", headRows: 0 },
];

Deno.test("every range of every layout, with scratch memory that fits all, some or nothing", async () => {
  for (const layout of LAYOUTS) {
    for (const count of [1, 2, 8]) {
      const parts = makeParts(count, layout), whole = wholeOf(parts, layout);
      for (const scratchBytes of [2 ** 20, 130, 60, 20, 1]) {
        const matrix = new JoinedMatrix(parts, layout, new Scratch(scratchBytes));
        assert.equal(matrix.bytes, whole.length);
        const lengths = [0, 1, 3, 10, 37, whole.length];
        for (const length of lengths.filter((length) => length <= whole.length)) {
          for (let begin = 0; begin + length <= whole.length; begin += 1 + (begin % 4)) {
            const bytes = await read(matrix, begin, length);
            const label = `${JSON.stringify(layout)} ${count} ${scratchBytes} ${begin} ${length}`;
            assert.ok(bytes.every((byte, i) => byte === whole[begin + i]), label);
          }
        }
      }
    }
  }
});

Deno.test("several reads at once do not disturb each other", async () => {
  const layout = LAYOUTS[1], parts = makeParts(2, layout), whole = wholeOf(parts, layout);
  const matrix = new JoinedMatrix(parts, layout, new Scratch(20));
  for (let round = 0; round < 3; round++) {
    const reads = Array.from({ length: 20 }, (_, i) => read(matrix, i, 60));
    for (const [i, bytes] of (await Promise.all(reads)).entries()) {
      assert.deepEqual([...bytes], whole.slice(i, i + 60));
    }
  }
});

Deno.test("scratch memory is used again, by one read at a time", () => {
  const scratch = new Scratch(), memory = scratch.take(20);
  scratch.give(memory);
  assert.equal(scratch.take(7), memory);
  assert.notEqual(scratch.take(7), memory);
  scratch.give(memory);
  const larger = scratch.take(21); // in place of the memory that is too small
  assert.equal(larger.length, 21);
  assert.notEqual(scratch.take(20), memory);
});

Deno.test("whole bands are read at once, not row by row", async () => {
  const layout: Layout = { rows: 64, rowBytes: 16, join: "columns", headRows: 0 };
  const parts = makeParts(4, layout);
  await read(new JoinedMatrix(parts, layout, new Scratch(16 * 4 * 32)), 0, 64 * 64);
  assert.deepEqual(parts.map(({ file }) => file.reads), [2, 2, 2, 2]);
  const heads: Layout = { rows: 64, rowBytes: 16, join: "rows", headRows: 8 };
  const rows = makeParts(2, heads);
  await read(new JoinedMatrix(rows, heads, new Scratch(16 * 8 * 4)), 0, 64 * 32);
  assert.deepEqual(rows.map(({ file }) => file.reads), [2, 2]);
});

Deno.test("refuses bytes that the matrix doesn't have", async () => {
  const matrix = new JoinedMatrix(makeParts(2, LAYOUTS[0]), LAYOUTS[0], new Scratch());
  for (const [begin, length] of [[-1, 1], [0, 121], [120, 1], [NaN, 1]]) {
    await assert.rejects(read(matrix, begin, length), {
      name: "RangeError",
      message: `120 bytes, not ${length} from byte ${begin} on`,
    });
  }
});
