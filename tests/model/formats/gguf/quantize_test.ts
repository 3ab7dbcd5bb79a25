/** Numbers as blocks, to the bit as Python's `gguf` and llama.cpp quantise them; see make_gguf.py. */
import assert from "node:assert/strict";
import { quantize } from "../../../../model/formats/gguf/quantize.ts";
import { blockElements, storedBytes } from "../../../../model/formats/gguf/tensor_types.ts";
import { openSafetensors } from "../../../../model/formats/safetensors.ts";
import { fixturePath } from "../../../fixtures.ts";
import { assertSameValues } from "../../../same.ts";

const golden = openSafetensors(fixturePath("gguf/quantized.safetensors"));
addEventListener("unload", () => golden.close());

function bytesOf(name: string): Uint8Array<ArrayBuffer> {
  const { begin, end } = golden.tensors.get(name) ?? assert.fail(name);
  const bytes = new Uint8Array(end - begin);
  golden.readSync(name, 0, bytes);
  return bytes;
}

const KINDS = [
  ["Q8_0", "values"],
  ["Q5_0", "values"],
  ["Q4_0", "values"],
  ["Q6_K", "wide"],
  ["Q5_K", "wide"],
  ["Q4_K", "wide"],
] as const;

for (const [type, name] of KINDS) {
  const values = new Float32Array(bytesOf(name).buffer);
  const elements = blockElements(type), bytes = storedBytes(type, [elements]);

  Deno.test(`gguf: ${type} is written to the bit: zeros, ties, the smallest and the largest`, () => {
    const target = new Uint8Array(values.length / elements * bytes).fill(0xaa);
    assert.equal(quantize(type, values, target), 0);
    assertSameValues(target, bytesOf(type), type);
    const memory = new Uint8Array(bytes + 2);
    quantize(type, values.subarray(2 * elements, 3 * elements), memory.subarray(2));
    assertSameValues(memory.subarray(2), target.subarray(2 * bytes, 3 * bytes), type);
  });

  Deno.test(`gguf: ${type}: numbers beyond the scales are counted, those below them are none`, () => {
    const large = new Float32Array(5 * elements), target = new Uint8Array(5 * bytes).fill(0xaa);
    large.set([1e30, -1e30], elements);
    large.set([3e9], 2 * elements);
    large.fill(-3e9, 3 * elements, 4 * elements);
    large.fill(1e-42, 4 * elements);
    assert.equal(quantize(type, large, target), 3);
    const scale = 4 * bytes + (type === "Q6_K" ? 208 : 0);
    assert.deepEqual([target[scale], target[scale + 1] & 0x7f], [0, 0]);
    assert.throws(() => quantize(type, large.subarray(1), target), RangeError);
  });
}
