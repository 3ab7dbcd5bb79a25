import assert from "node:assert/strict";
import { copyRows } from "../../kernels/copy_rows.ts";
import { AWKWARD, download, gpuTest, quantize, randomArray, upload } from "./harness.ts";

for (const dtype of ["f32", "f16"] as const) {
  gpuTest(`rows are copied to their place and to no other (${dtype})`, async (gpu) => {
    const width = 28, capacity = 300;
    for (const rows of AWKWARD) {
      const at = capacity - rows - 3;
      const x = quantize(randomArray(rows * width, rows), dtype);
      const y = quantize(randomArray(capacity * width, 1), dtype);
      const X = upload(gpu, x, dtype, [rows, width]), Y = upload(gpu, y, dtype, [capacity, width]);
      copyRows(gpu, { x: X, y: Y, rows, at });
      y.set(x, at * width);
      const copied = await download(gpu, Y);
      assert.equal(copied.findIndex((v, i) => v !== y[i]), -1, `${rows} rows`);
    }
    const x = upload(gpu, new Float64Array(56), dtype, [2, width]);
    assert.throws(() => copyRows(gpu, { x, y: x, rows: 2, at: 1 }), /exceed its shape/);
  });
}
