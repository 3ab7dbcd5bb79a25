/**
 * Training steps of the course's run: LLaMA-2 7B's shapes, LoRA on q and v, 200 samples as long as Alpaca's
 * first ones. With `--tokens` instead one packed row of so many tokens a step: how time and memory grow.
 *
 * @module
 */
import { present } from "../kernels/present.ts";
import { storageOf } from "../model/transformer/modes.ts";
import { z } from "zod";
import { UsageError } from "../kernels/errors.ts";
import { openGpu } from "../kernels/gpu/gpu.ts";
import type { MemoryTable } from "../kernels/gpu/memory.ts";
import { profileLines } from "../kernels/gpu/profiler.ts";
import { limitOf, type Roofs } from "../kernels/gpu/roofline.ts";
import { reasonOf } from "../kernels/ops/matmul/tuned.ts";
import { measureRoofs } from "../kernels/measure/roofs.ts";
import { noteLine, printJson, printLine } from "../kernels/terminal.ts";
import { DoesNotFit } from "../model/transformer/capacity.ts";
import { command, parseFlags } from "../cli/command_line.ts";
import { flag, text, whole, worded } from "../cli/settings.ts";
import { makeTrainConfig } from "../train/config/config.ts";
import { loraSchema, trainSchema } from "../train/config/schema.ts";
import { defaultModel, modelFlag } from "./default_model.ts";
import { benchScaling, plotScaling, scalingLines } from "./scaling.ts";
import { openSamples } from "./train_samples.ts";
import { type Bench, runBench, type TrainProfile, type TrainResult } from "./train_run.ts";

const { shape } = trainSchema;
const schema = z.strictObject({
  model: modelFlag,
  layers: shape.layers,
  data: text("file", "a JSON, JSON Lines, CSV, TSV or Parquet file, or builtin").optional()
    .describe(
      "Samples; without it random tokens, as many to a sample as Alpaca's first 200 have.",
    ),
  tokenizer: shape.tokenizer,
  samples: whole(1).default(200).describe("Number of samples."),
  max_length: shape.max_length,
  precision: shape.precision,
  exact_products: shape.exact_products,
  quantization: shape.quantization,
  double_quantization: shape.double_quantization,
  quantization_skip: shape.quantization_skip,
  checkpointing: shape.checkpointing,
  lora: flag().default(true).describe("LoRA of rank 16; off trains all weights."),
  targets: loraSchema.shape.targets,
  optimizer: shape.optimizer,
  learning_rate: shape.learning_rate,
  packing: shape.packing,
  share_prefixes: shape.share_prefixes,
  batch_size: shape.batch_size,
  gradient_accumulation_steps: shape.gradient_accumulation_steps,
  tokens: worded(z.array(z.int().min(2)).min(2), "integers", "two or more whole numbers from 2 up")
    .optional().describe("Time and memory of steps of so many tokens, in place of the run."),
  plot: text("file", "an .svg file to write").optional().describe(
    "Write a plot of time and memory against --tokens.",
  ),
  profile: flag().default(false).describe("Then measure a few steps again, by program."),
  ignore_plan: flag().default(false).describe(
    "Try to allocate what the plan says does not fit, so that the driver tells (not without a GPU).",
  ),
  gpu: shape.gpu,
  json: flag().default(false).describe("Print one JSON object."),
});
type Flags = z.output<typeof schema>;

const TRAIN = command(
  "bench train",
  "[--flag value ...]",
  "Times the training steps of the course's run, or steps of several numbers of tokens.",
  schema,
);

/** What is wrong with flags that are right by themselves. */
function conflicts({ tokens, plot, profile, data }: Partial<Flags>): string[] {
  const problems: string[] = [];
  if (plot !== undefined && tokens === undefined) {
    problems.push("--plot draws time and memory against --tokens; expected --tokens too");
  }
  const other = profile ? "--profile" : data !== undefined ? "--data" : undefined;
  if (other !== undefined && tokens !== undefined) {
    problems.push(`${other} and --tokens exclude each other; expected one of them`);
  }
  return problems;
}

/** Lines of the table's head: what was measured. */
function headLines({ gpu, source, config, roofs }: Bench): string[] {
  const { precision, quantization, checkpointing, lora, optimizer } = config;
  const base = quantization === "none" ? "" : `, weights in ${quantization}`;
  const trained = lora
    ? `LoRA of rank ${lora.rank} on ${[lora.targets].flat().join(", ")}`
    : "all weights";
  return [
    `${source.name}, ${source.config.num_hidden_layers} blocks, ${precision}${base}, ${trained}, ` +
    `${optimizer}, checkpointing ${checkpointing}, packing ` +
    `${config.packing ? "on" : "off"}, on ${gpu.name} (${gpu.provider}: ${reasonOf(gpu)})`,
    roofLine(roofs),
  ];
}

/** What times are compared with. */
function roofLine({ bandwidth, matmul }: Roofs): string {
  return `Roofs: copy ${(bandwidth / 1e9).toFixed(1)} GB/s, best matrix product ` +
    `${(matmul / 1e12).toFixed(3)} TFLOP/s`;
}

function resultLines(result: TrainResult): string[] {
  const { samples, tokens, steps, seconds, useful_tflop, useful_tflops_per_second } = result;
  const skipped = result.skipped_steps > 0 ? `, ${result.skipped_steps} steps skipped` : "";
  const sharing = result.shared_tokens > 0 ? `, ${result.shared_tokens} shared` : "";
  return [
    `${samples} samples, ${tokens} tokens${sharing}, ${steps} steps: ${seconds.toFixed(2)} s, ` +
    `${result.tokens_per_second.toFixed(0)} tokens/s; median step ` +
    `${(1000 * result.median_step_seconds).toFixed(1)} ms`,
    `${useful_tflop.toPrecision(4)} TFLOP needed: ${
      useful_tflops_per_second.toFixed(3)
    } TFLOP/s, ` +
    `${(100 * result.of_matmul).toFixed(1)} % of the best matrix product`,
    `Peak memory ${result.peak_memory_mb.toFixed(1)} MB; loss ` +
    `${result.first_loss.toFixed(4)} first, ${
      result.last_loss.toFixed(4)
    } last${skipped}; ${result.programs} programs compiled in ` +
    `${result.compile_seconds.toFixed(2)} s before it`,
  ];
}

function profiledLines(profile: TrainProfile): string[] {
  const { steps, unprofiledSeconds } = profile;
  return [
    `The first ${steps} steps by program; without measuring it they took ` +
    `${(1000 * unprofiledSeconds).toFixed(2)} ms:`,
    ...profileLines(profile),
  ];
}

function profileJson({ rows, roofs, ...profile }: TrainProfile): Record<string, unknown> {
  return {
    steps: profile.steps,
    unprofiled_seconds: profile.unprofiledSeconds,
    wall_seconds: profile.wallSeconds,
    submissions: profile.submissions.length,
    between_launches_seconds: profile.gaps.inside,
    between_submissions_seconds: profile.gaps.between,
    programs: rows.map((row) => {
      const { roof, share } = limitOf(row, present(roofs, "roofs of the GPU"));
      return { ...row, roof, of_roof: share };
    }),
  };
}

/** The run's configuration: that of `lorikeet train` with the same flags. */
function configOf(flags: Flags, model: string): Bench["config"] {
  const { precision, exact_products, packing, share_prefixes, batch_size } = flags;
  const { gradient_accumulation_steps, optimizer, learning_rate } = flags;
  const { checkpointing, lora, targets } = flags;
  const { quantization, double_quantization, quantization_skip } = flags;
  return {
    ...makeTrainConfig({ model, checkpointing, lora: lora && { targets } }),
    precision,
    exact_products,
    quantization,
    double_quantization,
    quantization_skip,
    packing,
    share_prefixes,
    batch_size,
    gradient_accumulation_steps,
    optimizer,
    learning_rate,
  };
}

/** A run that was refused for memory, as JSON; bytes. */
export interface Refused {
  refused: {
    by: DoesNotFit["by"];
    needed: MemoryTable;
    total: number;
    available?: number;
  };
}

/** Runs the bench and prints a table, or JSON. */
export async function benchTrain(args: string[]): Promise<void> {
  const flags = parseFlags(TRAIN, args, conflicts);
  try {
    await run(flags);
  } catch (error) {
    if (flags.json && error instanceof DoesNotFit) {
      const { by, needed, total, available } = error;
      const refused: Refused = { refused: { by, needed, total, available } };
      printJson(refused, 2);
    }
    throw error;
  }
}

async function run(flags: Flags): Promise<void> {
  const { json, tokens, plot, profile, ignore_plan: ignorePlan } = flags;
  const gpu = await openGpu({ provider: flags.gpu, precision: flags.precision, profile });
  if (ignorePlan && gpu.software) {
    throw new UsageError(
      "--ignore-plan needs a GPU: without one, memory that isn't there is handed out all the same",
    );
  }
  const model = flags.model ?? await defaultModel(gpu);
  const { source, samples } = await openSamples(
    { ...flags, model },
    json ? () => {} : noteLine,
  );
  if (gpu.profiler) gpu.profiler.granularity = "nothing";
  const roofs = await measureRoofs(gpu, storageOf(flags.precision));
  if (gpu.profiler) gpu.profiler.roofs = roofs;
  const config = configOf(flags, model), { precision, quantization, lora, optimizer } = config;
  const bench: Bench = { gpu, source, config, roofs, ignorePlan };
  const common = {
    gpu: gpu.name,
    provider: gpu.provider,
    model,
    precision,
    quantization,
    lora: lora !== false,
    optimizer,
    checkpointing: config.checkpointing,
    packing: config.packing,
    roofs: {
      copy_gigabytes_per_second: roofs.bandwidth / 1e9,
      matmul_tflops_per_second: roofs.matmul / 1e12,
    },
  };
  if (tokens !== undefined) {
    const scaling = await benchScaling(bench, tokens);
    if (plot !== undefined) {
      await plotScaling(plot, `Training step: ${model}, ${config.precision}, ${gpu.name}`, scaling);
    }
    if (json) printJson({ ...common, ...scaling }, 2);
    else printLine([...headLines(bench), ...scalingLines(scaling)].join("\n"));
  } else {
    const { result, profile } = await runBench(bench, samples);
    if (json) {
      const programs = profile && { profile: profileJson(profile) };
      printJson({ ...common, ...result, ...programs }, 2);
    } else {
      const lines = [...headLines(bench), ...resultLines(result)];
      if (profile) lines.push("", ...profiledLines(profile));
      printLine(lines.join("\n"));
    }
  }
  gpu.close();
}
