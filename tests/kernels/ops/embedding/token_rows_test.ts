import assert from "node:assert/strict";
import { groupTokens } from "../../../../kernels/ops/embedding/embedding.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import {
  putTokenRows,
  takeColumns,
  tokenRowsBackward,
  tokenSlots,
} from "../../../../kernels/ops/embedding/token_rows.ts";
import {
  assertClose,
  AWKWARD,
  AWKWARD4,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  upload,
} from "../../harness.ts";
import { withMaxBinding } from "../../small_binding.ts";
import { assertSameValues } from "../../../same.ts";

const VOCAB = 257;
/** Tokens whose rows are trained, as a file lists them: in no order, the first and the last among them. */
const TRAINED = [128, 0, 256, 3, 31];
/** Delta is stored with rows up to a multiple of four. */
const STORED = 8;

Deno.test("tokenSlots tells every token's row", () => {
  const none = 0xffffffff;
  assert.deepEqual([...tokenSlots(6, [4, 1])], [none, 1, none, none, 0, none]);
});

async function testPut(gpu: Gpu, dtype: Dtype, hidden: number): Promise<void> {
  const values = quantize(randomArray(VOCAB * hidden, 1), dtype);
  const rows = quantize(randomArray(STORED * hidden, 2), "f32");
  const expected = values.slice(), rounded = quantize(rows, dtype);
  TRAINED.forEach((id, j) =>
    expected.set(rounded.subarray(j * hidden, (j + 1) * hidden), id * hidden)
  );
  const table = upload(gpu, values, dtype, [VOCAB, hidden]);
  putTokenRows(gpu, {
    delta: upload(gpu, rows, "f32", [STORED, hidden]),
    indices: upload(gpu, TRAINED, "u32", [TRAINED.length]),
    table,
    count: TRAINED.length,
  });
  assertSameValues(await download(gpu, table), expected, `table in ${dtype}`);
}

for (const dtype of ["f32", "f16"] as Dtype[]) {
  gpuTest(`trained rows take their places in the table (${dtype})`, async (gpu) => {
    for (const hidden of AWKWARD4) await testPut(gpu, dtype, hidden);
    await withMaxBinding(9000, (small) => testPut(small, dtype, 36));
  });
}

gpuTest("trained rows get the gradient of the positions that hold their tokens", async (gpu) => {
  const none = [5, 200, 129];
  for (const rows of AWKWARD) {
    for (const hidden of [4, 132]) {
      const ids = Array.from({ length: rows }, (_, t) => [...TRAINED, ...none][t * 5 % 8]);
      const dy = quantize(randomArray(rows * hidden, 1), "f32");
      const before = quantize(randomArray(STORED * hidden, 2), "f32"), expected = before.slice();
      ids.forEach((id, t) => {
        const j = TRAINED.indexOf(id);
        for (let h = 0; j >= 0 && h < hidden; h++) expected[j * hidden + h] += dy[t * hidden + h];
      });
      const { uniqueIds, offsets, positions } = groupTokens(Uint32Array.from(ids));
      const grad = upload(gpu, before, "f32", [STORED, hidden]);
      tokenRowsBackward(gpu, {
        dy: upload(gpu, dy, "f32", [rows, hidden]),
        grad,
        unique: uniqueIds.length,
        slots: upload(gpu, tokenSlots(VOCAB, TRAINED), "u32", [VOCAB]),
        uniqueIds: upload(gpu, uniqueIds, "u32", [uniqueIds.length]),
        offsets: upload(gpu, offsets, "u32", [offsets.length]),
        positions: upload(gpu, positions, "u32", [positions.length]),
      });
      const limits = { atol: 1e-5, rtol: 1e-5, what: `${rows}×${hidden}` };
      assertClose(await download(gpu, grad), expected, limits);
    }
  }
});

gpuTest("the tokens' columns of the logits' gradient lie side by side", async (gpu) => {
  const stride = 260;
  for (const rows of AWKWARD) {
    for (const count of [1, 4, 5]) {
      const x = quantize(randomArray((rows + 1) * stride, rows), "f32"), width = count > 4 ? 8 : 4;
      const y = poisoned(gpu, "f32", [rows + 1, width]);
      const indices = upload(gpu, TRAINED, "u32", [TRAINED.length]);
      takeColumns(gpu, { x: upload(gpu, x, "f32", [rows + 1, stride]), indices, count, y, rows });
      const expected = Float64Array.from({ length: (rows + 1) * width }, (_, i) => {
        const row = Math.floor(i / width), j = i % width;
        return row === rows ? NaN : j < count ? x[row * stride + TRAINED[j]] : 0;
      });
      assert.deepEqual([...await download(gpu, y)], [...expected]);
    }
  }
});
