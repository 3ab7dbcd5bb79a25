import assert from "node:assert/strict";
import { embedding } from "../../../../kernels/ops/embedding/embedding.ts";
import { encoderOf } from "../../../../kernels/ops/weights/operand.ts";
import { download, gpuTest, poisoned, upload } from "../../harness.ts";
import { KEPT, kept } from "./kept.ts";
import { assertSameValues } from "../../../same.ts";

for (const name of KEPT) {
  gpuTest(`${name}: values are read to the bit, rows in any order`, async (gpu) => {
    const rows = 12, columns = 256, { operand, values } = kept(gpu, name, [rows, columns]);
    const order = [7, 0, 11, 3];
    const y = poisoned(gpu, "f32", [order.length, columns]);
    embedding(gpu, { table: operand, ids: upload(gpu, order, "u32", [4]), y, rows: order.length });
    const expected = order.flatMap((
      row,
    ) => [...values.subarray(row * columns, (row + 1) * columns)]);
    // Zeros of both signs are the same number.
    const found = (await download(gpu, y)).map((v) => v + 0);
    assertSameValues(found, Float64Array.from(expected, (v) => v + 0), name);
  });

  gpuTest(
    `${name}: scales that are no finite numbers are flagged, and values can't become it`,
    async (gpu) => {
      for (const [bad, flag] of [[1, 0], [NaN, 1], [-Infinity, 1]]) {
        const { operand } = kept(gpu, name, [4, 256], bad);
        const flags = upload(gpu, [7, 0, 0, 0], "u32", [4]);
        operand.kind.flagNotFinite(gpu, operand.tensors, { flags, slot: 1 });
        assert.deepEqual([...await download(gpu, flags)], [7, flag, 0, 0], `${bad}`);
        assert.throws(() => encoderOf(operand), /which values can't become/);
      }
    },
  );
}
