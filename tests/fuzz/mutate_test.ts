import assert from "node:assert/strict";
import { join } from "node:path";
import { FileReader } from "../../model/files/file_reader.ts";
import { AllocationCounter, fuzz } from "./mutate.ts";

Deno.test("what a program allocates is counted", () => {
  const counter = new AllocationCounter(), before = Uint8Array;
  const array = new Uint8Array(1000); // 1,000
  new Float64Array([1, 2, 3]); // 24
  Float32Array.from([1, 2]); // 8
  new Uint16Array(array.buffer); // a view: nothing
  array.subarray(10); // the same
  array.slice(900); // 100
  new TextDecoder().decode(new ArrayBuffer(50)); // 50 and 50
  const { largest, total } = counter;
  counter.reset();
  assert.deepEqual([largest, total, counter.largest, counter.total], [1000, 1232, 0, 0]);
  counter.close();
  new Uint8Array(10);
  assert.equal(counter.total, 0);
  assert.notEqual(before, Uint8Array);
});

Deno.test("a reader that believes a file, or fails unclearly, does not pass", async () => {
  const rounds = 50, seed = 1;
  const damage = () => ({ file: new Uint8Array(5000) });
  const passes = (load: (folder: string) => unknown) => fuzz({ seed, rounds, damage, load });
  await passes(() => new Uint8Array(10_000));
  await assert.rejects(passes(() => new Uint8Array(20_000)), /20000 bytes at once for 5000/);
  const often = () => Array.from({ length: 3 }, () => new Uint8Array(9000));
  await assert.rejects(passes(often), /27000 bytes in all for 5000/);
  await assert.rejects(passes(() => Promise.reject(new TypeError("x is undefined"))), /TypeError/);
  await assert.rejects(passes(() => new FileReader("/nowhere")), /UserError/);
  await assert.rejects(
    passes(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2100)),
    /round 0: took 2\.\d s/,
  );
  await assert.rejects(
    passes((folder) => Deno.openSync(join(folder, "file"))),
    /round 0: leaves 1 file open/,
  );
});
