/** DoRA on some layers, beside modules trained whole: the same step in every mode that a run may take. */
import assert from "node:assert/strict";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { initializeAdapters, setParameter } from "../../model/checkpoint/load.ts";
import type { LoraSettings, TrainConfig } from "../../train/config/schema.ts";
import { parseTrainArguments } from "../../train/config/config.ts";
import { type AccumulationWindow, PassPlanner } from "../../train/planner.ts";
import { Trainer } from "../../train/trainer.ts";
import { gpuTest, randomArray } from "../kernels/harness.ts";
import { deviation, gradients, randomSamples, randomSubject, SMALL_CONFIG } from "./runs.ts";
import { targetsAfter } from "../../model/text/targets.ts";

const MODEL = { ...SMALL_CONFIG, num_hidden_layers: 5, tie_word_embeddings: false };
const SUBJECT = randomSubject(MODEL);

/** The first two begin alike; a row of them may share that. */
function makeWindow(): AccumulationWindow {
  const samples = randomSamples(MODEL, [31, 27, 14, 9]), shared = 12;
  samples[1].ids.set(samples[0].ids.subarray(0, shared));
  for (const sample of samples.slice(0, 2)) sample.targets = targetsAfter(shared + 1, sample.ids);
  return samples.map((sample) => [sample]);
}

const CASES: Record<string, Partial<LoraSettings>> = {
  // What is trained begins in block 1, and blocks 2 and 4 have nothing.
  "some blocks": {
    layers: [1, 3],
    targets: ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
  },
  "beside modules trained whole": {
    layers: [0, 3],
    targets: ["k_proj", "gate_proj", "lm_head", "embed_tokens"],
    modules_to_save: ["v_proj", "norm"],
  },
};

/** Losses and gradients of the window, and what of the plan was allocated. */
async function step(
  gpu: Gpu,
  changes: Partial<LoraSettings>,
  settings: Partial<TrainConfig>,
  window = makeWindow(),
) {
  const defaults = parseTrainArguments(["--model", "unused", "--output", "unused"]);
  assert.ok(defaults.lora);
  const lora = { ...defaults.lora, rank: 6, alpha: 12, dora: true, ...changes };
  const config: TrainConfig = {
    ...defaults,
    gradient_accumulation_steps: window.length,
    initial_loss_scale: 256,
    ...settings,
    lora,
  };
  const trainer = new Trainer(gpu.memory, MODEL, {
    config,
    sizes: new PassPlanner(config).sizes([window]),
    maxBinding: gpu.maxBinding,
  });
  const { model } = trainer;
  model.initialize(gpu);
  for (const parameter of model.weights) {
    const tensor = SUBJECT.weights.get(parameter.name);
    assert.ok(tensor, parameter.name);
    setParameter(gpu, parameter, tensor.data);
  }
  initializeAdapters(gpu, model, { init: "kaiming", seed: 3 });
  for (const [i, parameter] of model.adapters.entries()) {
    const size = parameter.shape.reduce((a, b) => a * b, 1);
    const isMagnitude = parameter.shape.length === 1;
    const mean = isMagnitude ? 1.5 : 0;
    const values = randomArray(size, 100 + i, 0.3);
    setParameter(gpu, parameter, Float32Array.from(values, (value) => mean + value));
  }
  model.parametersChanged();
  const { losses } = await trainer.step(gpu, window, { learningRate: 0, firstMicroBatch: 5 });
  return { losses, gradients: await gradients(gpu, trainer) };
}

type Step = Awaited<ReturnType<typeof step>>;

function assertSame(actual: Step, expected: Step, what: string, limit: number): void {
  actual.losses.forEach((loss, i) => {
    const relative = Math.abs(loss / expected.losses[i] - 1);
    assert.ok(relative <= limit, `${what}, loss ${i}: off by ${relative}`);
  });
  assert.deepEqual([...actual.gradients.keys()], [...expected.gradients.keys()]);
  for (const [name, gradient] of actual.gradients) {
    const own = expected.gradients.get(name);
    assert.ok(own !== undefined && own.some((value) => value !== 0), `${name} has no gradient`);
    const relative = deviation(gradient, own);
    assert.ok(relative <= limit, `${what}, ${name}: off by ${relative}`);
  }
}

for (const [name, lora] of Object.entries(CASES)) {
  for (const precision of ["fp32", "mixed"] as const) {
    gpuTest(`checkpointing leaves DoRA's gradients: ${name}, ${precision}`, async (gpu) => {
      const own = { ...lora, dropout: 0.2 }, window = makeWindow().slice(1, 3);
      const expected = await step(gpu, own, { precision, checkpointing: "none" }, window);
      for (const checkpointing of ["block", "sqrt", "every:3", "attention"] as const) {
        const actual = await step(gpu, own, { precision, checkpointing }, window);
        assertSame(actual, expected, checkpointing, 1e-6);
      }
    });
  }

  gpuTest(`packing leaves DoRA's gradients: ${name}`, async (gpu) => {
    const own = { ...lora, dropout: 0 }, precision = "fp32";
    const expected = await step(gpu, own, { precision, packing: false });
    for (const share_prefixes of [false, true]) {
      const actual = await step(gpu, own, { precision, packing: true, share_prefixes });
      assertSame(actual, expected, `shared ${share_prefixes}`, 1e-5);
    }
  });
}
