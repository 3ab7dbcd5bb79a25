import assert from "node:assert/strict";
import type { Gpu } from "../../kernels/gpu.ts";
import { addResidual } from "../../kernels/residual.ts";
import type { Dtype } from "../../kernels/tensor.ts";
import {
  AWKWARD,
  AWKWARD4,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  upload,
} from "./harness.ts";
import { withMaxBinding } from "./small_binding.ts";

async function test(gpu: Gpu, dtype: Dtype, rows: number, width: number) {
  const count = rows * width;
  const x = quantize(randomArray(count, rows), "f32");
  const d = quantize(randomArray(count, width), dtype);
  const y = poisoned(gpu, "f32", [rows + 2, width]);
  addResidual(gpu, {
    x: upload(gpu, x, "f32", [rows, width]),
    d: upload(gpu, d, dtype, [rows, width]),
    y,
    rows,
  });
  const actual = await download(gpu, y);
  // One f32 addition: exact.
  assert.deepEqual(actual.subarray(0, count), x.map((v, i) => Math.fround(v + d[i])));
  assert.ok(actual.subarray(count).every(Number.isNaN));
}

for (const dtype of ["f32", "f16"] as Dtype[]) {
  gpuTest(`addResidual adds (${dtype})`, async (gpu) => {
    for (const width of AWKWARD4) await test(gpu, dtype, 3, width);
    for (const rows of AWKWARD) await test(gpu, dtype, rows, 8);
    await withMaxBinding(1024, (small) => test(small, dtype, 31, 36));
  });
}
