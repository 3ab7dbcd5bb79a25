/** The reference of nf4 beside what tests/fixtures/make_bnb.py computes, to the bit. */
import assert from "node:assert/strict";
import { DYNAMIC_MAP } from "../../../../kernels/ops/weights/nf4_values.ts";
import { openSafetensors } from "../../../../model/formats/safetensors.ts";
import { fixturePath } from "../../../fixtures.ts";
import { dequantizeNf4, dynamicCode, nf4Planes, quantizeNf4 } from "./nf4_reference.ts";

const golden = openSafetensors(fixturePath("bnb/nf4.safetensors"));
addEventListener("unload", () => golden.close());

function bytesOf(name: string): Uint8Array<ArrayBuffer> {
  const { begin, end } = golden.tensors.get(name) ?? assert.fail(name);
  const bytes = new Uint8Array(end - begin);
  golden.readSync(name, 0, bytes);
  return bytes;
}

const floatsOf = (name: string) => new Float32Array(bytesOf(name).buffer);
const bits = (values: Readonly<Float32Array>) => new Uint32Array(values.slice().buffer);

Deno.test("nf4: the map of nested scales is bitsandbytes' to the bit", () => {
  assert.deepEqual(bits(DYNAMIC_MAP), bits(floatsOf("dynamic_map")));
});

Deno.test("nf4: scales on and beside midpoints get bitsandbytes' codes", () => {
  assert.deepEqual(
    Uint8Array.from(floatsOf("dynamic.values"), dynamicCode),
    bytesOf("dynamic.codes"),
  );
});

for (const name of ["short", "long", "zeros"]) {
  Deno.test(`nf4: codes, scales and values of "${name}" are bitsandbytes' to the bit`, () => {
    const values = floatsOf(`${name}.values`);
    const plain = quantizeNf4(values, { double: false });
    assert.deepEqual(plain.codes, bytesOf(`${name}.codes`));
    assert.deepEqual(bits(plain.absmax), bits(floatsOf(`${name}.absmax`)));
    assert.deepEqual(bits(dequantizeNf4(plain)), bits(floatsOf(`${name}.plain`)));

    const double = quantizeNf4(values, { double: true }), { nested } = double;
    assert.ok(nested !== undefined);
    assert.deepEqual(double.codes, plain.codes);
    assert.deepEqual(nested.codes, bytesOf(`${name}.nested_codes`));
    assert.deepEqual(bits(nested.absmax), bits(floatsOf(`${name}.nested_absmax`)));
    assert.deepEqual(Float32Array.of(nested.offset), floatsOf(`${name}.offset`));
    assert.deepEqual(bits(dequantizeNf4(double)), bits(floatsOf(`${name}.double`)));

    const [words, groups] = nf4Planes(double);
    assert.equal(words.length % 4, 0);
    assert.equal(groups.length, 264 * nested.absmax.length);
  });
}
