import assert from "node:assert/strict";
import { softcap } from "../../../../kernels/ops/elements/softcap.ts";
import { assertClose, download, gpuTest, quantize, randomArray, upload } from "../../harness.ts";

gpuTest("softcap: small values as exact as large ones, the first rows alone", async (gpu) => {
  const sizes = [0, 1e-30, 1e-6, 1e-3, 0.1, 7.4, 7.5, 7.6, 30, 100, 1e4, 3e38];
  const extremes = [...sizes, ...sizes.map((value) => -value), Infinity, -Infinity, NaN, 1];
  for (const cap of [30, 0.5]) {
    const y = quantize([...extremes, ...randomArray(28, 1, 90), ...randomArray(28, 2)], "f32");
    const Y = upload(gpu, y, "f32", [3, 28]);
    softcap(gpu, { y: Y, cap, rows: 2 });
    const actual = await download(gpu, Y);
    const expected = y.subarray(0, 56).map((value) => cap * Math.tanh(value / cap));
    const limits = { atol: 0, rtol: 1e-6, what: `cap ${cap}` };
    assertClose(actual.subarray(0, 56).map((v) => v + 0), expected.map((v) => v + 0), limits);
    assert.deepEqual(actual.subarray(56), y.subarray(56));
  }
});
