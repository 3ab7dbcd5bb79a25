import assert from "node:assert/strict";
import { advance } from "../../../../kernels/ops/sampling/advance.ts";
import { download, gpuTest, poisoned, upload } from "../../harness.ts";

gpuTest("advance: positions, cache rows and visible keys of every sequence", async (gpu) => {
  const before = [0, 6, 7, 8, 9, 3], rows = 5;
  const make = (values: number[]) => upload(gpu, values, "u32", [6]);
  for (const slidingWindow of [null, 4]) {
    const positions = make(before),
      bases = make([0, 10, 20, 30, 40, 50]),
      limits = make(Array(6).fill(9));
    const [starts, ends, cacheRows] = [1, 2, 3].map(() => poisoned(gpu, "u32", [6]));
    advance(gpu, { positions, starts, ends, cacheRows, bases, limits, rows, slidingWindow });
    const values = async (x: typeof starts) => Array.from(await download(gpu, x));
    // A sequence that is full keeps its last place; the sixth is not asked for.
    assert.deepEqual(await values(positions), [1, 7, 8, 8, 8, 3]);
    assert.deepEqual(await values(cacheRows), [1, 17, 28, 38, 48, 0xffffffff]);
    assert.deepEqual(await values(ends), [2, 18, 29, 39, 49, 0xffffffff]);
    const expected = slidingWindow === null ? [0, 10, 20, 30, 40] : [0, 14, 25, 35, 45];
    assert.deepEqual(await values(starts), [...expected, 0xffffffff]);
  }
});
