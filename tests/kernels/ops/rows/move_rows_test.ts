import assert from "node:assert/strict";
import { moveRows } from "../../../../kernels/ops/rows/move_rows.ts";
import { download, gpuTest, quantize, randomArray, upload } from "../../harness.ts";

const WIDTH = 28, CAPACITY = 600;

gpuTest("rows are moved inside a cache, forward and backward", async (gpu) => {
  for (const dtype of ["f32", "f16"] as const) {
    for (const [from, to, rows] of [[0, 257, 257], [300, 3, 129], [7, 8, 1], [5, 2, 3]]) {
      const values = quantize(randomArray(CAPACITY * WIDTH, rows), dtype);
      const x = upload(gpu, values, dtype, [CAPACITY, WIDTH]);
      moveRows(gpu, { x, from, to, rows });
      values.copyWithin(to * WIDTH, from * WIDTH, (from + rows) * WIDTH);
      const moved = await download(gpu, x);
      assert.equal(moved.findIndex((v, i) => v !== values[i]), -1, `${from} to ${to}`);
    }
  }
  const x = upload(gpu, new Float64Array(56), "f32", [2, WIDTH]);
  assert.throws(() => moveRows(gpu, { x, from: 0, to: 1, rows: 2 }), /can't be copied/);
  assert.throws(() => moveRows(gpu, { x, from: 0, to: 2, rows: 1 }), /can't be copied/);
});
