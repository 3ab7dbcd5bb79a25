import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import {
  NOT_FINITE,
  sample,
  type Sampling,
  samplingSettings,
  type SamplingSteps,
  samplingSteps,
  SETTINGS_WORDS,
} from "../../../../kernels/ops/sampling/sample.ts";
import { roundUp, type Tensor } from "../../../../kernels/gpu/tensor.ts";
import { AWKWARD, download, gpuTest, poisoned, randomArray, upload } from "../../harness.ts";
import {
  chiSquaredDeviate,
  distribution,
  draw,
  keptTokens,
  minPFor,
  order,
  PLAIN,
  processed,
  topPFor,
} from "./sample_reference.ts";

/** The deviate that draws from the right distribution exceed once in 10,000 times. */
const REJECTED = 3.72;
const SEED = 0x9e3779b9;

/** Rows of logits as stored, padding poisoned, row r being `rows[r % rows.length]`. */
function stored(rows: readonly ArrayLike<number>[], count: number): Float32Array {
  const vocab = rows[0].length, width = roundUp(vocab, 4);
  return Float32Array.from({ length: count * width }, (_, i) => {
    const column = i % width;
    return column < vocab
      ? rows[Math.floor(i / width) % rows.length][column]
      : [NaN, 2 ** 100][i % 2];
  });
}

/** The settings of sequences, by their sampling and subsequence. */
const settingsOf = (gpu: Gpu, rows: readonly (readonly [Sampling, number])[]): Tensor =>
  upload(
    gpu,
    rows.flatMap(([sampling, subsequence]) => [...samplingSettings(sampling, subsequence)]),
    "u32",
    [rows.length, SETTINGS_WORDS],
  );

/** Tokens chosen for `count` sequences, and which tokens could be, where `mask` is asked for. */
async function choose(
  gpu: Gpu,
  rows: readonly ArrayLike<number>[],
  options: Partial<Sampling>,
  { count = rows.length, subsequence = (r: number) => r, position = (_: number) => 0, seen, mask }:
    {
      count?: number;
      subsequence?: (row: number) => number;
      position?: (row: number) => number;
      /** Tokens seen by every sequence. */
      seen?: readonly number[];
      mask?: boolean;
    } = {},
): Promise<{ tokens: Float64Array; kept: number[][] }> {
  const vocab = rows[0].length, width = roundUp(vocab, 4);
  const used = { ...PLAIN, seed: SEED, ...options };
  const perRow = (f: (row: number) => number) =>
    upload(gpu, Array.from({ length: count }, (_, r) => f(r)), "u32", [count]);
  const flags = Array.from({ length: count * width }, (_, i) => seen?.includes(i % width) ? 1 : 0);
  const kept = mask ? poisoned(gpu, "u32", [count, width]) : undefined;
  const ids = poisoned(gpu, "u32", [count]), sampled = poisoned(gpu, "u32", [count]);
  sample(gpu, {
    logits: upload(gpu, stored(rows, count), "f32", [count, width]),
    vocab,
    rows: count,
    first: 0,
    ids,
    sampled,
    step: 0,
    stride: count,
    positions: perRow(position),
    settings: settingsOf(gpu, Array.from({ length: count }, (_, r) => [used, subsequence(r)])),
    seen: seen && upload(gpu, flags, "u32", [count, width]),
    steps: samplingSteps([used], vocab),
    mask: kept,
  });
  // What the host reads: the tokens, but for those of rows that hold what is no finite number.
  const faulty = rows.map((row) => !Array.from(row, Math.fround).every(Number.isFinite));
  const tokens = await download(gpu, ids);
  const read = tokens.map((token, r) => faulty[r % rows.length] ? NOT_FINITE : token);
  assert.deepEqual(await download(gpu, sampled), read);
  const masks = kept === undefined ? new Float64Array() : await download(gpu, kept);
  return {
    tokens,
    kept: Array.from({ length: mask ? count : 0 }, (_, r) => {
      const row = masks.subarray(r * width, (r + 1) * width);
      assert.ok(row.every((flag) => flag === 0 || flag === 1), "mask");
      return [...row.keys()].filter((id) => row[id] === 1);
    }),
  };
}

/** Fails at the first difference, where a whole vocabulary in a message would be too long. */
function assertSame(actual: readonly number[], expected: readonly number[], what: string): void {
  const sorted = expected.toSorted((a, b) => a - b);
  const i = sorted.findIndex((id, i) => id !== actual[i]);
  assert.ok(i < 0 && actual.length === sorted.length, `${what}: token ${i} of ${sorted.length}`);
}

/** Logits of a vocabulary; `step` > 0 rounds them, which makes ties. */
function logitsOf(vocab: number, seed: number, step = 0): Float64Array {
  const values = randomArray(vocab, seed, 6).map(Math.fround);
  return step === 0 ? values : values.map((v) => Math.round(v / step) * step);
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

gpuTest("sample: one logit that is not finite is told, wherever it is", async (gpu) => {
  for (const vocab of [...AWKWARD, 1030, 5000]) {
    const rows = [NaN, Infinity, -Infinity, 0].flatMap((value) =>
      [0, Math.floor(vocab / 2), vocab - 1].map((place) => logitsOf(vocab, 1).with(place, value))
    );
    await choose(gpu, rows, { temperature: 0 }); // compares what the host reads
    await choose(gpu, rows, { repetition_penalty: 1.3 }, { seen: [0] });
  }
});

gpuTest("sample: greedy takes the first of the largest", async (gpu) => {
  for (const vocab of [...AWKWARD, 1030, 5000]) {
    const rows = [0, 1, 2, 3].map((seed) => logitsOf(vocab, seed, seed % 2 ? 1 : 0));
    const { tokens } = await choose(gpu, rows, { temperature: 0 });
    assert.deepEqual([...tokens], rows.map((row) => order(processed(row))[0]), `${vocab} tokens`);
  }
});

/** Cases of the tests by drawing: every option alone, and together. */
const DRAWN: { name: string; options: Partial<Sampling>; seen?: number[] }[] = [
  { name: "temperature 1", options: {} },
  { name: "temperature 2.5", options: { temperature: 2.5 } },
  { name: "top-k", options: { temperature: 3, top_k: 7 } },
  { name: "top-p", options: { temperature: 3, top_p: 0.8 } },
  { name: "min-p", options: { temperature: 3, min_p: 0.3 } },
  { name: "repetition penalty", options: { repetition_penalty: 1.4 }, seen: [0, 3, 4, 11] },
  {
    name: "everything",
    options: { temperature: 2, top_k: 9, top_p: 0.9, min_p: 0.1, repetition_penalty: 1.2 },
    seen: [1, 2, 12],
  },
];
const SMALL = logitsOf(13, 77).map((v) => v / 2);

for (const { name, options, seen } of DRAWN) {
  gpuTest(`sample draws from the distribution: ${name}`, async (gpu) => {
    const count = 8000, subsequences = 200;
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
    for (let r = 0; r < count; r += 7) {
      const expected = draw(x, all, r % subsequences, 100 + Math.floor(r / subsequences));
      if (expected.lead > 1e-3) assert.equal(tokens[r], expected.token, `draw ${r}`);
    }
  });
}

gpuTest("sample: the noise is exact where random words are near their ends", async (gpu) => {
  // Streams whose word for token 0 is 93, 212, 1005, 2³² − 35 and 2³² − 175 in this seed: an E near 0 makes a
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
  const { tokens } = await choose(gpu, [row], options, { count: 5000 });
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
    const row = [0.5, 0, -0.5, 0.2, 0.1], count = 3600, side = 60;
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
