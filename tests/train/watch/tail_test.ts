/** Files that are read on while they grow, are cut back or replaced. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { LONGEST_LINE, Tail } from "../../../train/watch/tail.ts";
import { inFolder } from "./run_files.ts";

/** Lines of a file, read on with every call. */
function reading(path: string, room = LONGEST_LINE): () => Promise<string[]> {
  const tail = new Tail(path), buffer = new Uint8Array(room);
  let all: string[] = [];
  const reader = {
    restart: () => void (all = []),
    lines: (text: string) => void all.push(...text.split("\n")),
  };
  return async () => {
    await tail.poll(reader, buffer);
    return all;
  };
}

const append = (path: string, text: string) => Deno.writeTextFileSync(path, text, { append: true });

Deno.test("tail: whole lines are read once, and a torn last one waits", () =>
  inFolder(async (folder) => {
    const path = join(folder, "f"), read = reading(path);
    assert.deepEqual(await read(), [], "the file is not there yet");
    append(path, "one\ntw");
    assert.deepEqual(await read(), ["one"]);
    append(path, "o\nthree\n");
    assert.deepEqual(await read(), ["one", "two", "three"]);
    assert.deepEqual(await read(), ["one", "two", "three"]);
  }));

Deno.test("tail: lines go over the edges of what is read at once", () =>
  inFolder(async (folder) => {
    const path = join(folder, "f"),
      lines = Array.from({ length: 99 }, (_, i) => `é${"x".repeat(i % 14)}`);
    append(path, lines.join("\n") + "\n");
    assert.deepEqual(await reading(path, 17)(), lines);
  }));

Deno.test("tail: a file that was cut back is read anew", () =>
  inFolder(async (folder) => {
    const path = join(folder, "f"), read = reading(path);
    append(path, "one\ntwo\nthree\n");
    await read();
    Deno.truncateSync(path, 4);
    assert.deepEqual(await read(), ["one"]);
    append(path, "2\n");
    assert.deepEqual(await read(), ["one", "2"]);
  }));

Deno.test("tail: a file that was cut back and has grown past its old end is read anew", () =>
  inFolder(async (folder) => {
    const path = join(folder, "f"), read = reading(path);
    append(path, "one\ntwo\nthree\n");
    await read();
    Deno.truncateSync(path, 4);
    append(path, "2nd\n3rd line\n4th\n");
    assert.deepEqual(await read(), ["one", "2nd", "3rd line", "4th"]);
  }));

Deno.test("tail: a file that was replaced is read anew, and one that is gone has no lines", () =>
  inFolder(async (folder) => {
    const path = join(folder, "f"), read = reading(path);
    append(path, "one\ntwo\n");
    await read();
    append(`${path}2`, "one\ntwo\nthree\n");
    Deno.renameSync(`${path}2`, path);
    assert.deepEqual(await read(), ["one", "two", "three"]);
    Deno.removeSync(path);
    assert.deepEqual(await read(), []);
  }));

Deno.test("tail: a line that is too long is left out", () =>
  inFolder(async (folder) => {
    const path = join(folder, "f"), read = reading(path, 8);
    append(path, `one\n${"x".repeat(50)}\ntwo\n${"y".repeat(20)}`);
    assert.deepEqual(await read(), ["one", "two"]);
    append(path, "yy\nthree\n");
    assert.deepEqual(await read(), ["one", "two", "three"]);
  }));

Deno.test({
  name: "tail: links and pipes are not read",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inFolder(async (folder) => {
      append(join(folder, "secret"), "one\n");
      Deno.symlinkSync(join(folder, "secret"), join(folder, "link"));
      assert.deepEqual(await reading(join(folder, "link"))(), []);
      new Deno.Command("mkfifo", { args: [join(folder, "pipe")] }).outputSync();
      assert.deepEqual(await reading(join(folder, "pipe"))(), []);
    }),
});
