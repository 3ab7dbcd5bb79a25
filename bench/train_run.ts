/**
 * Training steps to be timed: everything is as in `lorikeet train`, without its files.
 *
 * @module
 */
import { loadOnto } from "../model/session.ts";
import { UserError } from "../kernels/errors.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import type { Work } from "../kernels/gpu/work.ts";
import { CATEGORIES, megabytes, type Memory, type MemoryTable } from "../kernels/gpu/memory.ts";
import type { Profile } from "../kernels/gpu/profiler.ts";
import type { Roofs } from "../kernels/gpu/roofline.ts";
import { median } from "../kernels/measure/timing.ts";
import { planMemory } from "../model/transformer/capacity.ts";
import { loadingBar, ProgressBar } from "../cli/progress.ts";
import type { ModelSource } from "../model/checkpoint/source.ts";
import { supervisedTokens, type TokenizedSample } from "../model/text/prompt.ts";
import { plannedSteps, windowSamples } from "../train/data.ts";
import { countParameters } from "../train/run/output.ts";
import type { TrainConfig } from "../train/config/schema.ts";
import { pipelinedSteps } from "../train/steps.ts";
import { type AccumulationWindow, PassPlanner, type RunSizes } from "../train/planner.ts";
import { Trainer } from "../train/trainer.ts";
import { trainingFlops } from "./train_flops.ts";

/** What is trained, and what it runs on. */
export interface Bench {
  gpu: Gpu;
  source: ModelSource;
  config: TrainConfig;
  roofs: Roofs;
  /** Try to allocate whatever the plan says. */
  ignorePlan?: boolean;
}

/** The result of a run; memory in MB (2^20 bytes). */
export interface TrainResult {
  samples: number;
  tokens: number;
  /** Of these, those that packing computes once for several samples, beyond that once. */
  shared_tokens: number;
  steps: number;
  trainable_parameters: number;
  total_parameters: number;
  /** Mean losses of the first and of the last {@linkcode ENDS} samples. */
  first_loss: number;
  last_loss: number;
  /** Of each micro-batch. */
  losses: number[];
  skipped_steps: number;
  /** Programs compiled before the first step, and the time it took. */
  programs: number;
  compile_seconds: number;
  seconds: number;
  median_step_seconds: number;
  tokens_per_second: number;
  /** Arithmetic that the run needs, by the formula of train_flops.ts. */
  useful_tflop: number;
  useful_tflops_per_second: number;
  /** That of the best matrix product. */
  of_matmul: number;
  /** All launches of the timed steps, as their kernels count them. */
  work: Work;
  /** What the run planned to allocate before it started. */
  planned_mb: number;
  peak_memory_mb: number;
  memory_mb: MemoryTable;
  step_seconds: number[];
}

/** A profile of steps that were also run without one. */
export interface TrainProfile extends Profile {
  steps: number;
  /** By the clock, without timestamps around every launch. */
  unprofiledSeconds: number;
}

/** Samples at each end of a run whose losses are averaged: one alone says little. */
const ENDS = 8;
/** Steps that are profiled. */
const PROFILED = 2;

/** What a run of these sizes allocates. */
export function makeTrainer(
  { gpu, source, config }: Pick<Bench, "gpu" | "source" | "config">,
  sizes: RunSizes,
): (memory: Memory) => Trainer {
  return (memory) =>
    new Trainer(memory, source.config, { config, sizes, maxBinding: gpu.maxBinding });
}

/** A trainer with its weights on the GPU, large enough for passes of these sizes. */
export async function openTrainer(
  bench: Omit<Bench, "roofs">,
  sizes: RunSizes,
): Promise<Trainer> {
  const { gpu, source, config: { seed, lora }, ignorePlan } = bench;
  const advice =
    "--checkpointing block, shorter or fewer samples in a pass, --lora on, --layers N.";
  return await loadOnto(gpu, source, makeTrainer(bench, sizes), {
    seed,
    adapter: lora ? { init: lora.init } : undefined,
    progress: loadingBar(),
    advice,
    ignorePlan,
  });
}

/** Seconds of one step. */
export async function stepSeconds(
  gpu: Gpu,
  trainer: Trainer,
  window: AccumulationWindow,
): Promise<number> {
  const start = performance.now();
  const { learning_rate: learningRate } = trainer.config;
  const { loss } = await trainer.step(gpu, window, { learningRate, firstMicroBatch: 0 });
  checkLoss(loss);
  return (performance.now() - start) / 1000;
}

function checkLoss(loss: number): void {
  if (!Number.isFinite(loss)) throw new UserError(`a step's loss is ${loss}: nothing to time`);
}

/** The sum of numbers. */
export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** The losses at both ends of a run, from those of its micro-batches. */
export function lossEnds(
  losses: readonly number[],
  batchSize: number,
): Pick<TrainResult, "first_loss" | "last_loss"> {
  const ends = Math.ceil(ENDS / batchSize),
    mean = (few: readonly number[]) => sum(few) / few.length;
  return { first_loss: mean(losses.slice(0, ends)), last_loss: mean(losses.slice(-ends)) };
}

/** One epoch over the samples; where the GPU has a profiler, a few steps again with it. */
export async function runBench(
  bench: Bench,
  samples: readonly TokenizedSample[],
): Promise<{ result: TrainResult; profile?: TrainProfile }> {
  const { gpu, config, source, roofs } = bench;
  const windows = [...plannedSteps({ ...config, samples: samples.map((_, i) => i) })]
    .map(({ window }) => windowSamples(window, samples.map((sample) => [sample])));
  const sizes: RunSizes = {
    ...PassPlanner.of(config, source.config).sizes(windows),
    maxMicroBatches: Math.max(...windows.map((window) => window.length)),
  };
  const plan = planMemory(gpu.memory.limits, makeTrainer(bench, sizes));
  const trainer = await openTrainer(bench, sizes);
  const began = performance.now();
  const programs = await trainer.precompile(gpu, windows);
  const compile_seconds = (performance.now() - began) / 1000;
  await trainer.warmUp(gpu, windows[0]);
  const before = gpu.work, losses: number[] = [];
  const bar = new ProgressBar("Steps", windows.length), times: number[] = [];
  const { learning_rate: learningRate, gradient_accumulation_steps: accumulated } = config;
  const steps = windows.map((window, i) => {
    return { window, learningRate, firstMicroBatch: i * accumulated };
  });
  for await (const { result: { loss, ...step }, seconds } of pipelinedSteps(gpu, trainer, steps)) {
    checkLoss(loss);
    losses.push(...step.losses);
    times.push(seconds);
    bar.update(times.length, `loss ${loss.toFixed(4)}  ${seconds.toFixed(3)} s`);
  }
  const work = gpu.work;
  for (const key of ["launches", "flops", "bytes"] as const) work[key] -= before[key];
  const documents = samples.map(({ ids }) => ids.length), tokens = sum(documents);
  const shared = windows.flatMap((window) => trainer.planner.passes(window))
    .flatMap(({ samples }) => samples.map(({ shared }) => shared));
  const targets = sum(samples.map(supervisedTokens)), { lora } = config;
  const flops = trainingFlops(source.config, { documents, shared, targets, lora });
  const { trainable, total } = countParameters(trainer.model);
  const seconds = sum(times), { peak, peakTotal } = gpu.memory;
  const result: TrainResult = {
    samples: samples.length,
    tokens,
    shared_tokens: sum(shared),
    steps: times.length,
    trainable_parameters: trainable,
    total_parameters: total,
    ...lossEnds(losses, config.batch_size),
    losses,
    skipped_steps: trainer.skipped,
    programs,
    compile_seconds,
    seconds,
    median_step_seconds: median(times),
    tokens_per_second: tokens / seconds,
    useful_tflop: flops / 1e12,
    useful_tflops_per_second: flops / seconds / 1e12,
    of_matmul: flops / seconds / roofs.matmul,
    work,
    planned_mb: megabytes(plan.peakTotal),
    peak_memory_mb: megabytes(peakTotal),
    memory_mb: Object.fromEntries(CATEGORIES.map((c) => [c, megabytes(peak[c])])) as MemoryTable,
    step_seconds: times,
  };
  if (gpu.profiler === undefined) return { result };
  gpu.profiler.granularity = "launches";
  await gpu.profiler.take();
  const profiled = windows.slice(0, PROFILED);
  for (const window of profiled) await stepSeconds(gpu, trainer, window);
  const profile = await gpu.profiler.take();
  return {
    result,
    profile: {
      ...profile,
      steps: profiled.length,
      unprofiledSeconds: sum(times.slice(0, profiled.length)),
    },
  };
}
