/** Which token is drawn, by statistics and by the exact reference; sequences in a batch. */
import assert from "node:assert/strict";
import {
  sample,
  type Sampling,
  type SamplingSteps,
  samplingSteps,
} from "../../../../kernels/ops/sampling/sample.ts";
import { AWKWARD, download, gpuTest, poisoned, upload } from "../../harness.ts";
import { withHardwarePrograms } from "../../hardware_programs.ts";
import {
  chiSquaredDeviate,
  distribution,
  draw,
  order,
  PLAIN,
  processed,
} from "./sample_reference.ts";
import "./sample_filters.ts";
import { choose, logitsOf, REJECTED, SEED, settingsOf, stored } from "./sample_run.ts";

gpuTest(
  "sample: one logit that is not finite is told, wherever it is",
  (gpu) =>
    withHardwarePrograms(gpu, async (gpu) => {
      for (const vocab of [...AWKWARD, 1030, 5000]) {
        const rows = [NaN, Infinity, -Infinity, 0].flatMap((value) =>
          [0, Math.floor(vocab / 2), vocab - 1].map((place) =>
            logitsOf(vocab, 1).with(place, value)
          )
        );
        await choose(gpu, rows, { temperature: 0 }); // compares what the host reads
        await choose(gpu, rows, { repetition_penalty: 1.3 }, { seen: [0] });
      }
    }),
);

gpuTest(
  "sample: greedy takes the first of the largest",
  (gpu) =>
    withHardwarePrograms(gpu, async (gpu) => {
      for (const vocab of [...AWKWARD, 1030, 5000, 17_000]) {
        const rows = [0, 1, 2, 3].map((seed) => logitsOf(vocab, seed, seed % 2 ? 1 : 0));
        const { tokens } = await choose(gpu, rows, { temperature: 0 });
        assert.deepEqual(
          [...tokens],
          rows.map((row) => order(processed(row))[0]),
          `${vocab} tokens`,
        );
      }
    }),
);

/** Cases of the tests by drawing: every option alone, and together. More draws where distributions are flatter. */
const DRAWN: { name: string; options: Partial<Sampling>; seen?: number[]; count?: number }[] = [
  { name: "temperature 1", options: {} },
  { name: "temperature 2.5", options: { temperature: 2.5 }, count: 4000 },
  { name: "top-k", options: { temperature: 2, top_k: 7 }, count: 4000 },
  { name: "top-p", options: { temperature: 3, top_p: 0.8 } },
  { name: "min-p", options: { temperature: 3, min_p: 0.3 } },
  { name: "repetition penalty", options: { repetition_penalty: 1.4 }, seen: [0, 3, 4, 11] },
  {
    name: "everything",
    options: { temperature: 2, top_k: 9, top_p: 0.9, min_p: 0.1, repetition_penalty: 1.2 },
    seen: [1, 2, 12],
    count: 4000,
  },
];
const SMALL = logitsOf(13, 77).map((v) => v / 2);

for (const { name, options, seen, count = 2500 } of DRAWN) {
  gpuTest(`sample draws from the distribution: ${name}`, async (gpu) => {
    const subsequences = 100;
    const { tokens } = await choose(gpu, [SMALL], options, {
      count,
      subsequence: (r) => r % subsequences,
      position: (r) => 100 + Math.floor(r / subsequences),
      seen,
    });
    const x = processed(SMALL, options.repetition_penalty, new Set(seen));
    const all = { ...PLAIN, seed: SEED, ...options };
    const counts = new Float64Array(SMALL.length);
    for (const token of tokens) counts[token]++;
    const deviate = chiSquaredDeviate(counts, distribution(x, all));
    assert.ok(Math.abs(deviate) < REJECTED, `deviate ${deviate}: ${counts}`);
    // The test does see a distribution that is a little flatter.
    const other = distribution(x, { ...all, temperature: all.temperature * 1.25 });
    assert.ok(chiSquaredDeviate(counts, other) > REJECTED, "the wrong distribution passes");
    // And each draw is the one that the random words say.
    for (let r = 0; r < count; r += 3) {
      const expected = draw(x, all, r % subsequences, 100 + Math.floor(r / subsequences));
      if (expected.lead > 1e-3) assert.equal(tokens[r], expected.token, `draw ${r}`);
    }
  });
}

gpuTest("sample: the noise is exact where random words are near their ends", async (gpu) => {
  // Subsequences whose word for token 0 is 93, 212, 1005, 2³² − 35 and 2³² − 175 in this seed: an E near 0 makes a
  // token win that has one chance in 40 million, and an E of 22 must not be infinite.
  for (const subsequence of [63569851, 17534626, 193534, 107813536, 141783]) {
    const options = { ...PLAIN, seed: SEED };
    const noise = draw(Float64Array.of(0, -1e9), options, subsequence, 0).score;
    const other = draw(Float64Array.of(-1e9, 0), options, subsequence, 0).score;
    assert.ok(noise > 15 || noise < -2.8, `subsequence ${subsequence}: ${noise}`);
    for (const lead of [-0.01, 0.01]) {
      // The largest E are cut off where 1 − v has no more bits.
      const logit = other - noise + (noise < 0 ? 10 * lead : lead);
      const { tokens } = await choose(gpu, [[logit, 0]], options, {
        subsequence: () => subsequence,
      });
      assert.equal(tokens[0], lead > 0 ? 0 : 1, `subsequence ${subsequence}, lead ${lead}`);
    }
  }
});

gpuTest("sample draws from the distribution of a larger vocabulary", async (gpu) => {
  const row = logitsOf(257, 8), options = { ...PLAIN, temperature: 4, seed: 1 };
  const { tokens } = await choose(gpu, [row], options, { count: 3000 });
  const counts = new Float64Array(row.length);
  for (const token of tokens) counts[token]++;
  const probabilities = distribution(processed(row), options);
  const deviate = chiSquaredDeviate(counts, probabilities);
  assert.ok(Math.abs(deviate) < REJECTED, `deviate ${deviate}`);
  probabilities.reverse();
  assert.ok(chiSquaredDeviate(counts, probabilities) > REJECTED);
});

gpuTest(
  "sample: neighbouring subsequences, positions and seeds draw independently",
  async (gpu) => {
    const row = [0.5, 0, -0.5, 0.2, 0.1], count = 1600, side = 40;
    const options = { ...PLAIN, seed: SEED };
    const at = {
      count,
      subsequence: (r: number) => r % side,
      position: (r: number) => Math.floor(r / side),
    };
    const { tokens } = await choose(gpu, [row], options, at);
    const p = distribution(processed(row), options);
    const pairs = Float64Array.from({ length: 25 }, (_, i) => p[Math.floor(i / 5)] * p[i % 5]);
    const independent = (others: Float64Array, what: string) => {
      const counts = new Float64Array(25);
      others.forEach((other, r) => counts[tokens[r] * 5 + other]++);
      const deviate = chiSquaredDeviate(counts, pairs);
      assert.ok(Math.abs(deviate) < REJECTED, `${what}: ${deviate}`);
    };
    independent(tokens.subarray(1), "subsequences");
    independent(tokens.subarray(side), "positions");
    independent((await choose(gpu, [row], { seed: SEED + 1 }, at)).tokens, "seeds");
    const again = await choose(gpu, [row], options, at);
    assert.ok(
      again.tokens.every((token, r) => token === tokens[r]),
      "the same seed draws the same",
    );
  },
);

gpuTest("sample: a sequence draws the same alone and in a batch, whatever its row", async (gpu) => {
  const vocab = 129, width = 132, sequences = 6, stride = 8;
  const rows = Array.from({ length: sequences }, (_, s) => logitsOf(vocab, s));
  const options: Sampling = {
    temperature: 3,
    top_k: 50,
    top_p: 0.9,
    min_p: 0.01,
    repetition_penalty: 5,
    seed: 7,
  };
  // What a sequence has seen is its own: half of the tokens, but other ones.
  const flags = Array.from({ length: sequences * width }, (_, i) => Math.floor(i / 5) % 2);
  const positions = [5, 9, 2, 2, 31, 0], subsequences = [3, 1, 4, 1, 5, 9];
  const run = async (first: number, count: number, step: number) => {
    const ids = poisoned(gpu, "u32", [sequences]), sampled = poisoned(gpu, "u32", [4 * stride]);
    const logits = upload(gpu, stored(rows.slice(first), count), "f32", [count, width]);
    const seen = upload(gpu, flags, "u32", [sequences, width]);
    sample(gpu, {
      logits,
      vocab,
      rows: count,
      first,
      seen,
      ids,
      sampled,
      step,
      stride,
      steps: samplingSteps([options], vocab),
      positions: upload(gpu, positions, "u32", [sequences]),
      settings: settingsOf(gpu, subsequences.map((subsequence) => [options, subsequence])),
    });
    return { ids: await download(gpu, ids), sampled: await download(gpu, sampled) };
  };
  const batch = await run(0, sequences, 0);
  for (let s = 0; s < sequences; s++) {
    const had = rows[s].keys().filter((id) => flags[s * width + id] === 1);
    const x = processed(rows[s], options.repetition_penalty, new Set(had));
    const expected = draw(x, options, subsequences[s], positions[s]);
    assert.ok(expected.lead > 1e-3);
    assert.equal(batch.ids[s], expected.token, `sequence ${s}`);
    assert.equal(batch.sampled[s], batch.ids[s]);
  }
  const untouched = 0xffffffff;
  const part = await run(2, 3, 3);
  for (let s = 0; s < sequences; s++) {
    assert.equal(part.ids[s], s >= 2 && s < 5 ? batch.ids[s] : untouched, `ids[${s}]`);
  }
  part.sampled.forEach((token, i) => {
    const s = i - 3 * stride;
    assert.equal(token, s >= 2 && s < 5 ? batch.ids[s] : untouched, `sampled[${i}]`);
  });
  const alone = await run(4, 1, 1);
  assert.equal(alone.sampled[1 * stride + 4], batch.ids[4]);
});

gpuTest("sample marks what it chose, and the penalty sees it and prompts", async (gpu) => {
  const vocab = 6, width = 8, sequences = 2;
  const logits = upload(gpu, stored([[8, 7, 6, -1, -2, -3]], sequences), "f32", [sequences, width]);
  const seen = upload(gpu, [...Array(8).fill(0), 1, 1, 1, ...Array(5).fill(0)], "u32", [
    sequences,
    width,
  ]);
  const options = { ...PLAIN, temperature: 0, repetition_penalty: 10 };
  const ids = poisoned(gpu, "u32", [sequences]), sampled = poisoned(gpu, "u32", [4 * sequences]);
  const zero = upload(gpu, [0, 0], "u32", [2]);
  const run = (step: number) =>
    sample(gpu, {
      logits,
      vocab,
      rows: 2,
      first: 0,
      ids,
      sampled,
      step,
      stride: sequences,
      seen,
      positions: zero,
      settings: settingsOf(gpu, [[options, 0], [options, 0]]),
      steps: samplingSteps([options], vocab),
    });
  for (const step of [0, 1, 2, 3]) run(step);
  // Sequence 0 takes its three positive ones in turn, then the largest of 0.8, 0.7, 0.6, −1, −2, −3.
  assert.deepEqual([...await download(gpu, sampled)], [0, 0, 1, 0, 2, 0, 0, 0]);
  const after = await download(gpu, seen);
  assert.deepEqual([...after], [1, 1, 1, ...Array(5).fill(0), 1, 1, 1, ...Array(5).fill(0)]);
  // A negative logit moves down: −1 · 10 is less than −2.
  const low = await choose(gpu, [[-1, -2, -30]], { temperature: 0, repetition_penalty: 10 }, {
    seen: [0],
  });
  assert.equal(low.tokens[0], 1);
});

gpuTest("sample: sequences with settings of their own choose as they do alone", async (gpu) => {
  const vocab = 129, width = 132;
  const mixed: Sampling[] = [
    { ...PLAIN, temperature: 0 },
    { ...PLAIN, temperature: 3, seed: 5 },
    { ...PLAIN, temperature: 3, seed: 5, top_k: 20 },
    { ...PLAIN, temperature: 2, seed: 6, top_p: 0.6 },
    { ...PLAIN, temperature: 2, seed: 6, min_p: 0.05, repetition_penalty: 4 },
    { ...PLAIN, temperature: 0, repetition_penalty: 4 },
  ];
  const rows = mixed.map((_, s) => logitsOf(vocab, 40 + s));
  const flags = Array.from({ length: mixed.length * width }, (_, i) => Math.floor(i / 7) % 2);
  const positions = upload(gpu, mixed.map((_, s) => 3 * s), "u32", [mixed.length]);
  const settings = settingsOf(gpu, mixed.map((sampling, s) => [sampling, s]));
  const run = async (steps: SamplingSteps) => {
    const ids = poisoned(gpu, "u32", [mixed.length]),
      sampled = poisoned(gpu, "u32", [mixed.length]);
    const mask = poisoned(gpu, "u32", [mixed.length, width]);
    sample(gpu, {
      logits: upload(gpu, stored(rows, mixed.length), "f32", [mixed.length, width]),
      vocab,
      rows: mixed.length,
      first: 0,
      ids,
      sampled,
      step: 0,
      stride: mixed.length,
      positions,
      settings,
      seen: upload(gpu, flags, "u32", [mixed.length, width]),
      steps,
      mask,
    });
    return { ids: await download(gpu, ids), mask: await download(gpu, mask) };
  };
  const together = await run(samplingSteps(mixed, vocab));
  const kept = mixed.map((_, s) =>
    together.mask.subarray(s * width, (s + 1) * width).reduce((sum, flag) => sum + flag, 0)
  );
  assert.deepEqual([kept[1], kept[2]], [vocab, 20]);
  assert.ok(kept[3] < vocab && kept[4] < vocab, "top-p and min-p leave tokens out");
  for (const [s, sampling] of mixed.entries()) {
    const alone = await run(samplingSteps([sampling], vocab));
    assert.equal(together.ids[s], alone.ids[s], `sequence ${s}`);
  }
});

gpuTest("sample: a repetition penalty without flags is refused", async (gpu) => {
  await assert.rejects(choose(gpu, [[1, 2]], { repetition_penalty: 2 }), /seen/);
});
