import assert from "node:assert/strict";
import { appendRows, moveRows } from "../../kernels/cache_rows.ts";
import { AWKWARD, download, gpuTest, quantize, randomArray, upload } from "./harness.ts";

const WIDTH = 28, CAPACITY = 600;

for (const [dtype, cacheDtype] of [["f32", "f32"], ["f16", "f16"], ["f32", "f16"]] as const) {
  gpuTest(
    `rows are appended to a cache where the index says (${dtype} to ${cacheDtype})`,
    async (gpu) => {
      for (const rows of AWKWARD) {
        const make = (seed: number) => quantize(randomArray(rows * WIDTH, seed), dtype);
        const cached = (seed: number) => quantize(randomArray(CAPACITY * WIDTH, seed), cacheDtype);
        const [k, v, cachedK, cachedV] = [make(rows), make(rows + 1), cached(1), cached(2)];
        // Every other row, from the end on.
        const index = Uint32Array.from({ length: rows }, (_, t) => CAPACITY - 1 - 2 * t);
        const K = upload(gpu, cachedK, cacheDtype, [CAPACITY, WIDTH]);
        const V = upload(gpu, cachedV, cacheDtype, [CAPACITY, WIDTH]);
        appendRows(gpu, {
          k: upload(gpu, k, dtype, [rows, WIDTH]),
          v: upload(gpu, v, dtype, [rows, WIDTH]),
          cachedK: K,
          cachedV: V,
          index: upload(gpu, index, "u32", [rows]),
          rows,
        });
        for (const [x, expected, tensor] of [[k, cachedK, K], [v, cachedV, V]] as const) {
          for (let t = 0; t < rows; t++) {
            const row = quantize(x.subarray(t * WIDTH, (t + 1) * WIDTH), cacheDtype);
            expected.set(row, index[t] * WIDTH);
          }
          const actual = await download(gpu, tensor);
          assert.equal(actual.findIndex((y, i) => y !== expected[i]), -1, `${rows} rows`);
        }
      }
    },
  );
}

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
