import assert from "node:assert/strict";
import {
  embedding,
  embeddingBackward,
  groupTokens,
} from "../../../../kernels/ops/embedding/embedding.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import {
  assertClose,
  AWKWARD4,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  upload,
} from "../../harness.ts";
import { withMaxBinding } from "../../small_binding.ts";

const VOCAB = 257;
/** The first, the last and repeated tokens. */
const IDS = [0, 256, 3, 0, 128, 129, 3, 127, 3, 31, 200];

Deno.test("groupTokens sorts positions by token", () => {
  const groups = groupTokens(Uint32Array.of(5, 2, 5, 9, 2, 5));
  assert.deepEqual([...groups.uniqueIds], [2, 5, 9]);
  assert.deepEqual([...groups.offsets], [0, 2, 5, 6]);
  assert.deepEqual([...groups.positions], [1, 4, 0, 2, 5, 3]);
  const large = groupTokens(Uint32Array.of(0xffffffff, 0, 0x80000000));
  assert.deepEqual([...large.uniqueIds], [0, 0x80000000, 0xffffffff]);
  assert.deepEqual([...groupTokens(new Uint32Array()).offsets], [0]);
});

async function testForward(gpu: Gpu, dtype: Dtype, hidden: number): Promise<void> {
  const values = quantize(randomArray(VOCAB * hidden, hidden), dtype);
  const table = upload(gpu, values, dtype, [VOCAB, hidden]);
  const ids = upload(gpu, IDS, "u32", [IDS.length]);
  const y = poisoned(gpu, "f32", [IDS.length + 1, hidden]);
  embedding(gpu, { table, ids, y, rows: IDS.length });
  const rows = IDS.map((id) => [...values.subarray(id * hidden, (id + 1) * hidden)]);
  const expected = [...rows.flat(), ...Array<number>(hidden).fill(NaN)];
  assert.deepEqual([...await download(gpu, y)], expected);
}

/** dtable's values after a backward pass, having checked them. */
async function testBackward(gpu: Gpu, hidden: number): Promise<Float64Array> {
  const dy = quantize(randomArray(IDS.length * hidden, 7), "f32");
  const before = quantize(randomArray(VOCAB * hidden, 8), "f32");
  const expected = before.slice();
  IDS.forEach((id, t) => {
    for (let i = 0; i < hidden; i++) expected[id * hidden + i] += dy[t * hidden + i];
  });
  const { uniqueIds, offsets, positions } = groupTokens(Uint32Array.from(IDS));
  const dtable = upload(gpu, before, "f32", [VOCAB, hidden]);
  embeddingBackward(gpu, {
    dy: upload(gpu, dy, "f32", [IDS.length, hidden]),
    uniqueIds: upload(gpu, uniqueIds, "u32", [uniqueIds.length]),
    offsets: upload(gpu, offsets, "u32", [offsets.length]),
    positions: upload(gpu, positions, "u32", [positions.length]),
    dtable,
    unique: uniqueIds.length,
  });
  const actual = await download(gpu, dtable);
  assertClose(actual, expected, { atol: 1e-6, rtol: 1e-6, what: "dtable" });
  return actual;
}

for (const dtype of ["f32", "f16"] as Dtype[]) {
  gpuTest(`embedding copies rows (${dtype})`, async (gpu) => {
    for (const hidden of AWKWARD4) await testForward(gpu, dtype, hidden);
  });
}

gpuTest("embeddingBackward adds each position's gradient", async (gpu) => {
  for (const hidden of AWKWARD4) await testBackward(gpu, hidden);
});

gpuTest("embedding works on a table split by the binding limit", async (gpu) => {
  const whole = await testBackward(gpu, 36);
  await withMaxBinding(5000, async (small) => {
    await testForward(small, "f32", 36);
    await testForward(small, "f16", 36);
    assert.deepEqual(await testBackward(small, 36), whole);
  });
});
