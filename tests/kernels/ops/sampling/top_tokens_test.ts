import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { roundUp } from "../../../../kernels/gpu/tensor.ts";
import {
  MOST_TOP_TOKENS,
  NOT_FINITE,
  topTokens,
} from "../../../../kernels/ops/sampling/top_tokens.ts";
import {
  assertClose,
  AWKWARD,
  download,
  gpuTest,
  poisoned,
  randomArray,
  upload,
} from "../../harness.ts";
import { order, processed } from "./sample_reference.ts";

/** Runs it on rows of equal length, padding poisoned, with one row more in memory than used. */
async function top(gpu: Gpu, rows: readonly ArrayLike<number>[], count: number) {
  const vocab = rows[0].length, width = roundUp(vocab, 4), R = rows.length;
  const values = Array.from({ length: (R + 1) * width }, (_, i) => {
    const column = i % width;
    return column < vocab ? rows[Math.floor(i / width)]?.[column] ?? 0 : [NaN, 2 ** 100][i % 2];
  });
  const logits = upload(gpu, values, "f32", [R + 1, width]);
  const columns = count || 1; // a refused count allocates nothing odd
  const ids = poisoned(gpu, "u32", [R + 1, columns]);
  const logprobs = poisoned(gpu, "f32", [R + 1, columns]);
  topTokens(gpu, { logits, vocab, rows: R, count, ids, logprobs });
  const [allIds, allLogprobs] = [await download(gpu, ids), await download(gpu, logprobs)];
  assert.ok(allIds.subarray(R * count).every((id) => id === 0xffffffff), "a row not asked for");
  assert.ok(allLogprobs.subarray(R * count).every(Number.isNaN), "a row not asked for");
  const part = (all: Float64Array, r: number) => all.subarray(r * count, (r + 1) * count);
  return rows.map((_, r) => ({ ids: part(allIds, r), logprobs: part(allLogprobs, r) }));
}

/** The first `count` tokens and their log-probabilities in float64; impossible tokens last. */
function reference(row: ArrayLike<number>, count: number) {
  const x = processed(row), possible = order(x);
  const impossible = [...x.keys()].filter((id) => x[id] === -Infinity);
  const ids = [...possible, ...impossible].slice(0, count), largest = x[possible[0]] ?? 0;
  const logSum = Math.log(possible.reduce((sum, id) => sum + Math.exp(x[id] - largest), 0));
  // A difference beyond f32 is infinite too.
  const logprob = (id: number) => x[id] === -Infinity ? x[id] : x[id] - largest - logSum;
  return { ids, logprobs: ids.map((id) => Math.fround(logprob(id))) };
}

async function check(gpu: Gpu, rows: readonly ArrayLike<number>[], count: number): Promise<void> {
  const found = await top(gpu, rows, count);
  rows.forEach((row, r) => {
    const expected = reference(row, count), finite = Array.from(row, Math.fround);
    if (!finite.every(Number.isFinite)) expected.ids.fill(NOT_FINITE);
    const what = `${count} of ${row.length}, row ${r}`;
    assert.deepEqual([...found[r].ids], expected.ids, what);
    assertClose(found[r].logprobs, expected.logprobs, { atol: 1e-5, rtol: 1e-5, what });
  });
}

gpuTest("topTokens agrees with the reference, with and without ties", async (gpu) => {
  for (const vocab of [...AWKWARD, 2, 5, 64, 65, 1000]) {
    const random = [1, 2].map((seed) => randomArray(vocab, seed, 8));
    const ties = random.map((row) => row.map((v) => Math.round(v * 2) / 2));
    for (const count of [1, 2, 7, MOST_TOP_TOKENS, vocab]) {
      if (count <= Math.min(vocab, MOST_TOP_TOKENS)) {
        await check(gpu, [...random, ...ties], count);
      }
    }
  }
});

gpuTest("topTokens of 32,000 and of equal logits", async (gpu) => {
  await check(gpu, [randomArray(32000, 4, 8), new Float64Array(32000)], 20);
});

gpuTest(
  "topTokens gives NaN and −infinity the log-probability −infinity, and tells of them",
  async (gpu) => {
    const [nan, inf] = [NaN, Infinity];
    await check(gpu, [
      [-inf, 2, nan, -inf, 3, 3, -0, 0],
      [nan, nan, nan, nan, 1, nan, -inf, nan],
      [3e38, -3e38, 1, 2, -inf, nan, 0, 0],
      [5, inf, 5, inf, 0, nan, 0, 0],
      Array(8).fill(-inf),
      Array(8).fill(nan),
    ], 8);
  },
);

gpuTest("topTokens refuses counts it has no room for", async (gpu) => {
  for (const count of [0, 4, NaN]) {
    await assert.rejects(top(gpu, [[1, 2, 3]], count), /top tokens: .* of 1 to 3/);
  }
  await assert.rejects(top(gpu, [new Float64Array(100)], 65), /65 of 1 to 64/);
});
