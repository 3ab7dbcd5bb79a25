import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { openSafetensors, parseSafetensorsHeader } from "../../../model/formats/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../../model/formats/write_safetensors.ts";

let folder = "";
Deno.test.beforeAll(() => {
  folder = Deno.makeTempDirSync();
});
Deno.test.afterAll(() => Deno.removeSync(folder, { recursive: true }));

/** A file with this header and so many data bytes; `length` may lie about the header. */
function fileBytes(header: string | Uint8Array, dataBytes: number, length?: bigint): Uint8Array {
  const json = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(json.length), true);
  bytes.set(json, 8);
  for (let i = 0; i < dataBytes; i++) bytes[8 + json.length + i] = i;
  return bytes;
}

const entry = (dtype: string, shape: unknown, data_offsets: unknown) => ({
  dtype,
  shape,
  data_offsets,
});

/** Opens a file with these bytes and expects the given refusal. */
function refused(bytes: Uint8Array, problem: RegExp): void {
  const path = join(folder, "lies.safetensors");
  Deno.writeFileSync(path, bytes);
  assert.throws(() => openSafetensors(path).close(), (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.ok(error.message.startsWith(`${path}: `), error.message);
    assert.match(error.message.slice(path.length + 2), problem);
    return true;
  });
}

const headerRefused = (header: unknown, dataBytes: number, problem: RegExp) =>
  refused(
    fileBytes(typeof header === "string" ? header : JSON.stringify(header), dataBytes),
    problem,
  );

Deno.test("refuses a file too short for a header's length", () => {
  refused(new Uint8Array(7), /^is 7 bytes, too short for a safetensors file$/);
});

Deno.test("refuses a header that is longer than the file", () => {
  refused(
    fileBytes("{}", 0, 3n),
    /^is truncated: says that its header has 3 bytes, but the file ends after 2$/,
  );
});

Deno.test("refuses a header over 100 MB before it reads it", () => {
  refused(fileBytes("{}", 0, 100_000_001n), /header has 100000001 bytes, more than the limit/);
  refused(fileBytes("{}", 0, 2n ** 64n - 1n), /header has 18446744073709551615 bytes, more than/);
});

Deno.test("refuses a header that is not JSON", () => {
  for (
    const header of ["", "{", '{"a":}', "PK\u0003\u0004", '{"a', '{"a\\":1}', "{}}", "\ufeff{}"]
  ) {
    headerRefused(header, 0, /^the safetensors header is not valid JSON$/);
  }
});

Deno.test("refuses a header that is not UTF-8", () => {
  const header = Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d);
  refused(fileBytes(header, 0), /^the safetensors header is not valid UTF-8$/);
});

Deno.test("refuses a header that is not an object", () => {
  for (const header of ["[]", "null", "3", '"a"', " {}"]) {
    headerRefused(header, 0, /^the safetensors header is not a JSON object$/);
  }
});

Deno.test("refuses duplicate names, however they are escaped", () => {
  const tensor = (begin: number) => JSON.stringify(entry("U8", [1], [begin, begin + 1]));
  for (const second of ["a\\\\b", "\\u0061\\\\b"]) {
    const header = `{"a\\\\b":${tensor(0)} , "${second}" : ${tensor(1)}}`;
    headerRefused(header, 2, /^the safetensors header has the name "a\\\\b" twice$/);
  }
  headerRefused(
    '{"x":{"dtype":"U8","shape":[1],"dtype":"I8","data_offsets":[0,1]}}',
    1,
    /has the name "dtype" twice/,
  );
});

Deno.test("a name in a string's text or in another tensor is no duplicate", () => {
  const header = `{"__metadata__":{"a":"b","c":"\\"a\\":{"},"b":${
    JSON.stringify(entry("U8", [1], [0, 1]))
  },"a":${JSON.stringify(entry("U8", [1], [1, 2]))}}`;
  const { tensors, metadata } = parseSafetensorsHeader(new TextEncoder().encode(header), 2, "f");
  assert.deepEqual([...tensors.keys()], ["b", "a"]);
  assert.deepEqual(metadata, { a: "b", c: '"a":{' });
});

Deno.test("refuses a header nested so deeply that parsing it would exhaust memory", () => {
  headerRefused("[".repeat(1e6), 0, /is nested more than 16 levels deep/);
  headerRefused('{"a":'.repeat(1e5), 0, /is nested more than 16 levels deep/);
});

Deno.test("refuses an entry that is no object", () => {
  for (const value of [null, 1, "F32", [1]]) {
    headerRefused({ w: value }, 0, /^tensor "w" is not described by a JSON object$/);
  }
});

Deno.test("refuses an unknown or missing dtype", () => {
  headerRefused({ w: entry("F33", [1], [0, 4]) }, 4, /^tensor "w" has dtype "F33", which is not/);
  headerRefused({ w: entry("toString", [1], [0, 4]) }, 4, /dtype "toString", which is not known/);
  headerRefused({ w: { shape: [1], data_offsets: [0, 4] } }, 4, /has dtype missing, which is not/);
});

Deno.test("refuses a shape that is no list of sizes", () => {
  for (const shape of [undefined, null, 4, "4", [-1], [1.5], ["1"], [null], [1e300]]) {
    headerRefused({ w: entry("F32", shape, [0, 4]) }, 4, /^tensor "w" has a shape that is not a/);
  }
});

Deno.test("refuses offsets that are not two whole numbers in order", () => {
  for (const offsets of [undefined, null, 4, [0], [0, 4, 8], [0, "4"], [-4, 0], [0.5, 4.5]]) {
    headerRefused(
      { w: entry("F32", [1], offsets) },
      4,
      /^tensor "w" has data_offsets that are not/,
    );
  }
  headerRefused({ w: entry("F32", [1], [4, 0]) }, 4, /ends at byte 0, before it begins at byte 4/);
});

Deno.test("refuses a tensor beyond the end of the file", () => {
  headerRefused(
    { w: entry("F32", [2], [0, 8]) },
    7,
    /^is truncated: its tensors have 8 bytes, of which 7 are there/,
  );
});

Deno.test("refuses a size that is not the shape's", () => {
  const problem = /^tensor "w" has 4 bytes, but shape \[2\] of F32 needs 8$/;
  headerRefused({ w: entry("F32", [2], [0, 4]) }, 4, problem);
  headerRefused({ w: entry("F32", [0], [0, 4]) }, 4, /shape \[0\] of F32 needs 0$/);
});

Deno.test("refuses a shape whose product overflows", () => {
  const shape = [2 ** 32, 2 ** 32, 2 ** 32];
  headerRefused({ w: entry("U8", shape, [0, 0]) }, 0, /^tensor "w" has 0 bytes, but shape/);
});

Deno.test("refuses overlapping tensors", () => {
  const header = { a: entry("F32", [2], [0, 8]), b: entry("F32", [1], [4, 8]) };
  headerRefused(header, 8, /^tensor "b" overlaps "a"$/);
});

Deno.test("refuses gaps between tensors and before the first", () => {
  const header = { a: entry("U8", [1], [0, 1]), b: entry("U8", [1], [2, 3]) };
  headerRefused(header, 3, /^bytes 1 to 2 of the data, before tensor "b", belong to no tensor$/);
  headerRefused({ b: header.b }, 3, /^bytes 0 to 2 of the data, before tensor "b"/);
});

Deno.test("refuses bytes after the last tensor", () => {
  headerRefused({ a: entry("U8", [1], [0, 1]) }, 3, /^2 bytes after the last tensor belong to no/);
  headerRefused({}, 1, /^1 bytes after the last tensor/);
});

Deno.test("refuses metadata that are not strings", () => {
  for (const value of [null, [], "pt", { format: 1 }]) {
    headerRefused({ __metadata__: value }, 0, /^__metadata__ is not a JSON object of strings$/);
  }
});

Deno.test("refuses a missing file and a folder", () => {
  const name = "UserError";
  assert.throws(() => openSafetensors(join(folder, "none")), { name, message: /does not exist$/ });
  assert.throws(() => openSafetensors(folder), { name, message: /it is no file, but a folder$/ });
});

Deno.test("messages stay short whatever a header names", () => {
  headerRefused({ ["x".repeat(1e5)]: 1 }, 0, /^tensor "x{50,100}\.\.\. is not described/);
});

/** The whole of a tensor. */
function readAll(path: string, name: string): Uint8Array<ArrayBuffer> {
  const file = openSafetensors(path), { begin, end } = file.tensors.get(name)!;
  const bytes = new Uint8Array(end - begin);
  file.readSync(name, 0, bytes);
  file.close();
  return bytes;
}

Deno.test("any bytes of a tensor are read, at once and with a promise", async () => {
  const path = join(folder, "ranges.safetensors");
  const header = { v: entry("U8", [5], [0, 5]), w: entry("U8", [21], [5, 26]) };
  Deno.writeFileSync(path, fileBytes(JSON.stringify(header), 26));
  const file = openSafetensors(path);
  for (const [begin, count] of [[0, 21], [0, 1], [20, 1], [3, 7], [21, 0]]) {
    const expected = Array.from({ length: count }, (_, i) => 5 + begin + i);
    const now = new Uint8Array(count), later = new Uint8Array(count);
    file.readSync("w", begin, now);
    await file.read("w", begin, later);
    assert.deepEqual([[...now], [...later]], [expected, expected]);
  }
  file.close();
});

Deno.test("many reads may be under way at once, of one tensor and of several", async () => {
  const path = join(folder, "together.safetensors");
  const header = { a: entry("U8", [100], [0, 100]), b: entry("U8", [100], [100, 200]) };
  Deno.writeFileSync(path, fileBytes(JSON.stringify(header), 200));
  const file = openSafetensors(path);
  const targets = Array.from({ length: 20 }, () => new Uint8Array(10));
  await Promise.all(targets.map((t, i) => file.read(i < 10 ? "a" : "b", i % 10 * 10, t)));
  file.close();
  assert.deepEqual(targets.flatMap((t) => [...t]), Array.from({ length: 200 }, (_, i) => i));
});

Deno.test("bytes beyond a tensor belong to another: they are not read", async () => {
  const path = join(folder, "beyond.safetensors");
  const header = { a: entry("U8", [4], [0, 4]), b: entry("U8", [4], [4, 8]) };
  Deno.writeFileSync(path, fileBytes(JSON.stringify(header), 8));
  const file = openSafetensors(path);
  for (const [begin, count] of [[0, 5], [4, 1], [-1, 2], [NaN, 1]]) {
    const message = `"a" has 4 bytes, not ${count} from byte ${begin} on`;
    const target = new Uint8Array(count);
    await assert.rejects(file.read("a", begin, target), { name: "RangeError", message });
    assert.throws(() => file.readSync("a", begin, target), { name: "RangeError", message });
  }
  assert.throws(() => file.readSync("c", 0, new Uint8Array(1)), { name: "RangeError" });
  file.close();
});

Deno.test("a file cut while it is open is an error, not an endless loop", async () => {
  const path = join(folder, "cut.safetensors");
  const bytes = fileBytes(JSON.stringify({ w: entry("U8", [64], [0, 64]) }), 64);
  Deno.writeFileSync(path, bytes);
  const file = openSafetensors(path);
  Deno.truncateSync(path, bytes.length - 10);
  const error = { name: "UserError", message: `${path}: became shorter while it was read` };
  assert.throws(() => file.readSync("w", 0, new Uint8Array(64)), error);
  await assert.rejects(file.read("w", 0, new Uint8Array(64)), error);
  file.close();
});

function floats(name: string, shape: number[], values: number[]): TensorToWrite {
  return { name, dtype: "F32", shape, data: [new Uint8Array(Float32Array.from(values).buffer)] };
}

Deno.test("writeSafetensors is read back, and aligned", async () => {
  const path = join(folder, "written.safetensors");
  const name = 'quote " \\ ü __proto__';
  async function* later() {
    yield Uint8Array.of(1, 2, 3);
    yield await Promise.resolve(Uint8Array.of(4, 5, 6));
  }
  await writeSafetensors(path, [
    { name: "half", dtype: "BF16", shape: [3], data: later() },
    floats(name, [2, 1], [1.5, -3]),
    floats("__proto__", [], [7]),
    floats("empty", [0, 5], []),
  ], { format: "pt", note: "x" });
  const file = openSafetensors(path);
  file.close();
  assert.deepEqual(file.metadata, { format: "pt", note: "x" });
  assert.deepEqual([...file.tensors.keys()].sort(), ["__proto__", "empty", "half", name].sort());
  assert.deepEqual(file.tensors.get(name), { dtype: "F32", shape: [2, 1], begin: 0, end: 8 });
  assert.deepEqual([...readAll(path, "half")], [1, 2, 3, 4, 5, 6]);
  assert.deepEqual([...new Float32Array(readAll(path, "__proto__").buffer)], [7]);
  assert.deepEqual([...readAll(path, "empty")], []);
  const header = new DataView(Deno.readFileSync(path).buffer).getBigUint64(0, true);
  assert.equal(header % 8n, 0n);
});

/** Names in a new folder after a write that had to fail. */
async function leftovers(
  label: string,
  write: (path: string) => Promise<void>,
  error: Record<string, unknown>,
): Promise<string[]> {
  const inside = join(folder, label);
  Deno.mkdirSync(inside);
  Deno.writeTextFileSync(join(inside, "w.safetensors"), "before");
  await assert.rejects(write(join(inside, "w.safetensors")), error);
  assert.equal(Deno.readTextFileSync(join(inside, "w.safetensors")), "before");
  return [...Deno.readDirSync(inside)].map((found) => found.name);
}

Deno.test("writeSafetensors: a failure leaves the folder as it was", async () => {
  function* broken(): Generator<Uint8Array> {
    yield new Uint8Array(4);
    throw new UserError("the source is gone");
  }
  const tensor: TensorToWrite = { name: "w", dtype: "F32", shape: [2], data: broken() };
  const left = await leftovers("broken", (path) => writeSafetensors(path, [tensor]), {
    name: "UserError",
    message: "the source is gone",
  });
  assert.deepEqual(left, ["w.safetensors"]);
});

Deno.test("writeSafetensors: data must have the size of the shape", async () => {
  for (const [count, message] of [[1, /only 4 of its 8 bytes/], [3, /more than its 8/]] as const) {
    const tensor = floats("w", [2], new Array(count).fill(0));
    const left = await leftovers(`size${count}`, (path) => writeSafetensors(path, [tensor]), {
      name: "RangeError",
      message,
    });
    assert.deepEqual(left, ["w.safetensors"]);
  }
});

Deno.test("writeSafetensors: names are unique and not reserved", async () => {
  for (const names of [["a", "a"], ["__metadata__"]]) {
    const tensors = names.map((name) => floats(name, [1], [0]));
    await assert.rejects(writeSafetensors(join(folder, "n"), tensors), { name: "RangeError" });
  }
});

Deno.test("writeSafetensors: a missing folder is a clear error", async () => {
  await assert.rejects(writeSafetensors(join(folder, "no", "w"), []), {
    name: "UserError",
    message: /its folder does not exist$/,
  });
});
