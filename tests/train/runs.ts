/**
 * What trainer tests share: a checked configuration, a model from given tensors with a trainer
 * around it, and its gradients and parameters as the files would hold them.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { Tensor } from "../../kernels/gpu/tensor.ts";
import { contextLength, type ModelConfig, weightShapes } from "../../model/families/config.ts";
import { presetConfig } from "../../model/families/presets.ts";
import {
  isLinearModule,
  type LinearModule,
  submoduleOf,
} from "../../model/families/linear_modules.ts";
import type { Llama } from "../../model/transformer/llama.ts";
import { cutRows, setParameter } from "../../model/checkpoint/load.ts";
import type { Parameter } from "../../model/transformer/parameters.ts";
import type { TokenizedSample } from "../../model/text/prompt.ts";
import { objectiveOf } from "../../train/config/configured_objective.ts";
import type { Objective } from "../../train/objective/objective.ts";
import { type TrainConfig, trainSchema } from "../../train/config/schema.ts";
import { type AccumulationWindow, PassPlanner } from "../../train/planner.ts";
import { Trainer } from "../../train/trainer.ts";
import {
  type FixtureSubject,
  type FixtureTensor,
  readAdapter,
  readFixture,
  readModel,
  tokenizedSamples,
} from "../fixtures.ts";
import { random, randomArray } from "../kernels/harness.ts";
import { adapterTensorName } from "../adapter_names.ts";
import { targetsAfter } from "../../model/text/targets.ts";

/** A model's configuration and tensors, and an adapter's, under the names of their files. */
export interface Subject {
  config: ModelConfig;
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
  return tokenizedSamples(readFixture("samples.json"));
}

/** Windows of sample indexes as windows of samples. */
export function fixtureWindow(
  samples: readonly TokenizedSample[],
  window: readonly (readonly number[])[],
): AccumulationWindow {
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
  windows: Iterable<AccumulationWindow>,
  { minimised, ...settings }: Settings & { minimised?: Objective } = {},
): Trainer {
  const config = trainConfig(subject, settings);
  const objective = minimised ?? objectiveOf(config, contextLength(subject.config));
  const all = [...windows].flatMap((window) => [window, objective.scoredBeside?.(window) ?? []]);
  const sizes = PassPlanner.of(config, subject.config).sizes(all);
  const trainer = new Trainer(gpu.memory, subject.config, {
    config,
    sizes,
    maxBinding: gpu.maxBinding,
    objective,
  });
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

/** Values of f32 tensors, of which those that lie in one buffer are read at once. */
async function readTogether(
  gpu: Gpu,
  tensors: readonly Tensor[],
): Promise<Float32Array<ArrayBuffer>[]> {
  const readings = new Map<
    GPUBuffer | undefined,
    { from: number; values: Float32Array<ArrayBuffer> }
  >();
  for (const [buffer, within] of Map.groupBy(tensors, ({ buffer }) => buffer)) {
    const from = Math.min(...within.map(({ offset }) => offset));
    const bytes = Math.max(...within.map(({ offset, bytes }) => offset + bytes)) - from;
    const all = new Tensor("together", "f32", [bytes / 4], buffer, from);
    readings.set(buffer, { from, values: await gpu.readF32(all) });
  }
  return tensors.map(({ buffer, offset, size }) => {
    const { from, values } = readings.get(buffer)!;
    const first = (offset - from) / 4;
    return values.slice(first, first + size);
  });
}

async function readTrained(
  gpu: Gpu,
  model: Llama,
  which: "master" | "grad",
): Promise<Map<string, Float32Array>> {
  const trained = model.trained as Parameter[];
  const values = await readTogether(gpu, trained.map(({ trained }) => trained![which]));
  return new Map(trained.map(({ name, shape, trained }, i) => {
    return [name, cutRows(values[i], shape, trained![which].shape)];
  }));
}

/** Every trained parameter's f32 values. */
export function parameters(gpu: Gpu, { model }: Trainer): Promise<Map<string, Float32Array>> {
  return readTrained(gpu, model, "master");
}

/** Every trained parameter's gradient since the last step began (times the loss scale). */
export function gradients(
  gpu: Gpu,
  { model }: Pick<Trainer, "model">,
): Promise<Map<string, Float32Array>> {
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
  let squares = 0;
  for (let i = 0; i < actual.length; i++) squares += (actual[i] - expected[i]) ** 2;
  return squares === 0 ? 0 : Math.sqrt(squares) / norm(expected);
}

/** A model that grouped-query attention stretches: four heads on one key-value head. */
export const SMALL_CONFIG: ModelConfig = {
  ...presetConfig("tiny"),
  vocab_size: 61,
  hidden_size: 32,
  intermediate_size: 44,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 1,
  head_dim: 8,
  max_position_embeddings: 64,
};

/** A model with random weights that keep its activations near 1, and an adapter whose B isn't zero. */
export function randomSubject(
  config: ModelConfig,
  { rank, alpha, targets }: { rank: number; alpha: number; targets: readonly LinearModule[] } = {
    rank: 0,
    alpha: 0,
    targets: [],
  },
  seed = 1,
): Subject {
  const shapes = weightShapes(config);
  const weights = new Map<string, FixtureTensor>();
  const draw = (shape: readonly number[], scale: number, mean = 0): FixtureTensor => {
    const size = shape.reduce((a, b) => a * b, 1);
    const data = Float32Array.from(randomArray(size, seed++, scale), (value) => mean + value);
    return { shape: [...shape], data };
  };
  for (const [name, shape] of shapes) {
    const scale = name.includes("embed") ? 1 : 2 / Math.sqrt(shape[1]);
    weights.set(name, shape.length === 1 ? draw(shape, 0.3, 1) : draw(shape, scale));
  }
  if (rank === 0) return { config, weights };
  const adapter = new Map<string, FixtureTensor>();
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    for (const module of targets) {
      const [out, input] = shapes.get(
        `model.layers.${layer}.${submoduleOf(module)}.${module}.weight`,
      )!;
      const name = (matrix: "A" | "B") => adapterTensorName(layer, module, matrix);
      adapter.set(name("A"), draw([rank, input], 1 / Math.sqrt(input)));
      adapter.set(name("B"), draw([out, rank], 0.5 / Math.sqrt(rank)));
    }
  }
  return { config, weights, adapter: { rank, alpha, targets: [...targets], weights: adapter } };
}

/** Samples of these lengths whose prompts take up to half of them. */
export function randomSamples(
  config: ModelConfig,
  lengths: readonly number[],
  seed = 1,
): TokenizedSample[] {
  const next = random(seed);
  const below = (limit: number) => Math.floor((next() + 1) / 2 * limit);
  return lengths.map((length) => ({
    ids: Uint32Array.from({ length }, () => below(config.vocab_size)),
    targets: targetsAfter(1 + below(length / 2), { length }),
    truncated: false,
  }));
}
