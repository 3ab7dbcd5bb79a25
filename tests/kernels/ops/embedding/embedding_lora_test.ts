import assert from "node:assert/strict";
import {
  embeddingLora,
  embeddingLoraBackward,
} from "../../../../kernels/ops/embedding/embedding_lora.ts";
import { groupTokens } from "../../../../kernels/ops/embedding/embedding.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import type { LoraGroup } from "../../../../kernels/ops/lora/lora.ts";
import {
  assertClose,
  AWKWARD,
  AWKWARD4,
  download,
  gpuTest,
  poisoned,
  quantize,
  random,
  randomArray,
  upload,
} from "../../harness.ts";
import { withMaxBinding } from "../../small_binding.ts";

/** Sizes of one test. */
interface Case {
  rows: number;
  vocabulary: number;
  hidden: number;
  rank: number;
}

const BASE: Case = { rows: 11, vocabulary: 260, hidden: 36, rank: 8 };
const SCALE = 0.75;

/** Both passes against float64; the gradient of A. */
async function test(gpu: Gpu, change: Partial<Case>): Promise<Float64Array> {
  const { rows, vocabulary, hidden, rank } = { ...BASE, ...change }, what = JSON.stringify(change);
  const next = random(6);
  // Repeated tokens, the first and the last among them.
  const tokens = Array.from(
    { length: rows },
    (_, t) => [0, vocabulary - 1, 3][t % 5] ?? Math.floor(Math.abs(next()) * vocabulary),
  );
  const values = (count: number, seed: number) => quantize(randomArray(count, seed), "f32");
  const a = values(rank * vocabulary, 1), b = values(hidden * rank, 2);
  const y = values((rows + 1) * hidden, 3), dy = values(rows * hidden, 4);
  const beforeA = values(rank * vocabulary, 5);
  const loraHidden = new Float64Array(rows * rank), loraHiddenGrad = new Float64Array(rows * rank);
  const expectedY = y.slice(), gradA = beforeA.slice(), gradB = new Float64Array(hidden * rank);
  tokens.forEach((id, t) => {
    for (let k = 0; k < rank; k++) {
      loraHidden[t * rank + k] = a[k * vocabulary + id];
      for (let h = 0; h < hidden; h++) {
        const d = SCALE * dy[t * hidden + h];
        expectedY[t * hidden + h] += SCALE * loraHidden[t * rank + k] * b[h * rank + k];
        loraHiddenGrad[t * rank + k] += d * b[h * rank + k];
        gradB[h * rank + k] += d * loraHidden[t * rank + k];
      }
      gradA[k * vocabulary + id] += loraHiddenGrad[t * rank + k];
    }
  });

  const ids = upload(gpu, tokens, "u32", [rows]), Y = upload(gpu, y, "f32", [rows + 1, hidden]);
  const module = {
    a: upload(gpu, a, "f32", [rank, vocabulary]),
    b: upload(gpu, b, "f32", [hidden, rank]),
    gradA: upload(gpu, beforeA, "f32", [rank, vocabulary]),
    gradB: upload(gpu, new Float64Array(hidden * rank), "f32", [hidden, rank]),
    from: 0,
    subsequence: 0,
    scale: SCALE,
  };
  const group: LoraGroup = { modules: [module], mask: { p: 0, seed: 0, step: 0 } };
  const [L, G] = [1, 2].map(() => poisoned(gpu, "f32", [rows + 1, rank]));
  const limits = { atol: 1e-4, rtol: 1e-4 };
  embeddingLora(gpu, { ids, group, loraHidden: L, y: Y, rows });
  assertClose(await download(gpu, Y), expectedY, { ...limits, what: `${what} y` });
  const beyond = Array<number>(rank).fill(NaN);
  assert.deepEqual([...await download(gpu, L)], [...loraHidden, ...beyond], `${what} loraHidden`);

  const { uniqueIds, offsets, positions } = groupTokens(Uint32Array.from(tokens));
  embeddingLoraBackward(gpu, {
    dy: upload(gpu, dy, "f32", [rows, hidden]),
    group,
    loraHidden: L,
    loraHiddenGrad: G,
    rows,
    uniqueIds: upload(gpu, uniqueIds, "u32", [uniqueIds.length]),
    offsets: upload(gpu, offsets, "u32", [offsets.length]),
    positions: upload(gpu, positions, "u32", [positions.length]),
    unique: uniqueIds.length,
  });
  assertClose(await download(gpu, module.gradB), gradB, { ...limits, what: `${what} gradB` });
  const actual = await download(gpu, module.gradA);
  assertClose(actual, gradA, { ...limits, what: `${what} gradA` });
  return actual;
}

gpuTest("an embedding's adapter agrees with the reference at awkward sizes", async (gpu) => {
  for (const rows of AWKWARD) await test(gpu, { rows });
  for (const hidden of AWKWARD4) await test(gpu, { hidden });
  for (const vocabulary of AWKWARD4) await test(gpu, { vocabulary });
  for (const rank of [4, 12, 64, 256]) await test(gpu, { rank });
});

gpuTest("an embedding's adapter is the same where A is split by the binding limit", async (gpu) => {
  const change = { rank: 20, vocabulary: 256, hidden: 12 };
  const whole = await test(gpu, change);
  await withMaxBinding(12 * 1024, async (small) => {
    assert.deepEqual(await test(small, change), whole);
  });
});

gpuTest("an embedding's adapter is one module from column 0 on", async (gpu) => {
  const [a, b] = [
    upload(gpu, new Float64Array(32), "f32", [4, 8]),
    upload(gpu, new Float64Array(48), "f32", [12, 4]),
  ];
  const [ids, loraHidden, y] = [
    upload(gpu, [1], "u32", [1]),
    poisoned(gpu, "f32", [1, 4]),
    poisoned(gpu, "f32", [1, 12]),
  ];
  const run = (...from: number[]) => {
    const modules = from.map((from) => ({ a, b, from, subsequence: 0, scale: 1 }));
    const group = { modules, mask: { p: 0, seed: 0, step: 0 } };
    embeddingLora(gpu, { ids, group, loraHidden, y, rows: 1 });
  };
  assert.throws(() => run(0, 0), /one adapter/);
  assert.throws(() => run(4), /one adapter/);
  run(0);
  assert.deepEqual(await download(gpu, loraHidden), new Float64Array(4));
});
