/**
 * The project's own checkpointing: what every mode keeps and runs again by the plan for LLaMA-2 7B, and
 * the same counted from the launches of a training step of the built-in model.
 *
 *     ./lorikeet deno run --allow-read --allow-sys=systemMemoryInfo examples/study/checkpoint_plan.ts
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import { planMode } from "../../bench/memory.ts";
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import { presetConfig } from "../../model/families/presets.ts";
import { activationPlan, inferencePlan } from "../../model/transformer/checkpointing.ts";
import { openBuiltin } from "./builtin_run.ts";
import { launchesOf } from "./launches.ts";
import { grouped, table } from "./numbers.ts";

/** Modes in the order of what they keep. */
const MODES = ["none", "every:8", "sqrt", "every:4", "every:2", "block"];

/** Programs of attention's forward pass, on GPUs and on software drivers. */
const ATTENTION = /^attention(_unstaged)?\(/;

/** The plan's side, for 32 blocks, and how many an inference pass keeps. */
export function planLines(): string[] {
  const { num_hidden_layers: blocks } = presetConfig("llama2-7b");
  const rows = MODES.map((mode) => {
    const { counts } = activationPlan(mode, blocks);
    const { memory_mb, recomputed } = planMode(mode);
    return [
      mode,
      ...[counts.residual, counts.inner, recomputed.blocks].map(String),
      grouped(memory_mb.activation, 1),
    ];
  });
  const { counts } = inferencePlan(blocks);
  return table([
    ["mode", "residual streams", "insides of blocks", "blocks run again", "activations, MB"],
    ...rows,
    ["(inference)", ...[counts.residual, counts.inner, 0].map(String), ""],
  ]);
}

/** A mode of the built-in model. */
export interface CountedMode {
  mode: string;
  /** Blocks that run again, by the plan. */
  planned: number;
  /** Launches of attention's forward kernel in one micro-batch. */
  attentions: number;
}

/** Counts the attentions of one micro-batch of the built-in model's four blocks in each mode. */
export async function countModes(gpu: Gpu): Promise<CountedMode[]> {
  const counted: CountedMode[] = [];
  for (const mode of ["none", "sqrt", "block"] as const) {
    const { trainer, windows } = await openBuiltin(gpu, {
      samples: 1,
      gradient_accumulation_steps: 1,
      checkpointing: mode,
    });
    const blocks = trainer.model.config.num_hidden_layers;
    const { segments } = activationPlan(mode, blocks);
    const launches = await launchesOf(
      gpu,
      () => trainer.step(gpu, windows[0], { learningRate: 0, firstMicroBatch: 0 }),
    );
    const attentions = launches.filter(({ key }) => ATTENTION.test(key)).length;
    counted.push({ mode, planned: blocks - present(segments.at(-1), "segment").count, attentions });
  }
  return counted;
}

/** What the study guide quotes of the launches. */
export function countedLines(modes: readonly CountedMode[]): string[] {
  return table([
    ["mode", "attentions run forward", "blocks run again by the plan"],
    ...modes.map(({ mode, planned, attentions }) => [mode, String(attentions), String(planned)]),
  ]);
}

if (import.meta.main) {
  const gpu = await openGpu();
  console.log([...planLines(), "", ...countedLines(await countModes(gpu))].join("\n"));
  gpu.close();
}
