/**
 * Every kind of adapter that PEFT writes, on the GPU against PEFT: logits, losses, gradients and steps of training;
 * with dropout against the float64 reference.
 */
import assert from "node:assert/strict";
import { dropoutMask } from "../../../kernels/wgsl/dropout.ts";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { copyName } from "../../../model/adapter/tensors.ts";
import { type Batch, makeBatch } from "../../../model/transformer/batch.ts";
import { type Adapter, checkAdapter, readAdapter } from "../../../model/adapter/adapter_folder.ts";
import { LINEAR_MODULES } from "../../../model/families/linear_modules.ts";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import { numericsOf, scoreMode, trainMode } from "../../../model/transformer/modes.ts";
import { Llama, type LlamaOptions } from "../../../model/transformer/llama.ts";
import { loadAdapter, loadWeights } from "../../../model/checkpoint/load.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { settingsFrom } from "../../../train/config/adapter_settings.ts";
import { type LoraSettings, type TrainConfig, trainSchema } from "../../../train/config/schema.ts";
import { PassPlanner } from "../../../train/planner.ts";
import { Trainer } from "../../../train/trainer.ts";
import {
  fixturePath,
  type PeftCase,
  readFixture,
  readModel,
  readTensors,
  tokenizedSamples,
} from "../../fixtures.ts";
import { assertClose, gpuTest } from "../../kernels/harness.ts";
import { gradients } from "../../train/runs.ts";
import { supervisedTokens } from "../../../model/text/prompt.ts";
import { referenceWindow } from "../reference.ts";

const cases = readFixture("peft.json");
const folderOf = ({ name }: PeftCase) => fixturePath(`peft/${name}`);

const SIZES = { maxTokens: 32, maxTargets: 32 };

/** A case's model with its adapter. */
async function load(gpu: Gpu, c: PeftCase, options: Partial<LlamaOptions>): Promise<Llama> {
  const source = openModel(fixturePath(c.model));
  const adapter = readAdapter(folderOf(c)), lora = checkAdapter(adapter, source.config, c.name);
  const model = new Llama(gpu.memory, {
    config: source.config,
    numerics: EXACT,
    mode: scoreMode(SIZES),
    lora,
    ...options,
  });
  await fill(gpu, model, c, adapter);
  return model;
}

async function fill(gpu: Gpu, model: Llama, c: PeftCase, adapter: Adapter): Promise<void> {
  model.initialize(gpu);
  await loadWeights(gpu, model, openModel(fixturePath(c.model)), { seed: 0 });
  loadAdapter(gpu, model, adapter);
}

/** The documents of a case in one pass, every supervised token weighing the same. */
function batchOf(c: PeftCase): Batch {
  const samples = tokenizedSamples(c.samples);
  const weight = 1 / samples.map(supervisedTokens).reduce((a, b) => a + b);
  return makeBatch(samples.map((sample) => ({ ...sample, weight })));
}

/** Asserts gradients to be those under PEFT's names, but for a share of their norms. */
async function assertGradients(
  gpu: Gpu,
  model: Llama,
  expected: ReadonlyMap<string, ArrayLike<number>>,
  limit = 1e-4,
): Promise<void> {
  const { options: { lora }, mode } = model, plan = lora!;
  const scale = mode.kind === "train" ? mode.initialLossScale : 1;
  const trained = new Map(
    model.trained.map((p) => [p.name.includes("base_model.") ? p.name : copyName(plan, p.name), p]),
  );
  assert.deepEqual([...trained.keys()].sort(), [...expected.keys()].sort());
  const made = await gradients(gpu, { model });
  for (const [name, parameter] of trained) {
    const actual = made.get(parameter.name)!, data = Float64Array.from(expected.get(name)!);
    const difference = Math.hypot(...actual.map((v, i) => v / scale - data[i]));
    const norm = Math.hypot(...data);
    assert.ok(difference <= limit * norm, `${name}: ${difference} of ${norm}`);
  }
}

for (const c of cases) {
  gpuTest(`logits equal PEFT's: ${c.name}`, async (gpu) => {
    const ids = Uint32Array.from(c.samples[0].ids);
    for (const [precision, tolerance] of [["fp32", 1e-4], ["mixed", 2e-2]] as const) {
      const model = await load(gpu, c, {
        numerics: numericsOf({ precision, exact_products: false }),
      });
      // Few rows, of tokens and of logits, go other ways than many; what comes later changes nothing.
      for (
        const [length, positions] of [[6, [0, 5]], [14, c.positions], [14, [
          ...ids.keys(),
        ]]] as const
      ) {
        const document = { ids: ids.subarray(0, length), targets: [], weight: 0 };
        const logits = model.logits(gpu, {
          ...makeBatch([document]),
          targetRows: Uint32Array.from(positions),
          targetCount: positions.length,
        });
        const values = await gpu.readF32(logits), width = logits.shape[1];
        positions.forEach((position, row) => {
          const expected = c.logits[c.positions.indexOf(position)];
          if (expected === undefined) return;
          const actual = values.subarray(row * width, row * width + expected.length);
          const what = `${precision}, row ${position} of ${length}`;
          assertClose(actual, expected, { atol: tolerance, rtol: tolerance, what });
        });
      }
    }
  });

  gpuTest(`losses and gradients equal PEFT's: ${c.name}`, async (gpu) => {
    const tensors = [...readTensors(`peft/${c.name}/gradients.safetensors`)];
    const expected = new Map(tensors.map(([name, { data }]) => [name, data]));
    const kinds = [["fp32", "none", 1e-4], ["fp32", "block", 1e-4], [
      "mixed",
      "none",
      2e-2,
    ]] as const;
    for (const [precision, checkpointing, limit] of kinds) {
      const initialLossScale = precision === "mixed" ? 1024 : 1;
      const model = await load(gpu, c, {
        numerics: numericsOf({ precision, exact_products: false }),
        mode: trainMode({ ...SIZES, trained: "adapters", checkpointing, initialLossScale }),
      });
      model.loss(gpu, batchOf(c), { backward: true });
      const [loss] = await gpu.readF32(model.losses);
      assertClose([loss], [c.loss], { atol: 0, rtol: limit / 10, what: `${precision} loss` });
      await assertGradients(gpu, model, expected, limit);
    }
  });

  gpuTest(`steps of training equal PEFT's, also with LoRA+: ${c.name}`, async (gpu) => {
    const { learning_rate, plus_ratio, steps, plus_steps } = c.training;
    for (const [ratio, expected] of [[1, steps], [plus_ratio, plus_steps]] as const) {
      const { config: model } = openModel(fixturePath(c.model)), adapter = readAdapter(folderOf(c));
      const config = trainSchema.parse({
        output: "unused",
        precision: "fp32",
        learning_rate,
        batch_size: 2,
        gradient_accumulation_steps: 1,
        loss_normalization: "token",
        lora: { plus_ratio: ratio },
      }) as TrainConfig;
      const settings = { given: new Set<string>(), model, what: c.name };
      config.lora = settingsFrom(config.lora as LoraSettings, adapter.config, settings);
      const window = [tokenizedSamples(c.samples)], sizes = new PassPlanner(config).sizes([window]);
      const trainer = new Trainer(gpu.memory, model, { config, sizes, maxBinding: gpu.maxBinding });
      await fill(gpu, trainer.model, c, adapter);
      for (const [i, { loss, grad_norm }] of expected.entries()) {
        const options = { learningRate: learning_rate, firstMicroBatch: i };
        const result = await trainer.step(gpu, window, options);
        const what = `ratio ${ratio}, step ${i}`;
        assertClose([result.loss], [loss], { atol: 0, rtol: 1e-4, what: `${what} loss` });
        assertClose([result.gradNorm], [grad_norm], { atol: 0, rtol: 1e-3, what: `${what} norm` });
      }
    }
  });
}

const DROPPED = ["dora", "dora_all", "dora_head", "head"];
for (const c of cases.filter(({ name }) => DROPPED.includes(name))) {
  gpuTest(`dropout's losses and gradients equal the reference's: ${c.name}`, async (gpu) => {
    const { config, weights } = readModel(c.model), mask = { p: 0.25, seed: 0xdeadbeef, step: 5 };
    const tensors = [...readTensors(`peft/${c.name}/adapter_model.safetensors`)]
      .filter(([name]) => name.includes(".lora_"));
    const modules = Object.keys(LINEAR_MODULES), batch = batchOf(c);
    /** What the kernels multiply a layer's input by. */
    const multipliers = (layer: string) => {
      const [, block = config.num_hidden_layers, module] = /(\d+)\.\w+\.(\w+)$/.exec(layer) ?? [];
      const subsequence = Number(block) * modules.length + Math.max(0, modules.indexOf(module));
      const [, width] = weights.get(`${layer}.weight`)!.shape;
      const kept = dropoutMask(batch.tokens * width, { ...mask, subsequence });
      // The output projection sees the rows with a target alone.
      const rowOf = (t: number) => module === undefined ? batch.targetRows.indexOf(t) : t;
      return Float64Array.from(kept, (_, i) => {
        const row = rowOf(Math.floor(i / width));
        return row < 0 ? 1 : kept[row * width + i % width] / (1 - mask.p);
      });
    };
    for (const checkpointing of ["none", "block"]) {
      const model = await load(gpu, c, {
        mode: trainMode({ ...SIZES, trained: "adapters", checkpointing }),
      });
      const [{ scale }] = model.options.lora!.modules.values();
      const reference = {
        config,
        weights: new Map([...weights].map(([name, { data }]) => [name, data])),
        lora: {
          rank: 3,
          alpha: 3 * scale,
          mask: multipliers,
          weights: new Map(tensors.map(([name, { data }]) => [name, data])),
        },
      };
      const expected = referenceWindow(reference, [tokenizedSamples(c.samples)], "token");
      model.loss(gpu, batch, { backward: true, dropout: mask });
      const [loss] = await gpu.readF32(model.losses);
      assertClose([loss], [expected.loss], { atol: 0, rtol: 1e-5, what: "loss" });
      assert.ok(Math.abs(loss / c.loss - 1) > 1e-3, "dropout has changed nothing");
      await assertGradients(gpu, model, expected.lora);
    }
  });
}
