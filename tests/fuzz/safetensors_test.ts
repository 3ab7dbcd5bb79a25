import assert from "node:assert/strict";
import { join } from "node:path";
import { openSafetensors } from "../../model/files/safetensors.ts";
import { AllocationCounter, fuzz, mutateBytes, mutateJson, type Picker } from "./mutate.ts";

const DATA = Uint8Array.from({ length: 61 }, (_, i) => i * 37);
const HEADER = JSON.stringify({
  __metadata__: { format: "pt" },
  "model.a": { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] },
  "model.b": { dtype: "BF16", shape: [4], data_offsets: [24, 32] },
  "model.c": { dtype: "U8", shape: [], data_offsets: [32, 33] },
  "model.empty": { dtype: "F16", shape: [0, 7], data_offsets: [33, 33] },
  "model.d": { dtype: "F16", shape: [7, 2, 1], data_offsets: [33, 61] },
});

/** A file with this header, whose length is told truly. */
function fileOf(header: string, data: Uint8Array): Uint8Array {
  const json = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + json.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  bytes.set(data, 8 + json.length);
  return bytes;
}

/** A damaged file: its header, its data, both, or any of its bytes. */
function damaged(header: string, data: Uint8Array, pick: Picker): Uint8Array {
  switch (pick(5)) {
    case 0:
      return mutateBytes(fileOf(header, data), pick);
    case 1:
      return fileOf(header, mutateBytes(data, pick));
    case 2:
      return mutateBytes(fileOf(mutateJson(header, pick), data), pick);
    default:
      return fileOf(mutateJson(header, pick), data);
  }
}

Deno.test("20,000 damaged safetensors files load whole or are refused in a sentence", async () => {
  const { loaded, problems } = await fuzz({
    ...{ seed: 20260101, rounds: 20_000 },
    write(folder, pick) {
      const bytes = damaged(HEADER, DATA, pick);
      Deno.writeFileSync(join(folder, "w.safetensors"), bytes);
      return bytes.length;
    },
    load: (folder) => {
      const file = openSafetensors(join(folder, "w.safetensors"));
      for (const [name, { shape, begin, end }] of file.tensors) {
        assert.ok(shape.every((size) => Number.isSafeInteger(size) && size >= 0), `${shape}`);
        file.readSync(name, 0, new Uint8Array(end - begin));
      }
      file.close();
    },
  });
  // Some must load and most must not, in many ways, or the damage tests too little.
  assert.ok(loaded > 200 && loaded < 10_000, `${loaded} loaded`);
  assert.ok(problems.size > 20, [...problems].join("\n"));
});

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
  const write = () => 5000;
  const passes = (load: (folder: string) => unknown) => fuzz({ seed, rounds, write, load });
  await passes(() => new Uint8Array(10_000));
  await assert.rejects(passes(() => new Uint8Array(20_000)), /20000 bytes at once for 5000/);
  const often = () => Array.from({ length: 3 }, () => new Uint8Array(9000));
  await assert.rejects(passes(often), /27000 bytes in all for 5000/);
  await assert.rejects(passes(() => Promise.reject(new TypeError("x is undefined"))), /TypeError/);
  await assert.rejects(passes(() => openSafetensors("/nowhere")), /UserError/);
  await assert.rejects(
    passes(() => {
      const start = performance.now();
      while (performance.now() - start < 2100);
    }),
    /round 0: took 2\.1 s/,
  );
});
