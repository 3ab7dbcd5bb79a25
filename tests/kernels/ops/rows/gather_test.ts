import assert from "node:assert/strict";
import { gatherRows, scatterRows } from "../../../../kernels/ops/rows/gather.ts";
import {
  AWKWARD4,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  upload,
} from "../../harness.ts";

const TOTAL = 13;
/** One entry more than the `rows` used. */
const INDEX = [0, 2, 3, 7, 12, 5];

gpuTest("gatherRows picks rows and scatterRows puts them back", async (gpu) => {
  const rows = INDEX.length - 1;
  const index = upload(gpu, INDEX, "u32", [INDEX.length]);
  for (const width of AWKWARD4) {
    const x = quantize(randomArray(TOTAL * width, width), "f32");
    const row = (t: number) => x.subarray(t * width, (t + 1) * width);
    const y = poisoned(gpu, "f32", [rows + 1, width]);
    gatherRows(gpu, { x: upload(gpu, x, "f32", [TOTAL, width]), index, y, rows });
    const picked = await download(gpu, y);
    for (let s = 0; s < rows; s++) {
      assert.deepEqual(picked.subarray(s * width, (s + 1) * width), row(INDEX[s]), `row ${s}`);
    }
    assert.ok(picked.subarray(rows * width).every(Number.isNaN));

    const dx = poisoned(gpu, "f32", [TOTAL, width]);
    scatterRows(gpu, { dy: y, index, dx, rows });
    const spread = await download(gpu, dx);
    for (let t = 0; t < TOTAL; t++) {
      const actual = spread.subarray(t * width, (t + 1) * width);
      const s = INDEX.indexOf(t);
      if (s >= 0 && s < rows) assert.deepEqual(actual, row(t), `row ${t}`);
      else assert.ok(actual.every(Number.isNaN), `row ${t} was written`);
    }
  }
});
