/** Blocks of every type, to the bit as Python's `gguf` dequantises them; see make_gguf.py. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { openGgufFile } from "../../../../model/formats/gguf/header.ts";
import { readDtype, TensorValues } from "../../../../model/formats/gguf/tensor_values.ts";
import { toFloat32 } from "../../../../model/formats/half.ts";
import { Scratch } from "../../../../model/formats/joined.ts";
import { bytesPerElement } from "../../../../model/formats/weights.ts";
import { openSafetensors } from "../../../../model/formats/safetensors.ts";
import { fixturePath } from "../../../fixtures.ts";
import { ggufBytes, TYPE_NUMBERS } from "./gguf_writer.ts";
import { assertSameValues } from "../../../same.ts";

const ELEMENTS = 768;
const golden = openSafetensors(fixturePath("gguf/types.safetensors"));
addEventListener("unload", () => golden.close());

/** A tensor's bytes in the golden file. */
function bytesOf(name: string): Uint8Array {
  const { begin, end } = golden.tensors.get(name) ?? assert.fail(name);
  const bytes = new Uint8Array(end - begin);
  golden.readSync(name, 0, bytes);
  return bytes;
}

/** A file with the blocks of all types, in a matrix of three rows each. */
function writeAll(): string {
  const path = join(Deno.makeTempDirSync(), "types.gguf");
  const tensors = Object.keys(TYPE_NUMBERS).map((type) => ({
    name: type,
    type,
    shape: [3, ELEMENTS / 3],
    data: bytesOf(`${type}.blocks`),
  }));
  Deno.writeFileSync(path, ggufBytes({ metadata: [], tensors }));
  return path;
}

for (const type of Object.keys(TYPE_NUMBERS)) {
  Deno.test(`gguf: ${type} is read to the bit as Python reads it, whole and by parts`, async () => {
    const path = writeAll();
    const { file, tensors } = openGgufFile(path);
    try {
      const place = tensors.get(type) ?? assert.fail(type), dtype = readDtype(place.type);
      const unit = bytesPerElement(dtype), values = new TensorValues(place, new Scratch());
      const all = new Uint8Array(ELEMENTS * unit);
      await values.read(0, all);
      const floats = toFloat32(all, dtype), expected = bytesOf(type);
      assertSameValues(new Uint8Array(floats.buffer), expected, type);
      assert.ok(new Set(floats).size > ELEMENTS / 8, "the numbers are hardly different");
      // Begin, length and place in memory of any kind: within a block, over several, at odd places.
      for (const [begin, count] of [[0, 1], [1, 2], [4, 128], [130, 900], [1020, 8], [512, 513]]) {
        for (const offset of [0, 1, 4]) {
          const memory = new Uint8Array(count + offset + 1).fill(7);
          await values.read(begin, memory.subarray(offset, offset + count));
          assertSameValues(
            memory.slice(offset, offset + count),
            all.slice(begin, begin + count),
            type,
          );
          assert.equal(memory[offset + count], 7);
        }
      }
    } finally {
      file.close();
      Deno.removeSync(dirname(path), { recursive: true });
    }
  });
}
