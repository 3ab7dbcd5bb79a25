/** Which changes make a measurement one of other sources. */
import assert from "node:assert/strict";
import { hashOf, lorikeetFiles, lorikeetSources } from "../../../bench/course/sources.ts";
import { TemporaryFolder } from "../../cli/cli.ts";

Deno.test("sources: bytes, names and the bounds between files count, and the same again is equal", () => {
  using folder = new TemporaryFolder();
  const a = folder.file("a", "12"), b = folder.file("b", "3");
  const first = hashOf([a, b]);
  assert.equal(hashOf([a, b]), first);
  assert.notEqual(hashOf([b, a]), first);
  folder.file("a", "1");
  folder.file("b", "23");
  assert.notEqual(hashOf([a, b]), first);
  folder.file("a", "12");
  folder.file("b", "3");
  assert.equal(hashOf([a, b]), first);
});

Deno.test("sources: kernels, packages and the built-in model decide, the words of a report don't", () => {
  const files = lorikeetFiles();
  for (const name of ["kernels/gpu/gpu.ts", "deno.lock", "examples/builtin/model/config.json"]) {
    assert.ok(files.includes(name), name);
  }
  assert.ok(files.includes("bench/course/timeline.ts"));
  assert.ok(files.every((name) => !name.startsWith("bench/course/report/")));
  assert.match(lorikeetSources(), /^[0-9a-f]{16}$/);
});
