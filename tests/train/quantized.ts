/** Runs on a base that is quantised as it is loaded. @module */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { initializeAdapters, loadWeights, setParameter } from "../../model/checkpoint/load.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import { parameterCount } from "../../model/transformer/parameters.ts";
import { parseTrainArguments } from "../../train/config.ts";
import { type AccumulationWindow, PassPlanner } from "../../train/planner.ts";
import { type StepResult, Trainer } from "../../train/trainer.ts";
import { fixturePath } from "../fixtures.ts";
import { decoded } from "../kernels/ops/weights/encoded.ts";

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

/** Names and values of the matrices that are held as codes. */
export async function standingValues(
  gpu: Gpu,
  trainer: Trainer,
): Promise<Map<string, Float32Array>> {
  const values = new Map<string, Float32Array>();
  for (const parameter of trainer.model.weights) {
    const { name, operand } = parameter;
    if (operand.kind.element !== undefined) continue;
    const all = await decoded(gpu, operand);
    values.set(name, Float32Array.from(all.subarray(0, parameterCount(parameter))));
  }
  return values;
}

/** Sets weights of a model that holds them as numbers. */
export function setWeights(
  gpu: Gpu,
  { model }: Trainer,
  values: ReadonlyMap<string, Float32Array>,
): void {
  for (const parameter of model.weights) {
    const data = values.get(parameter.name);
    if (data !== undefined) setParameter(gpu, parameter, data);
  }
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
