import assert from "node:assert/strict";
import { clipStarts } from "../../../../kernels/ops/rows/clip_starts.ts";
import { gpuTest } from "../../harness.ts";

gpuTest("clipStarts: a window's first key, where the range has one before it", async (gpu) => {
  const tensor = () => gpu.memory.tensor("workspace", "u32", "u32", [5]);
  const [starts, ends, clipped] = [tensor(), tensor(), tensor()];
  gpu.write(starts, Uint32Array.of(0, 0, 4, 10, 3));
  gpu.write(ends, Uint32Array.of(1, 7, 9, 12, 90));
  gpu.write(clipped, new Uint32Array(5).fill(77));
  clipStarts(gpu, { starts, ends, clipped, rows: 4, slidingWindow: 3 });
  const values = Array.from(new Uint32Array(await gpu.read(clipped)).subarray(0, 5));
  assert.deepEqual(values, [0, 4, 6, 10, 77]);
});
