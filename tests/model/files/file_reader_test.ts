import assert from "node:assert/strict";
import { join } from "node:path";
import { FileReader } from "../../../model/files/file_reader.ts";

let folder = "";
Deno.test.beforeAll(() => {
  folder = Deno.makeTempDirSync();
});
Deno.test.afterAll(() => Deno.removeSync(folder, { recursive: true }));

/** A file whose byte i is i mod 251. */
function counting(name: string, bytes: number): string {
  const path = join(folder, name);
  Deno.writeFileSync(path, Uint8Array.from({ length: bytes }, (_, i) => i % 251));
  return path;
}

Deno.test("reads under way at once do not disturb each other", async () => {
  const reader = new FileReader(counting("many", 100_000));
  assert.equal(reader.size, 100_000);
  const starts = Array.from({ length: 50 }, (_, i) => i * 1999 % 99_000);
  const targets = starts.map(() => new Uint8Array(1000));
  const reads = starts.map((start, i) => reader.read(start, targets[i]));
  const between = new Uint8Array(3);
  reader.readSync(250, between);
  await Promise.all(reads);
  reader.close();
  assert.deepEqual([...between], [250, 0, 1]);
  for (const [i, start] of starts.entries()) {
    assert.ok(targets[i].every((byte, k) => byte === (start + k) % 251), `read ${i}`);
  }
});

Deno.test("refuses what is no file, and a missing one", () => {
  const refuse = (path: string, message: RegExp) =>
    assert.throws(() => new FileReader(path), { name: "UserError", message });
  refuse(folder, /^cannot read .*: it is no file, but a folder$/);
  refuse("/dev/null", /^cannot read \/dev\/null: it is no file, but a device$/);
  refuse(join(folder, "none"), /^cannot read .*: it does not exist$/);
});

Deno.test("bytes beyond the end are an error", async () => {
  const path = counting("short", 10), reader = new FileReader(path);
  const error = { name: "UserError", message: `${path}: became shorter while it was read` };
  for (const [position, bytes] of [[0, 11], [10, 1], [99, 1]]) {
    assert.throws(() => reader.readSync(position, new Uint8Array(bytes)), error);
    await assert.rejects(reader.read(position, new Uint8Array(bytes)), error);
  }
  reader.close();
});

Deno.test("a file replaced while it is open is not mixed with the new one", async () => {
  const path = counting("replaced", 10), reader = new FileReader(path);
  Deno.renameSync(counting("other", 10), path);
  const first = reader.read(0, new Uint8Array(10)); // on the handle that is open already
  await assert.rejects(reader.read(0, new Uint8Array(10)), {
    name: "UserError",
    message: `${path}: was replaced by another file while it was read`,
  });
  await first;
  reader.close();
});

Deno.test("nothing is read after close", async () => {
  const reader = new FileReader(counting("closed", 10));
  await reader.read(0, new Uint8Array(10));
  reader.close();
  await assert.rejects(reader.read(0, new Uint8Array(1)), /is closed$/);
});
