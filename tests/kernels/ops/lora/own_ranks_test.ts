import assert from "node:assert/strict";
import { keepOwnRanks } from "../../../../kernels/ops/lora/own_ranks.ts";
import { download, gpuTest, randomArray, upload } from "../../harness.ts";

gpuTest("keepOwnRanks leaves each row the ranks of its adapter", async (gpu) => {
  for (const rows of [1, 7, 33, 129]) {
    for (const modules of [1, 3]) {
      // Adapters of 4, 8 and 12 ranks; the last four are nobody's.
      const owners = [4, 8, 12].flatMap((width, i) => Array<number>(width).fill(i + 1));
      owners.push(...Array(4).fill(0xffffffff));
      const rank = owners.length, width = modules * rank;
      const values = randomArray((rows + 1) * width, rows).map(Math.fround);
      // What other adapters make may be no number.
      const adapter = (row: number) => row * 3 % 4;
      const hidden = Array.from(values, (value, i) => {
        const isOwn = owners[i % rank] === adapter(Math.floor(i / width));
        return !isOwn && i % 5 === 0 && i < rows * width ? NaN : value;
      });
      const loraHidden = upload(gpu, hidden, "f32", [rows + 1, width]);
      keepOwnRanks(gpu, {
        loraHidden,
        rows,
        width,
        adapters: upload(gpu, Array.from({ length: rows + 1 }, (_, r) => adapter(r)), "u32", [
          rows + 1,
        ]),
        owners: upload(gpu, owners, "u32", [rank]),
      });
      const expected = hidden.map((value, i) =>
        i >= rows * width || owners[i % rank] === adapter(Math.floor(i / width)) ? value : 0
      );
      assert.deepEqual(Array.from(await download(gpu, loraHidden)), expected);
    }
  }
});
