/**
 * What trainer tests share: a checked configuration, a model from given tensors with a trainer
 * around it, and its gradients and parameters as the files would hold them.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu.ts";
import type { Memory } from "../../kernels/memory.ts";
import { isLinearModule, type LinearModule } from "../../model/adapter.ts";
import type { LlamaConfig } from "../../model/config.ts";
import type { Llama } from "../../model/llama.ts";
import { cutRows, setParameter } from "../../model/load.ts";
import type { Parameter } from "../../model/parameters.ts";
import type { TokenizedSample } from "../../model/prompt.ts";
import { type TrainConfig, trainSchema } from "../../train/schema.ts";
import { runSizes, Trainer, type Window } from "../../train/trainer.ts";
import {
  type FixtureSubject,
  type FixtureTensor,
  readAdapter,
  readFixture,
  readModel,
} from "../fixtures.ts";

/** A model's configuration and tensors, and an adapter's, under the names of their files. */
export interface Subject {
  config: LlamaConfig;
  weights: Map<string, FixtureTensor>;
  adapter?: {
    rank: number;
    alpha: number;
    targets: LinearModule[];
    weights: Map<string, FixtureTensor>;
  };
}

/** A fixture model with its adapter. */
export function fixtureSubject({ model, adapter: name }: FixtureSubject): Subject {
  const adapter = name === null ? undefined : readAdapter(name);
  return {
    ...readModel(model),
    adapter: adapter && {
      rank: adapter.config.r,
      alpha: adapter.config.lora_alpha,
      targets: adapter.config.target_modules.filter(isLinearModule),
      weights: adapter.weights,
    },
  };
}

/** The samples of samples.json. */
export function fixtureSamples(): TokenizedSample[] {
  return readFixture("samples.json").map(({ ids, promptLength }) => ({
    ids: Uint32Array.from(ids),
    promptLength,
    truncated: false,
  }));
}

/** Windows of sample indexes as windows of samples. */
export function fixtureWindow(
  samples: readonly TokenizedSample[],
  window: readonly (readonly number[])[],
): Window {
  return window.map((indexes) => indexes.map((i) => samples[i]));
}

/** What a test sets of the configuration; LoRA follows from the subject but for its dropout. */
export type Settings = Partial<Omit<TrainConfig, "lora">> & { dropout?: number };

/** The checked configuration of a run on a subject: fp32 and defaults where nothing is said. */
export function trainConfig(
  { adapter }: Pick<Subject, "adapter">,
  { dropout = 0, ...settings }: Settings = {},
): TrainConfig {
  const lora = adapter && {
    rank: adapter.rank,
    alpha: adapter.alpha,
    targets: adapter.targets,
    dropout,
  };
  const given = { output: "unused", precision: "fp32", lora: lora ?? false, ...settings };
  return trainSchema.parse(given) as TrainConfig;
}

/** A trainer of a subject whose buffers fit these windows, its parameters set. */
export function openTrainer(
  gpu: Gpu,
  subject: Subject,
  windows: Iterable<Window>,
  settings: Settings = {},
  memory: Memory = gpu.memory,
): Trainer {
  const config = trainConfig(subject, settings);
  const sizes = runSizes(windows, config.packing);
  const trainer = new Trainer(memory, subject.config, config, sizes, gpu.maxBinding);
  const { model } = trainer;
  model.initialize(gpu);
  for (const parameter of model.weights) {
    setParameter(gpu, parameter, subject.weights.get(parameter.name)!.data);
  }
  for (const parameter of model.adapters) {
    setParameter(gpu, parameter, subject.adapter!.weights.get(parameter.name)!.data);
  }
  return trainer;
}

async function readTrained(
  gpu: Gpu,
  model: Llama,
  which: "master" | "grad",
): Promise<Map<string, Float32Array>> {
  const values = new Map<string, Float32Array>();
  for (const { name, shape, trained } of model.trained as Parameter[]) {
    const tensor = trained![which];
    values.set(name, cutRows(await gpu.readF32(tensor), shape, tensor.shape));
  }
  return values;
}

/** Every trained parameter's f32 values. */
export function parameters(gpu: Gpu, { model }: Trainer): Promise<Map<string, Float32Array>> {
  return readTrained(gpu, model, "master");
}

/** Every trained parameter's gradient since the last step began (times the loss scale). */
export function gradients(gpu: Gpu, { model }: Trainer): Promise<Map<string, Float32Array>> {
  return readTrained(gpu, model, "grad");
}

/** L2 norm. */
export function norm(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] ** 2;
  return Math.sqrt(sum);
}

/** ‖actual − expected‖ / ‖expected‖; 0 where both are zero. */
export function deviation(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  const difference = norm(Float64Array.from(actual, (value, i) => value - expected[i]));
  return difference === 0 ? 0 : difference / norm(expected);
}
