/** The engine's half precision, which tests convert arrays with, against arithmetic. */
import assert from "node:assert/strict";
import { float16ToFloat32, float32ToFloat16 } from "./half_reference.ts";

Deno.test("Float16Array widens every half to its value and narrows it back", () => {
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i),
    halves = new Float16Array(bits.buffer);
  const back = new Uint16Array(Float16Array.from(halves).buffer);
  for (let i = 0; i < bits.length; i++) {
    const value = float16ToFloat32(i);
    if (!Object.is(halves[i], value)) {
      assert.fail(`${i.toString(16)} is ${halves[i]}, not ${value}`);
    }
    if (Number.isNaN(value)) assert.ok(Number.isNaN(float16ToFloat32(back[i])));
    else assert.equal(back[i], i);
  }
});

Deno.test("Float16Array narrows to the nearest half, ties to even", () => {
  const narrow = new Float16Array(1), bits = new Uint16Array(narrow.buffer);
  for (let i = 0; i < 0x7c00; i++) {
    // Each half and the next, a tie between them, and a little to both sides of it.
    const half = float16ToFloat32(i), tie = half + (float16ToFloat32(i + 1) - half) / 2;
    for (const value of [half, tie, tie * (1 - 1e-9), tie * (1 + 1e-9)]) {
      if (!Number.isFinite(value)) continue;
      narrow[0] = -value;
      if (bits[0] !== float32ToFloat16(-value)) assert.fail(`${-value} became ${narrow[0]}`);
    }
  }
  for (const value of [65504, 65519.99, 65520, 1e9, Infinity, NaN]) {
    narrow[0] = value;
    assert.equal(bits[0], float32ToFloat16(value), `${value}`);
  }
});
