/**
 * Memory by category and checkpointing mode, as a run plans it before it starts: nothing is
 * allocated and no GPU is needed.
 *
 * The run is the course's: llama2-7b, LoRA of rank 16 on q and v, mixed precision, one sample at a
 * time, and the longest of Alpaca's first 200 samples.
 *
 * @module
 */
import { UserError } from "../kernels/errors.ts";
import { CATEGORIES, megabytes, type MemoryTable } from "../kernels/gpu/memory.ts";
import { ALIGNMENT } from "../kernels/gpu/tensor.ts";
import { printJson, printLine } from "../kernels/terminal.ts";
import { planMemory } from "../model/transformer/capacity.ts";
import type { ModelConfig } from "../model/families/config.ts";
import { presetConfig } from "../model/families/presets.ts";
import { type ActivationPlan, activationPlan } from "../model/transformer/checkpointing.ts";
import { type LoraSettings, makeTrainConfig } from "../train/config/config.ts";
import type { RunSizes } from "../train/planner.ts";
import { Trainer } from "../train/trainer.ts";
import { LONGEST } from "./samples.ts";
import { tableLines } from "./text_table.ts";

const MODEL = "llama2-7b";
/** Checkpointing modes, the more blocks in a segment the earlier. */
export const MODES = ["none", "attention", "every:8", "sqrt", "every:4", "every:2", "block"];
const { tokens, targets } = LONGEST;
const SIZES: RunSizes = { maxTokens: tokens, maxTargets: targets, maxPosition: tokens };
/** What every WebGPU adapter binds at once. Adapters' limits decide no size of this run. */
const MAX_BINDING = 2 ** 27;
const LIMITS = { maxBufferSize: Infinity, maxBinding: MAX_BINDING };
/** Tensors that are activations: of a block's attention, of the rest of a block, of the residual. */
const TENSORS = { attention: 4, inner: 4, residual: 1 };

/** One line of the result; memory in MB (2^20 bytes). */
interface Row {
  checkpointing: string;
  /** Blocks, or attentions alone, that run forward again before their backward. */
  recomputed: { blocks: number; attentions: number };
  memory_mb: MemoryTable;
  total_mb: number;
}

/**
 * Bytes of activations a token, in closed form: f16 q, k, v, attention's output, gate and up; f32
 * log-sum-exp of each head, both norms' 1/rms, what comes out of the adapters' A, and the residual stream
 * before and inside the block.
 */
function activationBytesPerToken(
  config: ModelConfig,
  plan: ActivationPlan,
  { rank, targets }: LoraSettings,
): number {
  const { hidden_size, intermediate_size, head_dim } = config;
  const heads = config.num_attention_heads, kvHeads = config.num_key_value_heads;
  const attention = 2 * (2 * heads + 2 * kvHeads) * head_dim + 4 * heads +
    4 * rank * targets.length;
  const inner = 2 * 2 * intermediate_size + 4 * hidden_size + 2 * 4;
  const residual = 4 * hidden_size;
  const { counts } = plan;
  return counts.attention * attention + counts.inner * inner + counts.residual * residual;
}

function recomputed(plan: ActivationPlan, blocks: number): Row["recomputed"] {
  if (plan.recomputeAttention) return { blocks: 0, attentions: blocks };
  // The forward pass leaves the last segment's activations in place.
  return { blocks: blocks - plan.segments[plan.segments.length - 1].count, attentions: 0 };
}

/**
 * The plan of one mode.
 *
 * @throws {UserError} where its activations are not what the closed form says.
 */
export function planMode(mode: string): Row {
  const config = presetConfig(MODEL);
  const settings = makeTrainConfig({ model: `random:${MODEL}`, checkpointing: mode });
  const { peak, peakTotal } = planMemory(
    LIMITS,
    (memory) =>
      new Trainer(memory, config, { config: settings, sizes: SIZES, maxBinding: MAX_BINDING }),
  );
  const plan = activationPlan(mode, config.num_hidden_layers);
  const lora = settings.lora as LoraSettings;
  const expected = SIZES.maxTokens * activationBytesPerToken(config, plan, lora);
  const { counts } = plan;
  const tensors = counts.attention * TENSORS.attention + counts.inner * TENSORS.inner +
    counts.residual * TENSORS.residual;
  const padding = peak.activation - expected;
  if (!(padding >= 0 && padding <= tensors * ALIGNMENT)) {
    throw new UserError(`checkpointing ${mode}: ${peak.activation} bytes planned, not ${expected}`);
  }
  const table = Object.fromEntries(CATEGORIES.map((c) => [c, megabytes(peak[c])])) as MemoryTable;
  return {
    checkpointing: mode,
    recomputed: recomputed(plan, config.num_hidden_layers),
    memory_mb: table,
    total_mb: megabytes(peakTotal),
  };
}

function again({ blocks, attentions }: Row["recomputed"]): string {
  return attentions > 0 ? `${attentions} attentions` : `${blocks} blocks`;
}

/** Runs the bench and prints a table, or JSON. */
export function benchMemory(json: boolean): void {
  const rows = MODES.map(planMode);
  if (json) {
    printJson({ model: MODEL, tokens: SIZES.maxTokens, rows }, 2);
    return;
  }
  printLine(
    `${MODEL}, LoRA of rank 16 on q and v, mixed precision, ${SIZES.maxTokens} tokens at a time; ` +
      "planned, in MB",
  );
  const lines = rows.map((row) => {
    const numbers = [...CATEGORIES.map((c) => row.memory_mb[c]), row.total_mb];
    const share = `${(100 * row.total_mb / rows[0].total_mb).toFixed(1)} %`;
    const cells = numbers.map((number) => number.toFixed(1));
    return [row.checkpointing, ...cells, share, again(row.recomputed)];
  });
  const head = ["mode", ...CATEGORIES, "total", "of none", "run again"];
  printLine(tableLines([head, ...lines], false).join("\n"));
}
