/** Runs on a base that is quantised as it is loaded. @module */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { initializeAdapters, loadWeights } from "../../model/checkpoint/load.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import { parseTrainArguments } from "../../train/config/config.ts";
import { type AccumulationWindow, PassPlanner } from "../../train/planner.ts";
import { type StepResult, Trainer } from "../../train/trainer.ts";
import { fixturePath } from "../fixtures.ts";

/** A trainer of a model with a new adapter: fp32 without dropout, where the flags say nothing else. */
export async function openRun(
  gpu: Gpu,
  model: string,
  windows: readonly AccumulationWindow[],
  flags: readonly string[],
): Promise<Trainer> {
  const source = openModel(model.startsWith("random:") ? model : fixturePath(model));
  const given = ["--model", "unused", "--output", "unused"];
  const defaults = ["--precision", "fp32", "--lora.dropout", "0"];
  const config = parseTrainArguments([...given, ...defaults, ...flags]);
  const trainer = new Trainer(gpu.memory, source.config, {
    config,
    sizes: PassPlanner.of(config, source.config).sizes(windows),
    maxBinding: gpu.maxBinding,
    weights: source.weights,
  });
  trainer.model.initialize(gpu);
  await loadWeights(gpu, trainer.model, source, { seed: 5 });
  initializeAdapters(gpu, trainer.model, { init: "kaiming", seed: 3 });
  return trainer;
}

/** Steps at a constant learning rate. */
export async function runSteps(
  gpu: Gpu,
  trainer: Trainer,
  windows: readonly AccumulationWindow[],
  { learningRate, first = 0 }: { learningRate: number; first?: number },
): Promise<StepResult[]> {
  const results: StepResult[] = [];
  let firstMicroBatch = first;
  for (const window of windows) {
    results.push(await trainer.step(gpu, window, { learningRate, firstMicroBatch }));
    firstMicroBatch += window.length;
  }
  return results;
}
