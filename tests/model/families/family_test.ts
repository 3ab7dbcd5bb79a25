/** Scaled RoPE, sliding windows and biases on the GPU against PyTorch float32. */
import assert from "node:assert/strict";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { loraPlan } from "../../../model/adapter/plan.ts";
import { type Batch, makeBatch } from "../../../model/transformer/batch.ts";
import { type ModelConfig, parseConfig } from "../../../model/families/config.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { meanNll } from "../../../model/transformer/evaluate.ts";
import { readAdapter } from "../../../model/adapter/adapter_folder.ts";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import { numericsOf, scoreMode, trainMode } from "../../../model/transformer/modes.ts";
import { Llama, type LlamaOptions } from "../../../model/transformer/llama.ts";
import { cutRows, loadAdapter, loadWeights } from "../../../model/checkpoint/load.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import {
  type FamilyFixture,
  fixturePath,
  readFixture,
  readTensors,
  tokenizedSamples,
} from "../../fixtures.ts";
import { assertClose, gpuTest } from "../../kernels/harness.ts";
import { fixtureSubject, openTrainer } from "../../train/runs.ts";

const { logits: variants, gradients } = readFixture("family.json");

/** What a variant's config.json would say. */
function variantConfig({ name, model, changes }: FamilyFixture["logits"][number]): ModelConfig {
  const json = JSON.parse(Deno.readTextFileSync(fixturePath(`${model}/config.json`)));
  return parseConfig({ ...json, ...changes }, name);
}

const SIZES = { maxTokens: 32, maxTargets: 32 };

/** A variant on the GPU, planned for texts as long as the fixture's. */
async function loadVariant(
  gpu: Gpu,
  variant: FamilyFixture["logits"][number],
  options: Partial<LlamaOptions> = {},
): Promise<Llama> {
  const source = openModel(fixturePath(variant.model));
  const model = new Llama(gpu.memory, {
    config: variantConfig(variant),
    numerics: EXACT,
    mode: scoreMode({ ...SIZES, maxPosition: variant.ids.length }),
    ...options,
  });
  model.initialize(gpu);
  await loadWeights(gpu, model, source, { seed: 0 });
  return model;
}

for (const c of variants) {
  for (const [precision, tolerance] of [["fp32", 1e-4], ["mixed", 5e-2]] as const) {
    gpuTest(`logits equal PyTorch's: ${c.name}, ${precision}`, async (gpu) => {
      const model = await loadVariant(gpu, c, {
        numerics: numericsOf({ precision, exact_products: false }),
      });
      const document = { ids: Uint32Array.from(c.ids), targets: [], weight: 0 };
      const batch: Batch = {
        ...makeBatch([document], model.config.sliding_window),
        targetRows: Uint32Array.from(c.positions),
        targetCount: c.positions.length,
      };
      const logits = model.logits(gpu, batch);
      const values = await gpu.readF32(logits), width = logits.shape[1];
      c.logits.forEach((expected, i) => {
        const row = values.subarray(i * width, i * width + expected.length);
        const what = `row ${c.positions[i]}`;
        assertClose(row, expected, { atol: tolerance, rtol: tolerance, what });
      });
    });
  }
}

for (const c of gradients) {
  gpuTest(`gradients equal PyTorch's: ${c.variant}, ${c.train}`, async (gpu) => {
    const adapter = readAdapter(fixturePath("family_adapter"));
    const { r: rank, lora_alpha: alpha, target_modules: targets } = adapter.config;
    const lora = c.train === "lora";
    const variant = variants.find(({ name }) => name === c.variant)!;
    for (const checkpointing of ["none", "block"]) {
      const model = await loadVariant(gpu, variant, {
        lora: lora ? loraPlan(variantConfig(variant), { rank, alpha, targets }) : undefined,
        mode: trainMode({
          ...SIZES,
          maxPosition: variant.ids.length,
          trained: lora ? "adapters" : "weights",
          checkpointing,
        }),
      });
      if (lora) loadAdapter(gpu, model, adapter);
      const supervised = c.samples.map(({ ids, promptLength }) => ids.length - promptLength);
      const weight = 1 / supervised.reduce((a, b) => a + b);
      const documents = tokenizedSamples(c.samples).map((sample) => ({ ...sample, weight }));
      const batch = makeBatch(documents, model.config.sliding_window);
      model.loss(gpu, batch, { backward: true });
      const [loss] = await gpu.readF32(model.losses);
      assertClose([loss], [c.loss], { atol: 0, rtol: 1e-5, what: "loss" });
      const expected = readTensors(c.file);
      assert.deepEqual(model.trained.map((p) => p.name).sort(), [...expected.keys()].sort());
      for (const { name, shape, trained } of model.trained) {
        const { grad } = trained!;
        const actual = cutRows(await gpu.readF32(grad), shape, grad.shape);
        const { data } = expected.get(name)!;
        const difference = Math.hypot(...actual.map((v, i) => v - data[i]));
        const norm = Math.hypot(...data);
        assert.ok(difference <= 1e-4 * norm, `${name}: ${difference} of ${norm}`);
      }
      const samples = documents.map((document) => ({ ...document, truncated: false }));
      const scored = await meanNll(gpu, model, samples);
      assertClose([scored], [c.loss], { atol: 0, rtol: 1e-5, what: "scored one by one" });
    }
  });

  gpuTest(
    `a training step's loss and norm equal PyTorch's: ${c.variant}, ${c.train}`,
    async (gpu) => {
      const variant = variants.find(({ name }) => name === c.variant)!;
      const adapter = c.train === "lora" ? "family_adapter" : null;
      const subject = fixtureSubject({ model: variant.model, adapter });
      subject.config = variantConfig(variant);
      const window = tokenizedSamples(c.samples).map((sample) => [sample]);
      const settings = { loss_normalization: "token", packing: true } as const;
      const trainer = openTrainer(gpu, subject, [window], settings);
      const result = await trainer.step(gpu, window, { learningRate: 1e-3, firstMicroBatch: 0 });
      const norm = Math.hypot(
        ...[...readTensors(c.file).values()].flatMap(({ data }) => [...data]),
      );
      assertClose([result.loss], [c.loss], { atol: 0, rtol: 1e-5, what: "loss" });
      assertClose([result.gradNorm], [norm], { atol: 0, rtol: 1e-4, what: "norm" });
    },
  );
}

Deno.test("a folder's announced biases are its weights, those of cut layers no obstacle", () => {
  const source = openModel(fixturePath("family_bias"), 1);
  const { weights } = source;
  try {
    assert.equal(source.config.num_hidden_layers, 1);
    const { dtype, shape } = weights!.info("model.layers.0.mlp.gate_proj.bias");
    assert.deepEqual([dtype, shape], ["F32", [44]]);
    assert.throws(() => weights!.info("model.layers.1.mlp.gate_proj.bias"), RangeError);
  } finally {
    weights!.close();
  }
});

Deno.test("makeBatch: a window bounds keys and queries within each document", () => {
  const documents = [5, 2].map((length) => ({
    ids: new Uint32Array(length),
    targets: [],
    weight: 1,
  }));
  const { starts, ends, queryEnds } = makeBatch(documents, 3);
  assert.deepEqual([...starts], [0, 0, 0, 1, 2, 5, 5]);
  assert.deepEqual([...ends], [1, 2, 3, 4, 5, 6, 7]);
  assert.deepEqual([...queryEnds], [3, 4, 5, 5, 5, 7, 7]);
  const whole = makeBatch(documents);
  assert.deepEqual([...whole.starts], [0, 0, 0, 0, 0, 5, 5]);
  assert.deepEqual([...whole.queryEnds], [5, 5, 5, 5, 5, 7, 7]);
  assert.deepEqual(makeBatch(documents, 5), whole);
});

gpuTest("random models have biases of zero and norms of one", async (gpu) => {
  const config = { ...presetConfig("tiny"), attention_bias: true, mlp_bias: true };
  const model = new Llama(gpu.memory, {
    config,
    numerics: EXACT,
    mode: scoreMode({ maxTokens: 1, maxTargets: 1 }),
  });
  await loadWeights(gpu, model, { name: "random", config }, { seed: 1 });
  const vectors = model.weights.filter(({ shape }) => shape.length === 1);
  assert.equal(vectors.filter(({ name }) => name.endsWith(".bias")).length, 14);
  for (const { name, value } of vectors) {
    const expected = name.endsWith(".bias") ? 0 : 1;
    assert.ok((await gpu.readF32(value)).every((v) => v === expected), name);
  }
});
