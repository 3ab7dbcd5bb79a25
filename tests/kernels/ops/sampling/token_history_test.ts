import assert from "node:assert/strict";
import { putTokens, takeTokens } from "../../../../kernels/ops/sampling/token_history.ts";
import { download, gpuTest, poisoned, upload } from "../../harness.ts";

gpuTest("token history: tokens are put into their places and found there", async (gpu) => {
  for (const rows of [1, 7, 257]) {
    const history = poisoned(gpu, "u32", [3 * rows]);
    const token = (i: number) => 1000 + i, place = (i: number) => 3 * (rows - 1 - i) + 1;
    const each = (value: (i: number) => number) => Array.from({ length: rows }, (_, i) => value(i));
    // One more of each, which is not asked for.
    const ids = upload(gpu, [...each(token), 5], "u32", [rows + 1]);
    const places = upload(gpu, [...each(place), 0], "u32", [rows + 1]);
    putTokens(gpu, { ids, places, history, rows });
    const kept = Array.from(await download(gpu, history));
    assert.deepEqual(each((i) => kept[place(i)]), each(token));
    assert.equal(kept.filter((value) => value === 0xffffffff).length, 2 * rows);
    takeTokens(gpu, { ids: places, history, rows });
    assert.deepEqual(Array.from(await download(gpu, places)), [...each(token), 0]);
  }
});
