/**
 * Memory of one training step over its launches: how many bytes of each category hold values that are still
 * needed. Without checkpointing the activations pile up until the loss is known (the "blow-up"); a pass of
 * inference keeps none.
 *
 * @module
 */
import type { Memory } from "../../kernels/gpu/memory.ts";
import { loadOnto } from "../../model/session.ts";
import { z } from "zod";
import { UsageError } from "../../kernels/errors.ts";
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import type { Use } from "../../kernels/gpu/work.ts";
import { bytesInUse, lifetimes } from "../../kernels/measure/liveness.ts";
import {
  CATEGORIES,
  type Category,
  megabytes,
  type MemoryTable,
} from "../../kernels/gpu/memory.ts";
import { printJson, printLine } from "../../kernels/terminal.ts";
import { makeBatch } from "../../model/transformer/batch.ts";
import { command, parseFlags } from "../../cli/command_line.ts";
import { flag, text, whole } from "../../cli/settings.ts";
import { loadingBar } from "../../cli/progress.ts";
import { archSpec, contextLength } from "../../model/families/config.ts";
import { widestWindow } from "../../model/transformer/layers.ts";
import { Llama } from "../../model/transformer/llama.ts";
import { numericsOf, scoreMode } from "../../model/transformer/modes.ts";
import { type ModelSource, openModel } from "../../model/checkpoint/source.ts";
import { makeTrainConfig } from "../../train/config/config.ts";
import { trainSchema } from "../../train/config/schema.ts";
import { type AccumulationWindow, PassPlanner } from "../../train/planner.ts";
import { defaultModel, modelFlag } from "../default_model.ts";
import { LONGEST, randomRow } from "../samples.ts";
import { tableLines } from "../text_table.ts";
import { openTrainer } from "../train_run.ts";
import { targetsAfter } from "../../model/text/targets.ts";

const { shape } = trainSchema;
const schema = z.strictObject({
  model: modelFlag,
  layers: shape.layers,
  precision: shape.precision,
  checkpointing: shape.checkpointing,
  lora: flag().default(true).describe("LoRA of rank 16 on q and v; off trains all weights."),
  tokens: whole(2).optional().describe(
    `Tokens of the step's one micro-batch; without it ${LONGEST.tokens}, or the model's context if less.`,
  ),
  inference: flag().default(false).describe("A forward pass alone, as generation makes it."),
  plot: text("file", "an .svg file to write").optional().describe(
    "Write a plot of memory over the launches.",
  ),
  gpu: shape.gpu,
  json: flag().default(false).describe("Print one JSON object."),
});
type Flags = z.output<typeof schema>;

const TIMELINE = command(
  "bench timeline",
  "[--flag value ...]",
  "Memory that holds values still needed, after every launch of one training step.",
  schema,
);

/** Which part of a step a launch belongs to. */
export type Phase = "forward" | "backward" | "optimizer";

/** What is in use after one launch; memory in MB (2^20 bytes). */
export interface TimelinePoint {
  launch: number;
  program: string;
  phase: Phase;
  memory_mb: MemoryTable;
}

/** The timeline of a step, or of a pass of inference. */
export interface Timeline {
  model: string;
  checkpointing: string;
  inference: boolean;
  tokens: number;
  gpu: string;
  provider: string;
  /** All that is allocated, and the most that is in use at one time. */
  allocated_mb: number;
  peak_mb: number;
  points: TimelinePoint[];
}

/** Programs that begin the phases after the forward pass: the loss's gradient, and the sum over all gradients. */
const BACKWARD = "cross_entropy", OPTIMIZER = "sum_of_squares";
/** Categories whose buffers are needed from one step to the next. */
const KEPT: readonly Category[] = ["parameter", "optimizer"];

/** The points of a record of what a device was told, all of it in this device's memory. */
export function timelinePoints(gpu: Pick<Gpu, "memory">, uses: readonly Use[]): TimelinePoint[] {
  const lives = Map.groupBy(lifetimes(uses), ({ buffer }) => gpu.memory.categoryOf(buffer));
  const { live } = gpu.memory;
  const bytes = Object.fromEntries(CATEGORIES.map((category) => [
    category,
    KEPT.includes(category)
      ? uses.map(() => live[category])
      : bytesInUse(lives.get(category) ?? [], uses.length),
  ])) as Record<Category, number[]>;
  let phase: Phase = "forward";
  return uses.map(({ name }, step) => {
    if (name === BACKWARD) phase = "backward";
    if (name === OPTIMIZER) phase = "optimizer";
    const memory_mb = Object.fromEntries(
      CATEGORIES.map((category) => [category, megabytes(bytes[category][step])]),
    ) as MemoryTable;
    return { launch: step, program: name, phase, memory_mb };
  });
}

/** All that is in use at a point, in MB. */
export function totalMemory({ memory_mb }: TimelinePoint): number {
  return CATEGORIES.reduce((sum, category) => sum + memory_mb[category], 0);
}

async function tracedStep(
  gpu: Gpu,
  source: ModelSource,
  window: AccumulationWindow,
  { precision, checkpointing, lora, model }: Flags & { model: string },
): Promise<Use[]> {
  const config = makeTrainConfig({
    model,
    checkpointing,
    precision,
    gradient_accumulation_steps: 1,
    lora,
  });
  const sizes = { ...new PassPlanner().sizes([window]), maxMicroBatches: 1 };
  const trainer = await openTrainer({ gpu, source, config }, sizes);
  return await gpu.trace(
    () => trainer.step(gpu, window, { learningRate: config.learning_rate, firstMicroBatch: 0 }),
  );
}

async function tracedInference(
  gpu: Gpu,
  source: ModelSource,
  [samples]: AccumulationWindow,
  { precision }: Flags,
): Promise<Use[]> {
  const { config } = source, weight = 1;
  // As in generation, only what follows the last token is asked for.
  const documents = samples.map(({ ids }, i) => ({
    ids,
    weight,
    targets: i === samples.length - 1 ? targetsAfter(ids.length - 1, ids) : [],
  }));
  const batch = makeBatch(documents, widestWindow(archSpec(config)));
  const mode = scoreMode({ maxTokens: batch.tokens, maxTargets: batch.targetCount });
  const numerics = numericsOf({ precision, exact_products: false });
  const make = (memory: Memory) => ({
    model: new Llama(memory, { config, numerics, mode }),
  });
  const { model } = await loadOnto(gpu, source, make, {
    seed: 42,
    progress: loadingBar(),
    advice: "fewer --tokens, --layers N.",
  });
  return await gpu.trace(() => gpu.read(model.logits(gpu, batch).rows(0, 1)));
}

/** Runs the bench and prints lines, or JSON. */
export async function benchTimeline(args: string[]): Promise<void> {
  const flags = parseFlags(TIMELINE, args);
  const gpu = await openGpu({ provider: flags.gpu, precision: flags.precision });
  const model = flags.model ?? await defaultModel(gpu);
  const source = openModel(model, flags.layers), limit = contextLength(source.config);
  const tokens = flags.tokens ?? Math.min(LONGEST.tokens, limit);
  if (tokens > limit) {
    throw new UsageError(`--tokens ${tokens} exceeds ${model}'s context of ${limit} tokens`);
  }
  const window = [randomRow(tokens, source.config.vocab_size, limit)];
  const uses = flags.inference
    ? await tracedInference(gpu, source, window, flags)
    : await tracedStep(gpu, source, window, { ...flags, model });
  const points = timelinePoints(gpu, uses);
  const timeline: Timeline = {
    model,
    checkpointing: flags.checkpointing,
    inference: flags.inference,
    tokens,
    gpu: gpu.name,
    provider: gpu.provider,
    allocated_mb: megabytes(gpu.memory.peakTotal),
    peak_mb: Math.max(...points.map(totalMemory)),
    points,
  };
  gpu.close();
  if (flags.plot !== undefined) await plotTimeline(flags.plot, timeline);
  if (flags.json) printJson(timeline);
  else printLine(timelineLines(timeline).join("\n"));
}

/** How far into the step the most of a category is in use. */
function peakOf(points: readonly TimelinePoint[], category: Category): TimelinePoint {
  return points.reduce((a, b) => b.memory_mb[category] > a.memory_mb[category] ? b : a);
}

/** A table for people: what is in use at the end of each phase, and at most. */
function timelineLines(timeline: Timeline): string[] {
  const { model, checkpointing, inference, tokens, gpu, provider, points } = timeline;
  const what = inference ? "one pass of inference" : `one step, checkpointing ${checkpointing}`;
  const phases = (["forward", "backward", "optimizer"] as const)
    .flatMap((phase) => points.findLast((point) => point.phase === phase) ?? []);
  const mb = (value: number) => value.toFixed(1);
  return [
    `${model}, ${what}, ${tokens} tokens, on ${gpu} (${provider}); MB that hold values still needed`,
    ...tableLines([
      ["", ...phases.map(({ phase }) => `after ${phase}`), "at most", "at launch"],
      ...CATEGORIES.map((category) => {
        const peak = peakOf(points, category);
        return [
          category,
          ...[...phases, peak].map(({ memory_mb }) => mb(memory_mb[category])),
          `${peak.launch} of ${points.length}`,
        ];
      }),
    ], false),
    `At most ${mb(timeline.peak_mb)} MB at one time, of ${mb(timeline.allocated_mb)} MB allocated`,
  ];
}

async function plotTimeline(path: string, { model, points, ...rest }: Timeline): Promise<void> {
  const { linePlots } = await import("../plot.ts");
  const what = rest.inference ? "inference" : `checkpointing ${rest.checkpointing}`;
  const svg = await linePlots(`Memory of a step: ${model}, ${what}`, [{
    xTitle: "launch",
    yTitle: "MB that hold values still needed",
    series: CATEGORIES.filter((category) => category !== "parameter").map((category) => ({
      name: category,
      points: points.map(({ launch, memory_mb }) => ({ x: launch, y: memory_mb[category] })),
      shape: "line" as const,
    })),
  }]);
  await Deno.writeTextFile(path, svg);
}
