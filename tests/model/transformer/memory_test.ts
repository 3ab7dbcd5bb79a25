/** Planned against allocated memory, the refusal of what can't fit, and tensors too large to bind. */
import assert from "node:assert/strict";
import { UserError } from "../../../kernels/errors.ts";
import { FIXED_WORKSPACE, openGpu } from "../../../kernels/gpu/gpu.ts";
import { CATEGORIES, Memory, type MemoryTable } from "../../../kernels/gpu/memory.ts";
import { checkFits, planMemory } from "../../../model/transformer/capacity.ts";
import { LINEAR_MODULES, type LinearModule } from "../../../model/families/linear_modules.ts";
import { loadWeights } from "../../../model/checkpoint/load.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { PassPlanner, type RunSizes } from "../../../train/planner.ts";
import { Trainer } from "../../../train/trainer.ts";
import { fixturePath } from "../../fixtures.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { withMaxBinding } from "../../kernels/small_binding.ts";
import {
  deviation,
  gradients,
  openTrainer,
  randomSamples,
  randomSubject,
  type Settings,
  SMALL_CONFIG,
  trainConfig,
} from "../../train/runs.ts";

const MODULES = Object.keys(LINEAR_MODULES) as LinearModule[];
const FULL = randomSubject(SMALL_CONFIG);
const LORA = randomSubject(SMALL_CONFIG, { rank: 6, alpha: 12, targets: MODULES });
const SIZES: RunSizes = { maxTokens: 77, maxTargets: 53, maxPosition: 41 };

/** On a quantised base: rows of 44 values are no multiple of the 32 that share a scale of int8. */
const QUANTIZED: readonly Settings[] = [
  { precision: "mixed", quantization: "nf4" },
  { precision: "fp32", quantization: "nf4", double_quantization: false, checkpointing: "block" },
  { precision: "mixed", quantization: "int8", quantization_skip: ["down_proj"] },
];

function difference(after: MemoryTable, before: MemoryTable): MemoryTable {
  return Object.fromEntries(CATEGORIES.map((c) => [c, after[c] - before[c]])) as MemoryTable;
}

for (const [what, subject] of Object.entries({ LoRA: LORA, full: FULL })) {
  const variants: Settings[] = [
    { precision: "fp32" },
    { precision: "mixed" },
    { precision: "mixed", checkpointing: "block", optimizer: "sgd" },
    { precision: "fp32", checkpointing: "attention", gradient_accumulation_steps: 5 },
    ...what === "LoRA" ? QUANTIZED : [],
  ];
  for (const settings of variants) {
    gpuTest(`the plan is what is allocated: ${what}, ${JSON.stringify(settings)}`, async (gpu) => {
      const config = trainConfig(subject, settings);
      const make = (memory: Memory) =>
        new Trainer(memory, subject.config, { config, sizes: SIZES, maxBinding: gpu.maxBinding });
      const plan = new Memory(undefined, gpu.memory.limits);
      make(plan);
      const before = gpu.memory.live;
      make(gpu.memory);
      assert.deepEqual(difference(gpu.memory.live, before), plan.live);
      assert.deepEqual(plan.peak, plan.live);
      assert.equal(plan.peakTotal, Object.values(plan.live).reduce((a, b) => a + b));
      for (const category of CATEGORIES) {
        const none = category === "optimizer" && settings.optimizer === "sgd";
        assert.equal(plan.live[category] === 0, none, category);
      }
      await gpu.finish();
    });
  }
}

for (const quantization of ["none", "nf4"] as const) {
  gpuTest(`a run's whole peak stays within its plan, quantization ${quantization}`, async () => {
    const gpu = await openGpu();
    const source = openModel(fixturePath("llama"));
    const lora = quantization === "none" ? {} : LORA;
    const config = trainConfig(lora, { precision: "mixed", quantization });
    const window = [randomSamples(source.config, [21, 9])];
    const make = (memory: Memory) =>
      new Trainer(memory, source.config, {
        config,
        sizes: new PassPlanner().sizes([window]),
        maxBinding: gpu.maxBinding,
      });
    const trainer = make(gpu.memory);
    trainer.model.initialize(gpu);
    await loadWeights(gpu, trainer.model, source, { seed: 1 });
    await trainer.step(gpu, window, { learningRate: 1e-3, firstMicroBatch: 0 });
    const { peak, peakTotal } = planMemory(gpu.memory.limits, make);
    for (const category of CATEGORIES) {
      const actual = gpu.memory.peak[category];
      if (category !== "workspace") assert.equal(actual, peak[category], category);
      // The staging buffer for reading back is made only after the uploads. Adapters' sums are not split here.
      else assert.ok(actual <= peak[category]);
      if (quantization === "none") assert.ok(actual > peak[category] - FIXED_WORKSPACE);
    }
    assert.ok(gpu.memory.peakTotal <= peakTotal);
    gpu.close();
  });
}

Deno.test("what can't fit is refused with a table of need against have", () => {
  const plan = new Memory();
  plan.buffer("parameter", "weights", 3 * 2 ** 20);
  plan.buffer("activation", "residual", 2 ** 20);
  checkFits(plan, 4 * 2 ** 20, "less");
  checkFits(plan, undefined, "less");
  assert.throws(
    () => checkFits(plan, 4 * 2 ** 20 - 1, "try --layers 1"),
    (error) => {
      assert.ok(error instanceof UserError);
      const lines = error.message.split("\n").map((line) => line.trim().replace(/\s+/g, " "));
      assert.deepEqual(lines, [
        "this run does not fit the GPU's memory; it needs",
        "parameter 3.0 MB",
        "activation 1.0 MB",
        "gradient 0.0 MB",
        "optimizer 0.0 MB",
        "workspace 0.0 MB",
        "total 4.0 MB",
        "there is 4.0 MB",
        "Less memory: try --layers 1",
      ]);
      return true;
    },
  );
});

gpuTest("a buffer larger than the adapter allows is refused while planning", async (gpu) => {
  const plan = new Memory(undefined, gpu.memory.limits);
  const most = gpu.memory.limits.maxBufferSize;
  assert.throws(
    () => plan.tensor("parameter", "embedding", "f32", [most / 4 + 4]),
    (error) =>
      error instanceof UserError && /"embedding" needs .* adapter allows/.test(error.message),
  );
  await gpu.finish();
});

gpuTest(
  "activations too large to bind are refused while planning, weights are not",
  async (gpu) => {
    const small = { ...gpu.memory.limits, maxBinding: 4096 };
    const plan = new Memory(undefined, small);
    for (const category of ["parameter", "gradient", "optimizer"] as const) {
      assert.equal(plan.tensor(category, "matrix", "f32", [64, 32]).size, 2048);
    }
    assert.equal(plan.tensor("activation", "fits", "f16", [64, 32]).size, 2048);
    for (const category of ["activation", "workspace"] as const) {
      assert.throws(() => plan.tensor(category, "gate", "f32", [64, 32]), {
        name: "UserError",
        message:
          '"gate" [64,32] needs 0.007813 MB in one binding, and this adapter allows 0.003906 MB; ' +
          "expected fewer tokens in one pass (a smaller micro-batch, shorter samples or prompts)",
      });
    }
    const sizes = { ...SIZES, maxTokens: 4000 };
    const make = (memory: Memory) =>
      new Trainer(memory, FULL.config, {
        config: trainConfig(FULL),
        sizes,
        maxBinding: small.maxBinding,
      });
    assert.throws(() => planMemory(small, make), /in one binding, and this adapter allows/);
    await gpu.finish();
  },
);

Deno.test("losses take no more room than the longest window has micro-batches", () => {
  const sizes = { ...SIZES, maxMicroBatches: 3 };
  const config = trainConfig(FULL, { gradient_accumulation_steps: 2 ** 40 });
  assert.equal(
    new Trainer(new Memory(), FULL.config, { config, sizes, maxBinding: Infinity }).model.losses
      .size,
    3,
  );
});

Deno.test("more tokens than a dispatch has workgroups are refused while planning", () => {
  const sizes = { ...SIZES, maxTokens: 65536 };
  assert.throws(
    () =>
      new Trainer(new Memory(), FULL.config, {
        config: trainConfig(FULL),
        sizes,
        maxBinding: Infinity,
      }),
    /a pass over 65536 tokens exceeds the 65535 that kernels take; expected fewer/,
  );
});

/** Rows of 256 bytes in f32, of 128 in f16: parts of them need not end at a multiple of 4 rows. */
const WIDE = {
  ...SMALL_CONFIG,
  vocab_size: 259,
  hidden_size: 64,
  intermediate_size: 260,
  num_key_value_heads: 2,
  head_dim: 16,
};
/** The largest activation, gate and up [24, 520], fits; no more than 4/5 of an MLP weight does. */
const MAX_BINDING = { fp32: 50_000, mixed: 26_000 };

for (const lora of [true, false]) {
  for (const precision of ["fp32", "mixed"] as const) {
    const what = `${lora ? "LoRA" : "full"}, ${precision}`;
    gpuTest(`weights too large to bind give the same step: ${what}`, async (gpu) => {
      const adapter = { rank: 4, alpha: 8, targets: MODULES };
      const subject = randomSubject(WIDE, lora ? adapter : undefined);
      const window = [randomSamples(WIDE, [15, 9]), randomSamples(WIDE, [20], 5)];
      const settings: Settings = {
        precision,
        initial_loss_scale: 256,
        gradient_accumulation_steps: 2,
        max_grad_norm: 1,
      };
      const step = { learningRate: 1e-3, firstMicroBatch: 0 };
      const whole = openTrainer(gpu, subject, [window], settings);
      const expected = [await whole.step(gpu, window, step), await whole.step(gpu, window, step)];
      const gradient = await gradients(gpu, whole);
      // Parts of a weight sum over other ranges, which mixed precision rounds to f16.
      const limit = precision === "mixed" ? 1e-2 : 1e-5;
      await withMaxBinding(MAX_BINDING[precision], async (small) => {
        const largest = Math.max(...whole.model.weights.map(({ value }) => value.bytes));
        assert.ok(largest > small.maxBinding);
        const split = openTrainer(small, subject, [window], settings);
        for (const { losses, gradNorm } of expected) {
          const actual = await split.step(small, window, step);
          [...losses, gradNorm].forEach((value, i) => {
            const relative = Math.abs([...actual.losses, actual.gradNorm][i] / value - 1);
            assert.ok(relative <= limit, `loss or norm ${i}: off by ${relative}`);
          });
        }
        for (const [name, values] of await gradients(small, split)) {
          const relative = deviation(values, gradient.get(name)!);
          assert.ok(relative <= limit, `${name}: off by ${relative}`);
        }
      });
    });
  }
}
