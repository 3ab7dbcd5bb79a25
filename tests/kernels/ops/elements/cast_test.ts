import assert from "node:assert/strict";
import { cast, castBytes, type RawDtype } from "../../../../kernels/ops/elements/cast.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import { float16ToFloat32 } from "../../half_reference.ts";
import {
  assertClose,
  AWKWARD,
  AWKWARD4,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  upload,
} from "../../harness.ts";
import { withMaxBinding } from "../../small_binding.ts";

/** Fails at the first difference; a deepEqual of 65,536 elements takes minutes to print its diff. */
const EXACT = { atol: 0, rtol: 0 };

async function testCast(gpu: Gpu, from: Dtype, to: Dtype, shape: number[]) {
  const count = shape.reduce((a, b) => a * b);
  const values = quantize(randomArray(count, count, 100), from);
  const y = poisoned(gpu, to, shape);
  cast(gpu, { x: upload(gpu, values, from, shape), y });
  assertClose(await download(gpu, y), quantize(values, to), EXACT);
}

gpuTest("cast rounds to nearest, split or not", async (gpu) => {
  for (const [from, to] of [["f32", "f16"], ["f16", "f32"], ["f32", "f32"]] as [Dtype, Dtype][]) {
    for (const width of AWKWARD4) await testCast(gpu, from, to, [7, width]);
    await withMaxBinding(1024, (small) => testCast(small, from, to, [33, 36]));
  }
});

gpuTest("cast leaves rows alone that it is not asked for", async (gpu) => {
  const values = randomArray(5 * 36, 1), x = upload(gpu, values, "f32", [5, 36]);
  const y = poisoned(gpu, "f16", [5, 36]);
  cast(gpu, { x, y, rows: 3 });
  const result = await download(gpu, y);
  assertClose(result.slice(0, 3 * 36), quantize(values.slice(0, 3 * 36), "f16"), EXACT);
  assert.ok(result.slice(3 * 36).every(Number.isNaN));
});

gpuTest("halves overflow to infinity, and keep NaN, subnormals and ties to even", async (gpu) => {
  const x = [
    65504,
    65519.99,
    65520,
    -65520,
    1e38,
    -1e38,
    Infinity,
    -Infinity,
    NaN,
    2 ** -24,
    2 ** -25,
  ];
  x.push(1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -11 + 2 ** -20, 2 ** -14 - 2 ** -26, -0);
  const y = poisoned(gpu, "f16", [x.length]);
  cast(gpu, { x: upload(gpu, x, "f32", [x.length]), y });
  const expected = [65504, 65504, Infinity, -Infinity, Infinity, -Infinity, Infinity, -Infinity];
  expected.push(NaN, 2 ** -24, 0, 1, 1 + 2 ** -9, 1 + 2 ** -10, 2 ** -14, -0);
  assert.deepEqual([...await download(gpu, y)], expected);
});

/** What the bits of an element mean. */
const MEANING: Record<"F16" | "BF16", (bits: number) => number> = {
  F16: float16ToFloat32,
  BF16: (bits) => new Float32Array(Uint32Array.of(bits << 16).buffer)[0],
};

for (const from of ["F16", "BF16"] as const) {
  gpuTest(`castBytes reads every ${from} there is`, async (gpu) => {
    const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const expected = Array.from(patterns, MEANING[from]);
    const words = upload(gpu, new Uint32Array(patterns.buffer), "u32", [32768]);
    for (const dtype of ["f32", "f16"] as Dtype[]) {
      const y = poisoned(gpu, dtype, [65536]);
      castBytes(gpu, { words, from, y, count: 65536 });
      assertClose(await download(gpu, y), quantize(expected, dtype), EXACT);
    }
  });
}

gpuTest("castBytes reads any count and clears the rest of the last four", async (gpu) => {
  for (const count of [...AWKWARD, 2, 3, 256]) {
    const values = quantize(randomArray(count, count, 10), "f16");
    const floats = Float32Array.from(values);
    const raw: Record<RawDtype, Uint8Array> = {
      F32: new Uint8Array(floats.buffer),
      F16: new Uint8Array(Float16Array.from(values).buffer),
      BF16: new Uint8Array(
        Uint16Array.from(new Uint32Array(floats.buffer), (bits) => bits >>> 16).buffer,
      ),
    };
    for (const from of ["F32", "F16", "BF16"] as const) {
      const bytes = new Uint8Array(Math.ceil(raw[from].length / 4) * 4 + 16).fill(0xff);
      bytes.set(raw[from]);
      const words = upload(gpu, new Uint32Array(bytes.buffer), "u32", [bytes.length / 4]);
      const expected = from === "BF16"
        ? Array.from(new Uint16Array(raw.BF16.buffer), MEANING.BF16)
        : [...values];
      for (const dtype of ["f32", "f16"] as Dtype[]) {
        const y = poisoned(gpu, dtype, [Math.ceil(count / 4) * 4 + 4]);
        castBytes(gpu, { words, from, y, count });
        const rest = Math.ceil(count / 4) * 4 - count;
        const after = [...Array<number>(rest).fill(0), NaN, NaN, NaN, NaN];
        const actual = await download(gpu, y);
        assert.deepEqual([...actual], [...quantize(expected, dtype), ...after]);
      }
    }
  }
});
