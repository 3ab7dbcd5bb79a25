import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import {
  fillConstant,
  fillNormal,
  fillUniform,
  normalNumbers,
  uniformNumbers,
} from "../../../../kernels/ops/elements/random.ts";
import type { Dtype, Tensor } from "../../../../kernels/gpu/tensor.ts";
import { assertClose, AWKWARD4, download, gpuTest, poisoned } from "../../harness.ts";
import { withMaxBinding } from "../../small_binding.ts";

const SEED = 0x9e3779b9, SUBSEQUENCE = 3;
const NORMAL = { mean: 0.5, std: 2, seed: SEED, subsequence: SUBSEQUENCE };
const UNIFORM = { low: -3, high: 1, seed: SEED, subsequence: SUBSEQUENCE };

/** Mean, variance, skewness and excess kurtosis. */
function moments(values: Float64Array): number[] {
  const mean = values.reduce((a, v) => a + v, 0) / values.length;
  const central = (k: number) => values.reduce((a, v) => a + (v - mean) ** k, 0) / values.length;
  const variance = central(2);
  return [mean, variance, central(3) / variance ** 1.5, central(4) / variance ** 2 - 3];
}

/** Fills a tensor on a device that may have to split it. */
async function filled(gpu: Gpu, dtype: Dtype, shape: number[], fill: (y: Tensor) => void) {
  const y = poisoned(gpu, dtype, shape);
  fill(y);
  return await download(gpu, y);
}

for (const dtype of ["f32", "f16"] as Dtype[]) {
  gpuTest(`fills agree with the host, split or not (${dtype})`, async (gpu) => {
    // sin, cos and log are inexact on a GPU; WGSL promises 2⁻¹¹.
    const limits = { atol: 2e-3 + (dtype === "f16" ? 5e-3 : 0), rtol: 0 };
    for (const width of AWKWARD4) {
      const shape = [9, width], count = 9 * width;
      const normal = await filled(gpu, dtype, shape, (y) => fillNormal(gpu, { y, ...NORMAL }));
      const uniform = await filled(gpu, dtype, shape, (y) => fillUniform(gpu, { y, ...UNIFORM }));
      const expected = normalNumbers(count, SEED, SUBSEQUENCE).map((v) => 0.5 + 2 * v);
      assertClose(normal, expected, { ...limits, what: "normal" });
      assertClose(uniform, uniformNumbers(count, SEED, SUBSEQUENCE).map((v) => 4 * v - 3), limits);
      await withMaxBinding(512, async (small) => {
        const parts = await filled(small, dtype, shape, (y) => fillNormal(small, { y, ...NORMAL }));
        assert.deepEqual(parts, normal);
        const same = await filled(
          small,
          dtype,
          shape,
          (y) => fillUniform(small, { y, ...UNIFORM }),
        );
        assert.deepEqual(same, uniform);
        const ones = await filled(
          small,
          dtype,
          shape,
          (y) => fillConstant(small, { y, value: -1.5 }),
        );
        assert.ok(ones.every((v) => v === -1.5));
      });
    }
  });
}

gpuTest("fills have the moments of their distributions", async (gpu) => {
  const shape = [1024, 512], count = 1024 * 512;
  const normal = await filled(gpu, "f32", shape, (y) => fillNormal(gpu, { y, ...NORMAL }));
  const [mean, variance, skewness, kurtosis] = moments(normal);
  const sigma = 1 / Math.sqrt(count);
  assert.ok(Math.abs(mean - 0.5) < 4.5 * 2 * sigma, `mean ${mean}`);
  assert.ok(Math.abs(variance / 4 - 1) < 4.5 * Math.SQRT2 * sigma, `variance ${variance}`);
  assert.ok(Math.abs(skewness) < 4.5 * Math.sqrt(6) * sigma, `skewness ${skewness}`);
  assert.ok(Math.abs(kurtosis) < 4.5 * Math.sqrt(24) * sigma, `kurtosis ${kurtosis}`);
  assert.ok(normal.every(Number.isFinite));

  const uniform = await filled(gpu, "f32", shape, (y) => fillUniform(gpu, { y, ...UNIFORM }));
  const [middle, spread] = moments(uniform);
  assert.ok(Math.abs(middle + 1) < 4.5 * Math.sqrt(4 / 3) * sigma, `mean ${middle}`);
  assert.ok(Math.abs(spread / (4 / 3) - 1) < 4.5 * Math.sqrt(0.8) * sigma, `variance ${spread}`);
  assert.ok(uniform.every((v) => v >= -3 && v <= 1));
});

Deno.test("numbers of different elements, subsequences and seeds are uncorrelated", () => {
  const count = 1 << 16;
  const base = normalNumbers(count, SEED, SUBSEQUENCE);
  const independent = (a: Float64Array, b: Float64Array, what: string) => {
    const correlation = a.reduce((sum, v, i) => sum + v * b[i], 0) / a.length;
    assert.ok(Math.abs(correlation) < 4.5 / Math.sqrt(a.length), `${what}: ${correlation}`);
  };
  for (const lag of [1, 2, 3, 4, 512, 4096]) {
    independent(base.subarray(lag), base.subarray(0, count - lag), `lag ${lag}`);
  }
  independent(base, normalNumbers(count, SEED, SUBSEQUENCE + 1), "subsequence");
  independent(base, normalNumbers(count, SEED + 1, SUBSEQUENCE), "seed");
  independent(base, normalNumbers(count, SUBSEQUENCE, SEED), "seed and subsequence swapped");
  const centred = uniformNumbers(count, SEED, SUBSEQUENCE).map((v) => (v - 0.5) * Math.sqrt(12));
  independent(base, centred, "kind");
});
