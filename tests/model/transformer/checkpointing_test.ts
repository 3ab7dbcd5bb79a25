/** Gradient checkpointing: the plan as a table, and the same losses and gradients in every mode. */
import assert from "node:assert/strict";
import { UserError } from "../../../kernels/errors.ts";
import { Memory } from "../../../kernels/gpu/memory.ts";
import { loraPlan } from "../../../model/adapter/plan.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { LINEAR_MODULES, type LinearModule } from "../../../model/families/linear_modules.ts";
import { numericsOf, trainMode } from "../../../model/transformer/modes.ts";
import { Llama } from "../../../model/transformer/llama.ts";
import { type ActivationPlan, activationPlan } from "../../../model/transformer/checkpointing.ts";
import type { TrainConfig } from "../../../train/config/schema.ts";
import { gpuTest } from "../../kernels/harness.ts";
import {
  deviation,
  gradients,
  openTrainer,
  randomSamples,
  randomSubject,
  SMALL_CONFIG,
} from "../../train/runs.ts";

const MODES: TrainConfig["checkpointing"][] = [
  "none",
  "block",
  "sqrt",
  "every:2",
  "every:7",
  "attention",
];
const DEPTHS = [1, 2, 3, 5, 32];

/**
 * Runs a plan's passes with labels instead of activations and checks that every block finds in the
 * buffers what belongs to it.
 */
function dryRun(plan: ActivationPlan, blocks: number): void {
  const residual: number[] = [], attention: number[] = [], inner: number[] = [];
  const forward = (b: number, writesOutput: boolean) => {
    assert.equal(residual[plan.residual[b]], b, `block ${b} forward reads another's input`);
    attention[plan.attention[b]] = b;
    inner[plan.inner[b]] = b;
    if (writesOutput) residual[plan.residual[b + 1]] = b + 1;
  };
  residual[plan.residual[0]] = 0;
  for (let b = 0; b < blocks; b++) forward(b, true);
  assert.equal(residual[plan.residual[blocks]], blocks);
  for (const { first, count } of plan.segments.toReversed()) {
    const last = first + count - 1;
    if (last < blocks - 1) { for (let b = first; b <= last; b++) forward(b, b < last); }
    for (let b = last; b >= first; b--) {
      assert.equal(residual[plan.residual[b]], b, `block ${b} backward reads another's input`);
      if (!plan.recomputeAttention) assert.equal(attention[plan.attention[b]], b);
      assert.equal(inner[plan.inner[b]], b);
    }
  }
  assert.equal(residual.length, plan.counts.residual);
  assert.equal(attention.length, plan.counts.attention);
  assert.equal(inner.length, plan.counts.inner);
}

for (const mode of MODES) {
  Deno.test(`the plan of ${mode} covers every block once and its buffers hold what is read`, () => {
    for (const blocks of DEPTHS) {
      const plan = activationPlan(mode, blocks);
      const covered = plan.segments.flatMap(({ first, count }) =>
        Array.from({ length: count }, (_, i) => first + i)
      );
      assert.deepEqual(covered, [...Array(blocks).keys()], `${blocks} blocks`);
      dryRun(plan, blocks);
    }
  });
}

Deno.test("plans keep as many buffers as their mode says", () => {
  const table: [
    string,
    number,
    segments: number,
    residual: number,
    attention: number,
    inner: number,
  ][] = [
    ["none", 1, 1, 2, 1, 1],
    ["none", 32, 1, 33, 32, 32],
    ["attention", 32, 1, 33, 1, 32],
    ["block", 1, 1, 2, 1, 1],
    ["block", 5, 5, 6, 1, 1],
    ["block", 32, 32, 33, 1, 1],
    // Segment inputs, the inner inputs of one segment, and the result.
    ["sqrt", 2, 1, 3, 2, 2],
    ["sqrt", 3, 2, 4, 2, 2],
    ["sqrt", 5, 2, 5, 3, 3],
    ["sqrt", 32, 6, 12, 6, 6],
    ["every:2", 5, 3, 5, 2, 2],
    ["every:7", 5, 1, 6, 5, 5],
    ["every:7", 32, 5, 12, 7, 7],
  ];
  for (const [mode, blocks, segments, residual, attention, inner] of table) {
    const plan = activationPlan(mode, blocks);
    assert.equal(plan.segments.length, segments, `${mode} ${blocks}`);
    assert.deepEqual(plan.counts, { residual, attention, inner }, `${mode} ${blocks}`);
    assert.equal(plan.recomputeAttention, mode === "attention");
  }
});

Deno.test("unknown checkpointing modes are refused by name", () => {
  for (const mode of ["", "all", "every", "every:", "every:0", "every:1.5", "every:-1", "Block"]) {
    assert.throws(
      () => activationPlan(mode, 4),
      (error) => error instanceof UserError && error.message.includes(`"${mode}"`),
      mode,
    );
  }
});

Deno.test("planned activations of 32 blocks shrink as the modes promise", () => {
  const config = presetConfig("llama2-7b");
  const T = 512;
  const { hidden_size: H, intermediate_size: I, num_attention_heads: heads } = config;
  const planned = (checkpointing: string) => {
    const memory = new Memory();
    const lora = loraPlan(config, { rank: 16, alpha: 32, targets: ["q_proj", "v_proj"] });
    new Llama(memory, {
      config,
      numerics: numericsOf({ precision: "mixed", exact_products: false }),
      lora,
      mode: trainMode({ trained: "adapters", checkpointing, maxTokens: T, maxTargets: T }),
    });
    return memory.peak;
  };
  const modes = Object.fromEntries(MODES.map((mode) => [mode, planned(mode).activation]));
  assert.ok(modes.none > modes.attention && modes.attention > modes.sqrt);
  assert.ok(modes.sqrt > modes.block);
  assert.ok(modes.none > modes["every:7"] && modes["every:7"] > modes["every:2"]);
  // Residual stream f32; q, k, v and output f16 with one f32 sum a head, and f32 dropout(x)·Aᵀ of two
  // adapters; gate and up f16, the middle residual and both 1/rms f32.
  const residual = T * H * 4, attention = T * (4 * H * 2 + heads * 4 + 2 * 16 * 4);
  const inner = T * (2 * I * 2 + H * 4 + 2 * 4);
  assert.equal(modes.none, 33 * residual + 32 * (attention + inner));
  assert.equal(modes.attention, 33 * residual + attention + 32 * inner);
  assert.equal(modes.block, 33 * residual + attention + inner);
  assert.equal(modes.sqrt, 12 * residual + 6 * (attention + inner));
  // Nothing else depends on the mode.
  const others = MODES.map((mode) => ({ ...planned(mode), activation: 0 }));
  for (const other of others) assert.deepEqual(other, others[0]);
});

const CASES = [
  { what: "LoRA with dropout", lora: true, precision: "fp32" },
  { what: "full", lora: false, precision: "fp32" },
  { what: "LoRA with dropout, mixed", lora: true, precision: "mixed" },
] as const;

for (const { what, lora, precision } of CASES) {
  gpuTest(
    `every checkpointing mode gives the losses and gradients of none: ${what}`,
    async (gpu) => {
      const config = { ...SMALL_CONFIG, num_hidden_layers: 5 };
      const targets = Object.keys(LINEAR_MODULES) as LinearModule[];
      const subject = randomSubject(config, lora ? { rank: 6, alpha: 12, targets } : undefined);
      const samples = randomSamples(config, [23, 9, 31, 14]);
      const window = [samples.slice(0, 2), samples.slice(2)];
      let expected: { losses: number[]; gradients: Map<string, Float32Array> } | undefined;
      for (const checkpointing of MODES) {
        const trainer = openTrainer(gpu, subject, [window], {
          precision,
          initial_loss_scale: 256,
          checkpointing,
          gradient_accumulation_steps: 2,
          seed: 7,
          dropout: lora ? 0.1 : 0,
        });
        const { losses } = await trainer.step(gpu, window, { learningRate: 0, firstMicroBatch: 5 });
        const actual = await gradients(gpu, trainer);
        expected ??= { losses, gradients: actual };
        losses.forEach((loss, i) => {
          const relative = Math.abs(loss / expected!.losses[i] - 1);
          assert.ok(relative <= 1e-6, `${checkpointing} loss ${i}: off by ${relative}`);
        });
        assert.equal(actual.size, expected.gradients.size);
        for (const [name, gradient] of actual) {
          const relative = deviation(gradient, expected.gradients.get(name)!);
          assert.ok(relative <= 1e-6, `${checkpointing} ${name}: off by ${relative}`);
          assert.ok(gradient.some((value) => value !== 0), name);
        }
      }
    },
  );
}
