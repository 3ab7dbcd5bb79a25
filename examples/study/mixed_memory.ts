/**
 * What mixed precision does to the memory of fine-tuning LLaMA-2 7B, counted by the planner: nothing
 * is allocated and no GPU is used.
 *
 *     ./lorikeet deno run examples/study/mixed_memory.ts
 *
 * @module
 */
import { CATEGORIES, megabytes, type MemoryTable } from "../../kernels/gpu/memory.ts";
import { planMemory } from "../../model/transformer/capacity.ts";
import { presetConfig } from "../../model/families/presets.ts";
import { makeTrainConfig } from "../../train/config/config.ts";
import { Trainer } from "../../train/trainer.ts";
import { grouped, table } from "./numbers.ts";

/** Bytes of one kind of run. */
export interface RunMemory {
  categories: MemoryTable;
  total: number;
}

const LIMITS = { maxBufferSize: Infinity };

/** Plans one micro-batch of so many tokens, half of them targets. */
export function planRun(
  precision: "fp32" | "mixed",
  lora: "on" | "off",
  tokens: number,
): RunMemory {
  const config = makeTrainConfig({
    model: "random:llama2-7b",
    precision,
    lora: lora === "on",
  });
  const sizes = { maxTokens: tokens, maxTargets: tokens / 2, maxPosition: tokens };
  const { peak, peakTotal } = planMemory(
    LIMITS,
    (memory) =>
      new Trainer(memory, presetConfig("llama2-7b"), { config, sizes, maxBinding: 2 ** 31 }),
  );
  return { categories: peak, total: peakTotal };
}

const KINDS = [{ name: "all weights, AdamW", lora: "off" }, { name: "LoRA", lora: "on" }] as const;
/** One sample of Alpaca, a full context of LLaMA-2, and eight of those in one row. */
export const ROWS = [128, 4096, 32768];

/** Memory in MB of both precisions, by category, for every kind of run. */
export function memoryLines(): string[] {
  const rows = KINDS.flatMap(({ name, lora }) =>
    ROWS.flatMap((tokens) => {
      const [single, mixed] = (["fp32", "mixed"] as const).map((p) => planRun(p, lora, tokens));
      const row = (label: string, { categories, total }: RunMemory, ratio: string) => [
        label,
        ...CATEGORIES.map((category) => grouped(megabytes(categories[category]))),
        grouped(megabytes(total)),
        ratio,
      ];
      return [
        row(`${name}, ${grouped(tokens)} tokens, fp32`, single, ""),
        row("  mixed", mixed, (mixed.total / single.total).toFixed(3)),
      ];
    })
  );
  return table([["", ...CATEGORIES, "total", "ratio"], ...rows]);
}

/** Bytes a trained or frozen parameter takes, from the plans of a run. */
export function bytesPerParameter(
  precision: "fp32" | "mixed",
): { trained: number; frozen: number } {
  // Only the base model: weights and adapters' parts of a category are told apart by subtraction.
  const base = 6_738_415_616, adapters = 8_388_608;
  const full = planRun(precision, "off", 128).categories;
  const lora = planRun(precision, "on", 128).categories;
  return {
    trained: (full.parameter + full.gradient + full.optimizer) / base,
    frozen: (lora.parameter - 4 * adapters) / base,
  };
}

/** What the study guide quotes of bytes a parameter. */
export function parameterLines(): string[] {
  const rows = (["fp32", "mixed"] as const).map((precision) => {
    const { trained, frozen } = bytesPerParameter(precision);
    return [precision, trained.toFixed(2), frozen.toFixed(2)];
  });
  return table([["bytes a parameter", "trained with AdamW", "frozen"], ...rows]);
}

if (import.meta.main) console.log([...parameterLines(), "", ...memoryLines()].join("\n"));
