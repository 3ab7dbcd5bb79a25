import assert from "node:assert/strict";
import { scale } from "../../../../kernels/ops/elements/scale.ts";
import { assertClose, download, gpuTest, poisoned, randomArray, upload } from "../../harness.ts";

gpuTest("scale: into another tensor and in place, its first rows alone", async (gpu) => {
  const x = randomArray(3 * 36, 1), X = upload(gpu, x, "f32", [3, 36]);
  const expected = x.map((value) => value * 0.375), rest = expected.subarray(0, 2 * 36);
  const y = poisoned(gpu, "f32", [3, 36]);
  scale(gpu, { x: X, y, factor: 0.375, rows: 2 });
  const actual = await download(gpu, y);
  assertClose(actual.subarray(0, 2 * 36), rest, { atol: 1e-7, rtol: 1e-6 });
  assert.ok(actual.subarray(2 * 36).every(Number.isNaN));
  scale(gpu, { x: X, y: X, factor: 0.375, rows: 2 });
  const inPlace = await download(gpu, X);
  assert.deepEqual(inPlace.subarray(0, 2 * 36), actual.subarray(0, 2 * 36));
  assertClose(inPlace.subarray(2 * 36), x.subarray(2 * 36), { atol: 0, rtol: 1e-7 });
});
