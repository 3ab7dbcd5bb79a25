import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { crossEntropy, weightedSums } from "../../../../kernels/ops/loss/cross_entropy.ts";
import { initialGradScaler } from "../../../../kernels/ops/optimizer/loss_scale.ts";
import { withHardwarePrograms } from "../../hardware_programs.ts";
import {
  assertClose,
  AWKWARD,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  tolerance,
  upload,
} from "../../harness.ts";

/** nll and gradient of one row's real columns in float64. */
function reference(
  raw: Float64Array,
  { label, factor, softcap }: { label: number; factor: number; softcap: number | null },
) {
  const logits = softcap === null ? raw : raw.map((v) => softcap * Math.tanh(v / softcap));
  const slope = (v: number) => softcap === null ? 1 : 1 - (v / softcap) ** 2;
  const largest = Math.max(...logits);
  const sum = logits.reduce((a, v) => a + Math.exp(v - largest), 0);
  return {
    nll: Math.log(sum) + largest - logits[label],
    gradient: logits.map((v, i) =>
      (Math.exp(v - largest) / sum - (i === label ? 1 : 0)) * factor * slope(v)
    ),
  };
}

const SCALE = 1024;
const gradScaler = Float64Array.from(initialGradScaler(SCALE));

async function test(gpu: Gpu, vocabs: readonly number[], softcap: number | null = null) {
  // A chunk from the middle: 5 rows in memory, 3 used, which are rows 2 to 4 of 7.
  const allocated = 5, rows = 3, firstRow = 2, all = 7;
  for (const vocab of vocabs) {
    const width = Math.ceil(vocab / 4) * 4;
    const raw = quantize(randomArray(allocated * width, vocab, 30), "f32");
    // What lies in the padding must not matter.
    raw.forEach((_, i) => {
      if (i % width >= vocab) raw[i] = i % 2 ? NaN : 2 ** 100;
    });
    const labels = Array.from({ length: all }, (_, s) => s === 2 ? vocab - 1 : (s * 17) % vocab);
    const weights = quantize(randomArray(all, 4), "f32");
    weights[3] = 0;
    for (const backward of [false, true]) {
      const logits = upload(gpu, raw, "f32", [allocated, width]);
      const nll = poisoned(gpu, "f32", [all]);
      crossEntropy(gpu, {
        logits,
        targets: upload(gpu, labels, "u32", [all]),
        weights: upload(gpu, weights, "f32", [all]),
        nll,
        gradScaler: upload(gpu, gradScaler, "f32", [16]),
        rows,
        firstRow,
        vocab,
        softcap,
        backward,
      });
      const losses = await download(gpu, nll), after = await download(gpu, logits);
      for (let s = 0; s < all; s++) {
        const r = s - firstRow;
        if (r < 0 || r >= rows) {
          assert.ok(Number.isNaN(losses[s]), `nll[${s}] is another chunk's`);
          continue;
        }
        const real = raw.subarray(r * width, r * width + vocab);
        const label = labels[s], factor = weights[s] * SCALE;
        const expected = reference(real, { label, factor, softcap });
        assertClose([losses[s]], [expected.nll], { ...tolerance("f32"), what: `nll[${s}]` });
        const row = after.subarray(r * width, (r + 1) * width);
        if (!backward) continue;
        assertClose(row.subarray(0, vocab), expected.gradient, { atol: 2e-4, rtol: 1e-5 });
        assert.ok(row.subarray(vocab).every((v) => v === 0), "gradient of padding");
      }
      const untouched = backward ? rows * width : 0;
      assertClose(after.subarray(untouched), raw.subarray(untouched), { atol: 0, rtol: 0 });
    }
  }
}

gpuTest(
  "crossEntropy and its gradient agree with the reference",
  (gpu) => withHardwarePrograms(gpu, (gpu) => test(gpu, [...AWKWARD, 4, 1030, 5000, 20000])),
);

gpuTest(
  "crossEntropy caps logits where it is told to, and its gradient is that of the logits before",
  (gpu) => test(gpu, [33, 1030], 20),
);

gpuTest("crossEntropy is stable at large logits and passes on infinity and NaN", async (gpu) => {
  const rows = [
    [1e4, 1e4 - 1, -1e4, 0],
    [-1e4, -1e4 - 1, -3e4, -2e4],
    [-3e38, 3e38, 0, 0],
    [Infinity, 0, 0, 0],
    [NaN, 0, 0, 0],
    [0, 0, 0, -Infinity],
  ];
  const S = rows.length;
  const logits = upload(gpu, rows.flat(), "f32", [S, 4]), nll = poisoned(gpu, "f32", [S]);
  crossEntropy(gpu, {
    logits,
    targets: upload(gpu, [1, 1, 1, 1, 1, 1], "u32", [S]),
    weights: upload(gpu, Array(S).fill(1 / SCALE), "f32", [S]),
    nll,
    gradScaler: upload(gpu, gradScaler, "f32", [16]),
    rows: S,
    firstRow: 0,
    vocab: 4,
    softcap: null,
    backward: true,
  });
  const losses = await download(gpu, nll), gradients = await download(gpu, logits);
  const close = Math.log(1 + Math.exp(-1)) + 1;
  assertClose(losses.subarray(0, 3), [close, close, 0], { atol: 1e-6, rtol: 1e-6 });
  assert.ok(!Number.isFinite(losses[3]) && !Number.isFinite(losses[4]));
  assertClose([losses[5]], [Math.log(3)], { atol: 1e-6, rtol: 0 });
  const p = 1 / (1 + Math.exp(-1));
  assertClose(
    gradients.subarray(0, 12),
    [p, -p, 0, 0, p, -p, 0, 0, 0, 0, 0, 0],
    { atol: 1e-6, rtol: 0, what: "gradient" },
  );
  for (const row of [3, 4]) {
    const values = gradients.subarray(row * 4, row * 4 + 4);
    assert.ok(values.some((v) => !Number.isFinite(v)), `row ${row} hides its overflow`);
  }
  assertClose(gradients.subarray(20), [1 / 3, -2 / 3, 1 / 3, 0], { atol: 1e-6, rtol: 0 });
});

gpuTest("weightedSums fills one slot", async (gpu) => {
  for (const rows of [...AWKWARD, 5000]) {
    const nll = quantize(randomArray(rows + 1, rows, 3).map((v) => v + 3), "f32");
    const weights = quantize(randomArray(rows + 1, 2), "f32");
    const out = poisoned(gpu, "f32", [5]);
    weightedSums(gpu, {
      nll: upload(gpu, nll, "f32", [rows + 1]),
      weights: upload(gpu, weights, "f32", [rows + 1]),
      out,
      slot: 3,
      rows,
    });
    const sums = await download(gpu, out);
    const expected = nll.subarray(0, rows).reduce((a, v, i) => a + v * weights[i], 0);
    assertClose([sums[3]], [expected], { atol: 2e-4, rtol: 1e-5 });
    assert.deepEqual([0, 1, 2, 4].map((i) => Number.isNaN(sums[i])), [true, true, true, true]);
  }
});
