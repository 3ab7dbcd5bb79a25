import assert from "node:assert/strict";
import { flagNotFinite } from "../../../../kernels/ops/elements/not_finite.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import { AWKWARD, download, gpuTest, poisoned, randomArray, upload } from "../../harness.ts";
import { withMaxBinding } from "../../small_binding.ts";

/** The flags of tensors that have this value at one place each, or nothing unusual. */
async function flagsOf(
  gpu: Gpu,
  dtype: Dtype,
  shape: number[],
  places: (number | undefined)[],
  value: number,
) {
  const flags = upload(gpu, places.map(() => 0), "u32", [places.length]);
  places.forEach((place, slot) => {
    const values = randomArray(shape.reduce((a, b) => a * b), slot, dtype === "f16" ? 65000 : 3e38);
    if (place !== undefined) values[place] = value;
    flagNotFinite(gpu, { x: upload(gpu, values, dtype, shape), flags, slot });
  });
  return Array.from(await download(gpu, flags));
}

gpuTest("what is not finite is flagged at any place of any size, and nothing else", async (gpu) => {
  for (const dtype of ["f32", "f16"] as const) {
    for (const value of [NaN, Infinity, -Infinity]) {
      for (const size of AWKWARD) {
        const places = [0, size - 1, undefined, Math.floor(size / 2)];
        assert.deepEqual(await flagsOf(gpu, dtype, [size], places, value), [1, 1, 0, 1]);
      }
      await withMaxBinding(1024, async (small) => {
        const places = [0, 33 * 36 - 1, 600, undefined];
        assert.deepEqual(await flagsOf(small, dtype, [33, 36], places, value), [1, 1, 1, 0]);
      });
    }
  }
});

gpuTest("what lies behind a tensor's last element is not looked at", async (gpu) => {
  for (const dtype of ["f32", "f16"] as const) {
    const x = poisoned(gpu, dtype, [5]), flags = upload(gpu, [0], "u32", [1]);
    gpu.write(x.view([4]), dtype === "f32" ? new Float32Array(4) : new Uint16Array(4));
    flagNotFinite(gpu, { x: x.view([4]), flags, slot: 0 });
    assert.deepEqual(Array.from(await download(gpu, flags)), [0]);
    flagNotFinite(gpu, { x: x.view([3]), flags, slot: 0 });
    flagNotFinite(gpu, { x, flags, slot: 0 });
    assert.deepEqual(Array.from(await download(gpu, flags)), [1]);
  }
});
