/** Tuning: which products a model asks for, and the tiles that are measured for them. */
import assert from "node:assert/strict";
import { askedProducts, tune } from "../../bench/tuning.ts";
import { openGpu } from "../../kernels/gpu/gpu.ts";
import {
  type AskedProduct,
  productClass,
  tilesOf,
  TUNED_STEP,
} from "../../kernels/ops/matmul/tuned.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import { parseTrainArguments } from "../../train/config/config.ts";
import { gpuTest } from "../kernels/harness.ts";

const MODEL = "random:tiny";

async function asked(gpu: Parameters<typeof askedProducts>[0], ...flags: string[]) {
  const config = parseTrainArguments(["--model", MODEL, ...flags]);
  const products = await askedProducts(gpu, openModel(MODEL).config, config, [24, 64]);
  return new Set(products.map((product) => productClass(product)!.replace(/ \d.*/, "")));
}

gpuTest("tuning asks for the products of training and of generation", async () => {
  const gpu = await openGpu({ provider: "deno" });
  try {
    const before = gpu.memory.live;
    const f32 = await asked(gpu, "--precision", "fp32");
    assert.deepEqual([...f32].sort(), ["nn f32 f32", "nt f32 f32"]);
    const whole = await asked(gpu, "--precision", "fp32", "--lora", "off");
    assert.deepEqual([...whole].sort(), ["nn f32 f32", "nt f32 f32", "tn f32 f32"]);
    assert.deepEqual({ ...gpu.memory.live, workspace: 0 }, { ...before, workspace: 0 });
    assert.equal(tilesOf(gpu).listener, undefined);
  } finally {
    gpu.close();
  }
});

gpuTest("tuning measures every geometry that may be the best", async () => {
  const gpu = await openGpu({ provider: "deno", profile: true, software: false });
  if (gpu.profiler) gpu.profiler.granularity = "nothing";
  try {
    for (const maxSplits of [undefined, 4]) {
      const product: AskedProduct = {
        orientation: "nt",
        a: "f32",
        b: "f32",
        c: "f32",
        operands: "f32",
        maxSplits,
        m: TUNED_STEP,
        n: 64,
        k: 600,
      };
      const { name, all, best, predicted } = await tune(gpu, product);
      assert.equal(name, `nt f32 f32 8×64×600${maxSplits ? " parts" : ""}`);
      assert.ok(all.length > 1 && all.includes(best) && all[0] === predicted, `${all.length}`);
      assert.ok(all.every(({ seconds }) => seconds > 0 && seconds >= best.seconds));
    }
  } finally {
    gpu.close();
  }
});
