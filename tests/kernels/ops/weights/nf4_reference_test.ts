/** The reference of nf4 beside what tests/fixtures/make_bnb.py computes, to the bit. */
import assert from "node:assert/strict";
import { DYNAMIC_MAP } from "../../../../kernels/ops/weights/nf4_values.ts";
import { openSafetensors } from "../../../../model/formats/safetensors.ts";
import { fixturePath } from "../../../fixtures.ts";
import { dequantizeNf4, dynamicCode, nf4Planes, quantizeNf4 } from "./nf4_reference.ts";
import { assertSameValues } from "../../../same.ts";

const golden = openSafetensors(fixturePath("bnb/nf4.safetensors"));
addEventListener("unload", () => golden.close());

function bytesOf(name: string): Uint8Array<ArrayBuffer> {
  const { begin, end } = golden.tensors.get(name) ?? assert.fail(name);
  const bytes = new Uint8Array(end - begin);
  golden.readSync(name, 0, bytes);
  return bytes;
}

const floatsOf = (name: string) => new Float32Array(bytesOf(name).buffer);

Deno.test("nf4: the map of nested scales is bitsandbytes' to the bit", () => {
  assertSameValues(DYNAMIC_MAP.slice(), floatsOf("dynamic_map"), "map");
});

Deno.test("nf4: scales on and beside midpoints get bitsandbytes' codes", () => {
  const codes = Uint8Array.from(floatsOf("dynamic.values"), dynamicCode);
  assertSameValues(codes, bytesOf("dynamic.codes"), "codes");
});

for (const name of ["short", "long", "zeros"]) {
  Deno.test(`nf4: codes, scales and values of "${name}" are bitsandbytes' to the bit`, () => {
    const values = floatsOf(`${name}.values`);
    const plain = quantizeNf4(values, { double: false });
    assertSameValues(plain.codes, bytesOf(`${name}.codes`), "codes");
    assertSameValues(plain.absmax, floatsOf(`${name}.absmax`), "absmax");
    assertSameValues(dequantizeNf4(plain), floatsOf(`${name}.plain`), "values");

    const double = quantizeNf4(values, { double: true }), { nested } = double;
    assert.ok(nested !== undefined);
    assertSameValues(double.codes, plain.codes, "codes");
    assertSameValues(nested.codes, bytesOf(`${name}.nested_codes`), "nested codes");
    assertSameValues(nested.absmax, floatsOf(`${name}.nested_absmax`), "nested absmax");
    assert.deepEqual(Float32Array.of(nested.offset), floatsOf(`${name}.offset`));
    assertSameValues(dequantizeNf4(double), floatsOf(`${name}.double`), "nested values");

    const [words, groups] = nf4Planes(double);
    assert.equal(words.length % 4, 0);
    assert.equal(groups.length, 264 * nested.absmax.length);
  });
}
