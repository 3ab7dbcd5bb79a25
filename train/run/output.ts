/**
 * The output folder of a run: metrics.jsonl, summary.json, and `adapter/` or `model/`.
 *
 * @module
 */
import { join } from "node:path";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { copyNames, PREFIX } from "../../model/adapter/tensors.ts";
import { type AdapterTensor, writeAdapter } from "../../model/adapter/adapter_folder.ts";
import { writeJson } from "../../model/files/json_file.ts";
import { replaceFolder } from "../../model/files/write_folder.ts";
import type { Llama } from "../../model/transformer/llama.ts";
import { cutRows } from "../../model/checkpoint/load.ts";
import { type Parameter, parameterCount } from "../../model/transformer/parameters.ts";
import { baseMetadata } from "../../model/transformer/base_quantization.ts";
import { quantizedTypes } from "../../model/formats/weights.ts";
import { saveModel } from "../../model/checkpoint/save.ts";
import type { EvaluationHistory } from "../evaluation/history.ts";
import { refuseDiverged } from "../health.ts";
import { memoryFigures } from "../config/memory_note.ts";
import type { RunFolder } from "./run_folder.ts";
import type { TrainingSetup } from "../setup.ts";
import type { Progress } from "../states/state_file.ts";
import type { TrainConfig } from "../config/config.ts";

/** Numbers of trained and of all parameters. */
export function countParameters(model: Llama): { trainable: number; total: number } {
  const sum = (parameters: readonly Parameter[]) =>
    parameters.reduce((total, parameter) => total + parameterCount(parameter), 0);
  return { trainable: sum(model.trained), total: sum(model.weights) + sum(model.adapters) };
}

/** What the summary says of the evaluations on held-out samples. */
function evaluationFigures({ losses, best, exhausted }: EvaluationHistory) {
  return { eval_losses: losses, best_evaluation: best, stopped_early: exhausted };
}

/** Writes summary.json: figures of the whole run, of the parts that were resumed, too. @throws {UserError} where it can't. */
export function writeSummary(
  { gpu, folder, progress, config, model, skipped, history }: {
    gpu: Gpu;
    folder: RunFolder;
    progress: Progress;
    config: TrainConfig;
    model: Llama;
    /** Steps skipped for overflow. */
    skipped: number;
    /** The evaluations on held-out samples. */
    history: EvaluationHistory;
  },
): void {
  const { firstLoss, lastLoss, tokens, seconds } = progress;
  const { trainable, total } = countParameters(model);
  const memory = memoryFigures(gpu.memory);
  writeJson(folder.file("summary"), {
    runtime_s: seconds,
    tokens,
    tokens_per_second: tokens / seconds,
    peak_memory_mb: memory.total,
    memory_mb: memory.categories,
    trainable_parameters: trainable,
    total_parameters: total,
    trainable_percent: 100 * trainable / total,
    first_loss: firstLoss,
    last_loss: lastLoss,
    skipped_steps: skipped,
    ...(history.isEmpty ? {} : evaluationFigures(history)),
    gpu: gpu.name,
    provider: gpu.provider,
    config: { ...config, output: folder.path },
  });
}

/**
 * Writes what was trained: `adapter/` in PEFT's format, or the whole model as a Hugging Face folder
 * `model/` in the dtype it was computed in, with all else that belonged to the model it began from.
 *
 * @param parent The folder in which they lie.
 * @returns The folder.
 * @throws {UserError} where it can't be written, or the weights are no finite numbers.
 */
export async function writeTrained(
  gpu: Gpu,
  model: Llama,
  parent: string,
  { config, source, tokenizerPath }: Pick<TrainingSetup, "config" | "source" | "tokenizerPath">,
): Promise<string> {
  const plan = model.options.lora;
  await refuseDiverged(gpu, model, `no ${plan ? "adapter" : "model"} is written`);
  if (plan !== undefined) {
    const folder = join(parent, "adapter");
    const tensors = new Map<string, AdapterTensor>();
    for (const { name, shape, trained, value } of model.trained) {
      const tensor = trained?.master ?? value;
      const data = cutRows(await gpu.readF32(tensor), shape, tensor.shape);
      const isOwn = name.startsWith(PREFIX);
      for (const stored of isOwn ? [name] : copyNames(plan, name, model.options.config)) {
        tensors.set(stored, { shape: [...shape], data });
      }
    }
    const metadata = baseMetadata({
      ...config,
      stored: quantizedTypes(source.weights).map(([type]) => type),
    });
    const adapter = { ...plan.config, base_model_name_or_path: config.model };
    await replaceFolder(folder, (fresh) => writeAdapter(fresh, adapter, tensors, metadata));
    return folder;
  }
  const folder = join(parent, "model");
  const dtype = model.numerics.storage === "f16" ? "F16" : "F32";
  const tensors = model.weights.map((parameter) => ({
    name: parameter.name,
    dtype,
    shape: [...parameter.shape],
    data: valueBytes(gpu, parameter),
  } as const));
  const saved = { source, config: model.config, tensors, tokenizerPath };
  await replaceFolder(folder, (fresh) => saveModel(fresh, saved));
  return folder;
}

/** A weight's bytes without its padding rows, read back when asked for. */
async function* valueBytes(gpu: Gpu, parameter: Parameter): AsyncGenerator<Uint8Array> {
  const { value } = parameter;
  const bytes = await gpu.read(value);
  yield new Uint8Array(bytes, 0, parameterCount(parameter) * (value.dtype === "f16" ? 2 : 4));
}
