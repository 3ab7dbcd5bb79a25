/**
 * Which tokens top-k, top-p and min-p leave, and what is done with logits that are not finite: tests that
 * sample_test.ts registers, as they run on its programs.
 */
import assert from "node:assert/strict";
import type { Sampling } from "../../../../kernels/ops/sampling/sample.ts";
import { AWKWARD, gpuTest } from "../../harness.ts";
import { keptTokens, minPFor, PLAIN, processed, topPFor } from "./sample_reference.ts";
import { choose, logitsOf } from "./sample_run.ts";

/** Fails at the first difference, where a whole vocabulary in a message would be too long. */
function assertSame(actual: readonly number[], expected: readonly number[], what: string): void {
  const sorted = expected.toSorted((a, b) => a - b);
  const i = sorted.findIndex((id, i) => id !== actual[i]);
  assert.ok(i < 0 && actual.length === sorted.length, `${what}: token ${i} of ${sorted.length}`);
}

for (const step of [0, 0.5]) {
  const name = step === 0 ? "" : ", with ties at the threshold";
  gpuTest(`sample: top-k, top-p and min-p keep exactly the right tokens${name}`, async (gpu) => {
    for (const vocab of [...AWKWARD, 2, 3, 5, 1000]) {
      const rows = [1, 2, 3].map((seed) => logitsOf(vocab, seed * 1000 + vocab, step));
      const x = rows.map((row) => processed(row));
      const few = Math.min(vocab, 3), many = Math.ceil(vocab * 0.4);
      const cases: ((x: Float64Array) => Partial<Sampling>)[] = [
        () => ({ top_k: 1 }),
        () => ({ top_k: few }),
        () => ({ top_k: many }),
        () => ({ top_k: vocab }),
        () => ({ top_k: vocab + 7 }),
      ];
      const allRows = cases.map((options) => options(x[0]));
      // top_p and min_p that leave no doubt are sampled for one row.
      const temperature = 1.5, base = { ...PLAIN, temperature };
      const oneRow: Partial<Sampling>[] = [
        ...[1, few, many].map((n) => ({ temperature, top_p: topPFor(x[0], base, n) })),
        ...[1, few, many].map((n) => ({ temperature, min_p: minPFor(x[0], base, n) })),
        { temperature, top_k: many, top_p: topPFor(x[0], { ...base, top_k: many }, few) },
        {
          temperature,
          top_k: many,
          top_p: topPFor(x[0], { ...base, top_k: many }, many),
          min_p: minPFor(x[0], base, few),
        },
        // All of what top-k keeps.
        { temperature, top_k: many, top_p: topPFor(x[0], { ...base, top_k: many }, many) },
        { temperature, top_p: 0 },
        { temperature, min_p: 1 },
        { temperature, top_p: 1, min_p: 0 },
      ];
      for (const [options, used] of [[allRows, rows], [oneRow, rows.slice(0, 1)]] as const) {
        for (const option of options) {
          const { kept, tokens } = await choose(gpu, used, option, { mask: true });
          for (const [r] of used.entries()) {
            const what = `${vocab} tokens, ${JSON.stringify(option)}, row ${r}`;
            assertSame(kept[r], keptTokens(x[r], { ...PLAIN, ...option }), what);
            assert.ok(kept[r].includes(tokens[r]), `${what}: drew ${tokens[r]}`);
          }
        }
      }
    }
  });
}

gpuTest("sample keeps the right tokens of 32,000", async (gpu) => {
  const vocab = 32000, temperature = 0.8;
  for (const step of [0, 2 ** -6]) {
    const row = logitsOf(vocab, 5, step), x = processed(row);
    for (const top_k of [40, 20000, 0]) {
      const limited = { ...PLAIN, temperature, top_k };
      for (const n of [0, 1, 30, 2000]) {
        if (n > 0 && top_k > 0 && n >= top_k) continue;
        const options = { ...limited, top_p: n === 0 ? 1 : topPFor(x, limited, n) };
        const { kept } = await choose(gpu, [row], options, { mask: true });
        assertSame(kept[0], keptTokens(x, options), `step ${step}, top-k ${top_k}, first ${n}`);
      }
    }
  }
});

gpuTest("sample: equal logits count from the lowest id on", async (gpu) => {
  const range = (n: number) => Array.from({ length: n }, (_, id) => id);
  for (const vocab of [8, 256, 257, 300, 70000]) {
    // 0 and −0 are equal.
    const row = range(vocab).map((id) => id % 3 === 0 ? -0 : 0);
    for (const top_k of [1, 7, 255, 256, 257, 65537].filter((k) => k < vocab)) {
      const { kept } = await choose(gpu, [row], { top_k }, { mask: true });
      assertSame(kept[0], range(top_k), `top ${top_k} of ${vocab}`);
    }
    // Half of the probability is reached exactly.
    const half = await choose(gpu, [row], { top_p: 0.5 }, { mask: true });
    assertSame(half.kept[0], range(Math.ceil(vocab / 2)), `half of ${vocab}`);
    const greedy = await choose(gpu, [row], { temperature: 0 });
    assert.equal(greedy.tokens[0], 0);
  }
});

gpuTest("sample: NaN and −infinity are never chosen unless nothing else is left", async (gpu) => {
  const [nan, inf] = [NaN, Infinity];
  const cases: { row: number[]; kept: number[]; greedy: number }[] = [
    { row: [nan, 1, 2, -inf, 0], kept: [1, 2, 4], greedy: 2 },
    { row: [-inf, -inf, -3e38, -inf, nan], kept: [2], greedy: 2 },
    { row: [1, inf, 3e38, inf, nan], kept: [1, 3], greedy: 1 },
    { row: [-inf, -inf, -inf, -inf, -inf], kept: [], greedy: 0 },
    { row: [nan, nan, nan, nan, nan], kept: [], greedy: 0 },
    { row: [3e38, -3e38, 0, 0, 0], kept: [0], greedy: 0 },
  ];
  const rows = cases.map(({ row }) => row);
  const variants: Partial<Sampling>[] = [
    {},
    { top_k: 4 },
    { top_p: 0.9999 },
    { top_k: 4, top_p: 0.9999 },
    { min_p: 1e-3 },
    { temperature: 1e-30 },
    { temperature: 1e-300 },
  ];
  for (const options of variants) {
    const { tokens } = await choose(gpu, rows, options, { count: 96 });
    tokens.forEach((token, r) => {
      const { row, kept } = cases[r % cases.length];
      const right = kept.length === 0 ? token === 0 : kept.includes(token);
      assert.ok(right, `${row} with ${JSON.stringify(options)}: ${token}`);
    });
  }
  const { tokens } = await choose(gpu, rows, { temperature: 0 });
  assert.deepEqual([...tokens], cases.map(({ greedy }) => greedy));
  // However hot, what is impossible stays so, and what is possible doesn't.
  const hot = await choose(gpu, rows, { temperature: 1e38 }, { count: 600 });
  const drawn = new Set(hot.tokens.filter((_, r) => r % cases.length === 0));
  assert.deepEqual([...drawn].toSorted(), cases[0].kept);
});
