import assert from "node:assert/strict";
import { fromFloat32, toFloat32 } from "../../../model/formats/half.ts";
import { float32ToFloat16 } from "../../kernels/half_reference.ts";
import { random } from "../../kernels/harness.ts";

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

/** The bits that `fromFloat32` gives, and how many numbers overflowed. */
function narrow(values: Float32Array, dtype: "F16" | "BF16"): [Uint16Array, number] {
  const target = new Uint8Array(2 * values.length);
  const overflows = fromFloat32(values, dtype, target);
  return [new Uint16Array(target.buffer), overflows];
}

/** Float32 numbers of every exponent and both signs, with random fractions. */
function everyExponent(): Float32Array {
  const bits = new Uint32Array(512 * 64), next = random(7);
  for (let i = 0; i < bits.length; i++) bits[i] = (i << 17) | ((next() + 1) * 2 ** 22);
  return new Float32Array(bits.buffer);
}

Deno.test("fromFloat32: undoes toFloat32, for every f16 and bf16", () => {
  for (const [dtype, infinity] of [["F16", 0x7c00], ["BF16", 0x7f80]] as const) {
    const [halves, overflows] = narrow(toFloat32(everyHalf, dtype), dtype);
    assert.equal(overflows, 0, "an infinity in the file is none that rounding made");
    for (let half = 0; half < 65536; half++) {
      const what = `${dtype} ${half.toString(16)}`;
      // A NaN becomes any NaN.
      if ((half & 0x7fff) > infinity) assert.ok((halves[half] & 0x7fff) > infinity, what);
      else assert.equal(halves[half], half, what);
    }
  }
});

Deno.test("fromFloat32: f16 rounds as arithmetic does, ties to even", () => {
  const exact = toFloat32(everyHalf, "F16");
  const finite = [...exact].filter(Number.isFinite).sort((a, b) => a - b);
  // Float32 holds the middle of two neighbours, and the numbers on both sides of it.
  const middles = finite.slice(1).map((value, i) => (value + finite[i]) / 2);
  const beside = (value: number, step: number) => {
    const bits = new Int32Array(Float32Array.of(value).buffer);
    bits[0] += step;
    return new Float32Array(bits.buffer)[0];
  };
  const hard = middles.flatMap((middle) => [beside(middle, -1), middle, beside(middle, 1)]);
  const values = Float32Array.from([...hard, ...everyExponent(), 65519.99, 65520, -65520, 1e30]);
  const [halves, overflows] = narrow(values, "F16");
  let expectedOverflows = 0;
  for (const [i, value] of values.entries()) {
    const expected = float32ToFloat16(value);
    if (Number.isNaN(value)) assert.ok((halves[i] & 0x7fff) > 0x7c00, `${value}`);
    else assert.equal(halves[i], expected, `${value}`);
    if (Number.isFinite(value) && (expected & 0x7fff) === 0x7c00) expectedOverflows++;
  }
  assert.ok(expectedOverflows >= 3);
  assert.equal(overflows, expectedOverflows);
});

Deno.test("fromFloat32: bf16 rounds to the nearer neighbour, ties to even", () => {
  const values = everyExponent(), bits = new Uint32Array(values.buffer);
  for (let i = 0; i < bits.length; i += 3) bits[i] = (bits[i] & 0xffff0000) | 0x8000; // ties
  const [halves, overflows] = narrow(values, "BF16");
  const of = (half: number) => new Float32Array(Uint32Array.of(half << 16).buffer)[0];
  let expectedOverflows = 0;
  for (const [i, value] of values.entries()) {
    const got = halves[i], below = bits[i] >>> 16;
    if (Number.isNaN(value)) {
      assert.ok(Number.isNaN(of(got)), `${value}`);
      continue;
    }
    assert.ok(got === below || got === below + 1, `${value}`);
    const [down, up] = [bits[i] & 0xffff, 0x10000 - (bits[i] & 0xffff)];
    if (down !== up) assert.equal(got, down < up ? below : below + 1, `${value}`);
    else assert.equal(got % 2, 0, `${value}`);
    if (Number.isFinite(value) && !Number.isFinite(of(got))) expectedOverflows++;
  }
  assert.ok(expectedOverflows > 0);
  assert.equal(overflows, expectedOverflows);
});

Deno.test("fromFloat32: F32 is copied, and a target of another size refused", () => {
  const target = new Uint8Array(8);
  assert.equal(fromFloat32(Float32Array.of(1.5, NaN), "F32", target), 0);
  assert.deepEqual([...new Float32Array(target.buffer)], [1.5, NaN]);
  assert.throws(() => fromFloat32(new Float32Array(2), "F16", target), RangeError);
});
