import assert from "node:assert/strict";
import { bindableSlices, elementGrid, sliceElements } from "../../../kernels/gpu/elementwise.ts";
import { fillConstant } from "../../../kernels/ops/elements/random.ts";
import { type Dtype, Tensor } from "../../../kernels/gpu/tensor.ts";
import { AWKWARD, download, gpuTest, poisoned } from "../harness.ts";

Deno.test("elementGrid covers every vector within the limit of a dimension", () => {
  assert.deepEqual(elementGrid(0), [0, 1]);
  assert.deepEqual(elementGrid(256), [1, 1]);
  assert.deepEqual(elementGrid(257), [2, 1]);
  assert.deepEqual(elementGrid(65535 * 256), [65535, 1]);
  assert.deepEqual(elementGrid(65535 * 256 + 1), [32768, 2]);
  for (const vectors of [...AWKWARD, 65535 * 512 + 1, 2 ** 26, 2 ** 28 - 1]) {
    const [x, y] = elementGrid(vectors);
    const groups = Math.ceil(vectors / 256);
    assert.ok(x <= 65535 && y <= 65535 && x * y >= groups && x * y < groups + y);
  }
});

Deno.test("bindableSlices covers tensors of several dtypes once, within the limit", () => {
  const planned = (dtype: Dtype, ...shape: number[]) => new Tensor("t", dtype, shape, undefined);
  const tensors = [planned("f32", 37, 52), planned("f16", 50, 52)];
  const size = 36 * 52 - 3 * 4, maxBinding = 1500;
  const slices = bindableSlices({ maxBinding }, tensors, size);
  assert.ok(slices.length > 3);
  let next = 0;
  for (const slice of slices) {
    assert.equal(slice.first, next);
    next += slice.vectors;
    slice.tensors.forEach((view, i) => {
      assert.equal(view.dtype, tensors[i].dtype);
      assert.equal(view.offset, slice.first * (i === 0 ? 16 : 8));
      assert.ok(view.bytes <= maxBinding && view.size >= slice.vectors * 4);
    });
  }
  assert.equal(next, size / 4);
  const again = bindableSlices({ maxBinding }, tensors, 52);
  assert.equal(again[0].tensors[1], slices[0].tensors[1], "views are the same objects every time");
});

Deno.test("bindableSlices leaves tensors that fit alone and refuses impossible requests", () => {
  const tensor = new Tensor("t", "f32", [7], undefined);
  const [slice, ...others] = bindableSlices({ maxBinding: 1024 }, [tensor], 7);
  assert.equal(slice.tensors[0], tensor);
  assert.deepEqual([slice.first, slice.vectors, others.length], [0, 2, 0]);
  assert.throws(() => bindableSlices({ maxBinding: 1024 }, [tensor], 8), /t holds 7 elements of 8/);
  assert.throws(() => sliceElements(["f16", "f32"], 511), /too small/);
  assert.equal(sliceElements(["f16"], 511), 128);
});

gpuTest("a two-dimensional grid reaches every vector once and none beyond", async (gpu) => {
  // 65,536 workgroups, which is the first count that needs two dimensions.
  const rows = 131072, width = 512;
  const whole = gpu.memory.tensor("workspace", "large", "f16", [rows, width]);
  fillConstant(gpu, { y: whole.rows(0, rows - 1), value: 1 });
  for (const row of [0, rows / 2 - 1, rows / 2, rows - 2]) {
    assert.ok((await download(gpu, whole.rows(row, 1))).every((v) => v === 1), `row ${row}`);
  }
  assert.ok((await download(gpu, whole.rows(rows - 1, 1))).every((v) => v === 0));
  gpu.free(whole);
});

gpuTest("an empty launch leaves its output alone", async (gpu) => {
  const y = poisoned(gpu, "f32", [4]);
  fillConstant(gpu, { y: new Tensor("empty", "f32", [0], y.buffer), value: 1 });
  assert.ok((await download(gpu, y)).every(Number.isNaN));
});
