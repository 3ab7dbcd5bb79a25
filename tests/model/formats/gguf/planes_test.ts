/** Blocks as kernels hold them: what kernels read is what the blocks are dequantised to, to the bit. */
import assert from "node:assert/strict";
import { embedding } from "../../../../kernels/ops/embedding/embedding.ts";
import { weightKind } from "../../../../kernels/ops/weights/kinds.ts";
import { makeOperand } from "../../../../kernels/ops/weights/operand.ts";
import { weightShapes } from "../../../../model/families/config.ts";
import { openGguf } from "../../../../model/formats/gguf/weights.ts";
import type { Plane } from "../../../../model/formats/weights.ts";
import { fixturePath } from "../../../fixtures.ts";
import { gpuTest, poisoned, upload } from "../../../kernels/harness.ts";
import { assertSameValues } from "../../../same.ts";

/** Which kind holds a type, where one does. */
const KINDS: Record<string, string> = {
  Q8_0: "int8",
  Q5_0: "int8",
  IQ4_NL: "int8",
  Q4_0: "q4_0",
  Q4_K: "q4_k",
  Q6_K: "q6_k",
};

/** A plane, read whole and by parts of odd sizes at odd places. */
async function planeBytes(plane: Plane): Promise<Uint8Array<ArrayBuffer>> {
  const { bytes } = plane, whole = new Uint8Array(bytes);
  await plane.read(0, whole);
  for (let at = 0, size = 1; at < bytes; at += size, size = size * 3 % 1001 + 1) {
    const length = Math.min(size, bytes - at), part = new Uint8Array(length + 8).fill(7);
    await plane.read(at, part.subarray(at % 5, at % 5 + length));
    assertSameValues(part.slice(at % 5, at % 5 + length), whole.slice(at, at + length), "part");
    assert.equal(part[at % 5 + length], 7);
  }
  await assert.rejects(plane.read(bytes - 3, new Uint8Array(4)), RangeError);
  return whole;
}

for (const file of ["sentencepiece.gguf", "byte_level-00001-of-00003.gguf"]) {
  gpuTest(`gguf: kernels read what the blocks of ${file} hold, to the bit`, async (gpu) => {
    const source = openGguf(fixturePath(`gguf/${file}`)), found = new Set<string>();
    try {
      for (const [name, shape] of weightShapes(source.config)) {
        const quantized = source.quantized(name), { stored = "", bytes } = source.info(name);
        assert.equal(quantized?.kind, shape.length === 2 ? KINDS[stored] : undefined, name);
        if (quantized === undefined) continue;
        found.add(stored);
        const operand = makeOperand(
          weightKind(quantized.kind),
          shape,
          ({ dtype, shape }) => poisoned(gpu, dtype, shape),
        );
        for (const [i, plane] of quantized.planes.entries()) {
          gpu.write(operand.tensors[i], await planeBytes(plane));
        }
        const [rows] = shape, y = poisoned(gpu, "f32", [...shape]);
        const ids = upload(gpu, Array.from({ length: rows }, (_, i) => i), "u32", [rows]);
        embedding(gpu, { table: operand, ids, y, rows });
        const values = new Uint8Array(bytes);
        await source.read(name, 0, values);
        // Zeros of both signs are the same number.
        const numbers = (bytes: ArrayBuffer) => new Float32Array(bytes).map((v) => v + 0);
        assertSameValues(
          numbers(await gpu.read(y)),
          numbers(values.buffer),
          `${name} in ${stored}`,
        );
      }
    } finally {
      source.close();
    }
    const types = file.startsWith("byte") ? ["Q8_0"] : Object.keys(KINDS);
    assert.deepEqual([...found].toSorted(), types.toSorted());
  });
}
