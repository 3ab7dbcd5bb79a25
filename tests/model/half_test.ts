import assert from "node:assert/strict";
import { toFloat32 } from "../../model/half.ts";

const everyHalf = new Uint8Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer);

Deno.test("toFloat32: every f16 has its IEEE 754 value", () => {
  const values = toFloat32(everyHalf, "F16");
  for (let half = 0; half < 65536; half++) {
    const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 31, fraction = half & 1023;
    const value = exponent === 31
      ? (fraction === 0 ? Infinity : NaN)
      : exponent === 0
      ? fraction * 2 ** -24
      : (1 + fraction / 1024) * 2 ** (exponent - 15);
    assert.ok(Object.is(values[half], sign * value), `f16 ${half.toString(16)}: ${values[half]}`);
  }
});

Deno.test("toFloat32: every bf16 is the upper half of its float32", () => {
  const bits = new Uint32Array(toFloat32(everyHalf, "BF16").buffer);
  for (let half = 0; half < 65536; half++) assert.equal(bits[half], half * 65536);
});

Deno.test("toFloat32: a NaN keeps its sign and payload", () => {
  const bits = new Uint32Array(toFloat32(Uint8Array.of(0x01, 0xfd), "F16").buffer);
  assert.equal(bits[0], 0xffa02000);
});

Deno.test("toFloat32: takes any byte offset and copies", () => {
  const bytes = new Uint8Array(9);
  bytes.set(new Uint8Array(Float32Array.of(1.5, -2).buffer), 1);
  const values = toFloat32(bytes.subarray(1), "F32");
  bytes.fill(0);
  assert.deepEqual([...values], [1.5, -2]);
});

Deno.test("toFloat32: refuses part of an element", () => {
  assert.throws(() => toFloat32(new Uint8Array(3), "BF16"), RangeError);
});
