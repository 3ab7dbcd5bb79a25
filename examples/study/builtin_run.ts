/**
 * The built-in model in training, as `./lorikeet train` sets it up, for the examples that need one.
 *
 * @module
 */
import type { Memory } from "../../kernels/gpu/memory.ts";
import { loadOnto } from "../../model/session.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { contextLength } from "../../model/families/config.ts";
import { cutRows } from "../../model/checkpoint/load.ts";
import { openModelWithTokenizer } from "../../model/checkpoint/source.ts";
import { loadDataset } from "../../model/text/data/dataset.ts";
import { makeTrainConfig, type PartialTrainConfig } from "../../train/config/config.ts";
import { plannedSteps, windowSamples } from "../../train/data.ts";
import { type AccumulationWindow, PassPlanner } from "../../train/planner.ts";
import { type StepResult, Trainer } from "../../train/trainer.ts";

/** A run before its first step. */
export interface BuiltinRun {
  gpu: Gpu;
  trainer: Trainer;
  /** The samples of each optimizer step of the run. */
  windows: AccumulationWindow[];
}

/** The built-in model with its samples, in their order. */
export async function openBuiltin(gpu: Gpu, settings: PartialTrainConfig): Promise<BuiltinRun> {
  const config = makeTrainConfig({
    model: "builtin",
    data: "builtin",
    shuffle: false,
    ...settings,
  });
  const { source, tokenizer, tokenizerPath } = await openModelWithTokenizer(config);
  const context = contextLength(source.config);
  const samples = await loadDataset(tokenizer, {
    ...config,
    data: "builtin",
    tokenizerPath,
    context,
    say: () => {},
  });
  const all = Array.from({ length: samples.length }, (_, i) => i);
  const windows = [...plannedSteps({ ...config, samples: all })]
    .map(({ window }) => windowSamples(window, samples));
  const sizes = PassPlanner.of(config, source.config).sizes(windows);
  const make = (memory: Memory) =>
    new Trainer(memory, source.config, { config, sizes, maxBinding: gpu.maxBinding });
  const trainer = await loadOnto(gpu, source, make, {
    seed: config.seed,
    adapter: config.lora ? { init: config.lora.init } : undefined,
    advice: "",
  });
  return { gpu, trainer, windows };
}

/** Runs every step and returns what each did. */
export async function train({ gpu, trainer, windows }: BuiltinRun): Promise<StepResult[]> {
  const results: StepResult[] = [];
  const { learning_rate: learningRate } = trainer.config;
  let firstMicroBatch = 0;
  for (const window of windows) {
    results.push(await trainer.step(gpu, window, { learningRate, firstMicroBatch }));
    firstMicroBatch += window.length;
  }
  return results;
}

/** Values, in the shape of their file, of everything that is trained, or of its gradients. */
export async function readTrained(
  { gpu, trainer }: BuiltinRun,
  which: "master" | "grad",
): Promise<Map<string, { shape: readonly number[]; data: Float32Array }>> {
  const values = new Map<string, { shape: readonly number[]; data: Float32Array }>();
  for (const { name, shape, trained } of trainer.model.trained) {
    const tensor = trained[which];
    values.set(name, { shape, data: cutRows(await gpu.readF32(tensor), shape, tensor.shape) });
  }
  return values;
}
