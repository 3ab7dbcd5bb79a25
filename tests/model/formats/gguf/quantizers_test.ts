/** Blocks that several threads make are those of one. */
import assert from "node:assert/strict";
import { quantize } from "../../../../model/formats/gguf/quantize.ts";
import { Quantizers } from "../../../../model/formats/gguf/quantizers.ts";
import { storedBytes } from "../../../../model/formats/gguf/tensor_types.ts";
import { assertSameValues } from "../../../same.ts";

Deno.test("gguf: threads quantise to the same blocks, count overflows, and are asked again", async () => {
  const values = Float32Array.from({ length: 7 * 256 }, (_, i) => Math.sin(i * i));
  values.set([1e30], 256);
  values.set([1e30], 6 * 256);
  using quantizers = new Quantizers({ threads: 3, share: 512 });
  for (const type of ["Q4_K", "Q6_K", "Q8_0"] as const) {
    const bytes = storedBytes(type, [values.length]);
    const expected = new Uint8Array(bytes), found = new Uint8Array(bytes);
    assert.equal(quantize(type, values, expected), 2);
    assert.equal(await quantizers.quantize(type, values, found), 2);
    assertSameValues(found, expected, type);
  }
});
