/**
 * What quantised weights do to the memory of fine-tuning, counted by the planner for the longest of Alpaca's first
 * samples: nothing is allocated and no GPU is used.
 *
 *     ./lorikeet deno run examples/study/quantized_memory.ts
 *
 * @module
 */
import { LONGEST } from "../../bench/samples.ts";
import { megabytes, type MemoryTable } from "../../kernels/gpu/memory.ts";
import { presetConfig } from "../../model/families/presets.ts";
import { planMemory } from "../../model/transformer/capacity.ts";
import { makeTrainConfig } from "../../train/config/config.ts";
import { Trainer } from "../../train/trainer.ts";
import { grouped, table } from "./numbers.ts";

const LIMITS = { maxBufferSize: Infinity };

/** A run with LoRA on q and v in mixed precision. */
export interface QuantizedPlan {
  model: string;
  quantization: "none" | "int8" | "nf4";
  checkpointing: "none" | "block";
}

/** Bytes by category at the peak, and of all. */
export function planQuantized(
  { model, quantization, checkpointing }: QuantizedPlan,
): { peak: MemoryTable; total: number } {
  const config = makeTrainConfig({ model: `random:${model}`, quantization, checkpointing });
  const sizes = {
    maxTokens: LONGEST.tokens,
    maxTargets: LONGEST.targets,
    maxPosition: LONGEST.tokens,
  };
  const { peak, peakTotal } = planMemory(
    LIMITS,
    (memory) => new Trainer(memory, presetConfig(model), { config, sizes, maxBinding: 2 ** 31 }),
  );
  return { peak, total: peakTotal };
}

/** The runs of LLaMA-2 7B, and one each of the larger models. */
export const PLANS: readonly QuantizedPlan[] = [
  ...(["none", "block"] as const).flatMap((checkpointing) =>
    (["none", "int8", "nf4"] as const).map((quantization) => (
      { model: "llama2-7b", quantization, checkpointing }
    ))
  ),
  ...["llama2-13b", "llama2-70b"].map((model) => (
    { model, quantization: "nf4", checkpointing: "block" } as const
  )),
];

/** What the study guide quotes, in MB. */
export function memoryLines(): string[] {
  const rows = PLANS.map((plan) => {
    const { peak, total } = planQuantized(plan);
    const numbers = [peak.parameter, peak.gradient + peak.optimizer, peak.activation, total];
    return [
      plan.model,
      plan.quantization,
      plan.checkpointing,
      ...numbers.map((bytes) => grouped(megabytes(bytes))),
    ];
  });
  const head = ["model", "quantization", "checkpointing", "weights", "training's", "activations"];
  return table([[...head, "total"], ...rows]);
}

if (import.meta.main) console.log(memoryLines().join("\n"));
