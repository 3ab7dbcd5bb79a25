/** What the kernel bench compares results with, and that it sees wrong ones. */
import assert from "node:assert/strict";
import { attentionCases } from "../../bench/attention_cases.ts";
import { type BenchContext, MOST_ERROR, pick, Samples } from "../../bench/kernel_case.ts";
import { loraCases } from "../../bench/lora_cases.ts";
import { productCases } from "../../bench/product_cases.ts";
import { crossEntropyCases, normCases, swigluCases } from "../../bench/row_cases.ts";
import { presetConfig } from "../../model/families/presets.ts";
import { gpuTest } from "../kernels/harness.ts";

const families = {
  products: productCases,
  attention: attentionCases,
  norms: normCases,
  swiglu: swigluCases,
  lora: loraCases,
  "cross entropy": crossEntropyCases,
};

for (const [name, cases] of Object.entries(families)) {
  gpuTest(`bench kernels: ${name} pass their checks`, async (gpu) => {
    for (const dtype of ["f32", "f16"] as const) {
      const context: BenchContext = { gpu, config: presetConfig("tiny"), dtype };
      let count = 0;
      for (const kernel of cases(context, 33)) {
        const error = await kernel.check();
        assert.ok(error <= MOST_ERROR[dtype], `${dtype} ${kernel.name}: ${error}`);
        assert.ok(error > 0, `${dtype} ${kernel.name}: nothing was compared`);
        assert.ok(kernel.flops > 0 && kernel.bytes > 0 && kernel.tokens === 33, kernel.name);
        kernel.run();
        count++;
      }
      assert.ok(count > 0);
    }
  });
}

gpuTest("bench kernels: a row of one token is a matrix-vector product", async (gpu) => {
  for (const kernel of productCases({ gpu, config: presetConfig("tiny"), dtype: "f16" }, 1)) {
    assert.match(kernel.name, /^matvec /);
    assert.ok(await kernel.check() <= MOST_ERROR.f16, kernel.name);
  }
});

Deno.test("bench kernels: one wrong result among hundreds is an error, and so is NaN", () => {
  for (const wrong of [0.5, NaN]) {
    const samples = new Samples();
    for (let i = 0; i < 256; i++) samples.add(i === 100 ? wrong : 1, 1);
    assert.ok(!(samples.error <= MOST_ERROR.f16), `${samples.error}`);
  }
  const right = new Samples();
  right.add(3, 3);
  assert.equal(right.error, 0);
});

Deno.test("bench kernels: samples begin with both ends and stay inside", () => {
  assert.deepEqual(pick(2, 10, 1), [0, 9]);
  const picked = pick(200, 10, 1);
  assert.deepEqual([...new Set(picked)].sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.notDeepEqual(picked, pick(200, 10, 2));
});
