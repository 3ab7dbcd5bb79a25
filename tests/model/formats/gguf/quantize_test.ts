/** Numbers as blocks, to the bit as Python's `gguf` and llama.cpp's reference quantise them; see make_gguf.py. */
import assert from "node:assert/strict";
import { quantize } from "../../../../model/formats/gguf/quantize.ts";
import { openSafetensors } from "../../../../model/formats/safetensors.ts";
import { fixturePath } from "../../../fixtures.ts";

const golden = openSafetensors(fixturePath("gguf/quantized.safetensors"));
addEventListener("unload", () => golden.close());

function bytesOf(name: string): Uint8Array<ArrayBuffer> {
  const { begin, end } = golden.tensors.get(name) ?? assert.fail(name);
  const bytes = new Uint8Array(end - begin);
  golden.readSync(name, 0, bytes);
  return bytes;
}

const values = new Float32Array(bytesOf("values").buffer);

for (const [type, bytes] of [["Q8_0", 34], ["Q4_0", 18]] as const) {
  Deno.test(`gguf: ${type} is written to the bit as Python writes it: zeros, ties, the smallest and the largest`, () => {
    const target = new Uint8Array(values.length / 32 * bytes).fill(0xaa);
    assert.equal(quantize(type, values, target), 0);
    assert.deepEqual(target, bytesOf(type));
    const memory = new Uint8Array(bytes + 2);
    quantize(type, values.subarray(64, 96), memory.subarray(2));
    assert.deepEqual(memory.subarray(2), target.subarray(2 * bytes, 3 * bytes));
  });

  Deno.test(`gguf: ${type}: numbers beyond the scales are counted, those below them are none`, () => {
    const large = new Float32Array(96), target = new Uint8Array(3 * bytes);
    large.set([1e8, -1e8], 32);
    large.fill(1e-42, 64);
    assert.equal(quantize(type, large, target), 1);
    const last = target.subarray(2 * bytes);
    assert.deepEqual([last[0], last[1] & 0x7f], [0, 0]);
    assert.equal(new Set(last.subarray(2)).size, 1);
    assert.throws(() => quantize(type, large.subarray(1), target), RangeError);
  });
}
