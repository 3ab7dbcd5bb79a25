/**
 * The output folder of a run: metrics.jsonl, summary.json, and `adapter/` or `model/`.
 *
 * @module
 */
import { dirname, join, resolve } from "node:path";
import { UserError } from "../kernels/errors.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { CATEGORIES, megabytes } from "../kernels/gpu/memory.ts";
import { copyNames, PREFIX } from "../model/adapter/tensors.ts";
import { type AdapterTensor, writeAdapter } from "../model/adapter/adapter_folder.ts";
import { writeJson } from "../model/files/json_file.ts";
import { exists, fileError } from "../model/files/whole_file.ts";
import type { Llama } from "../model/transformer/llama.ts";
import { cutRows } from "../model/checkpoint/load.ts";
import { type Parameter, parameterCount } from "../model/transformer/parameters.ts";
import { baseMetadata } from "../model/transformer/base_quantization.ts";
import { quantizedTypes } from "../model/formats/weights.ts";
import { saveModel } from "../model/checkpoint/save.ts";
import type { ModelWithTokenizer } from "../model/checkpoint/source.ts";
import type { TrainConfig } from "./config.ts";
import { refuseDiverged } from "./health.ts";
import type { Outcome } from "./outcome.ts";
import type { StepResult } from "./trainer.ts";

/** Refuses a folder that is there already. */
function refuseExisting(folder: string): void {
  if (exists(folder)) {
    throw new UserError(
      `output folder ${folder} exists already and is not overwritten; expected a new one`,
    );
  }
}

/**
 * Refuses an output folder that exists or could not be made, before a run spends time on anything else.
 *
 * @throws {UserError} that names the folder.
 */
export function checkOutput(folder: string): void {
  refuseExisting(folder);
  let parent = dirname(resolve(folder));
  while (!exists(parent) && dirname(parent) !== parent) parent = dirname(parent);
  try {
    if (!Deno.statSync(parent).isDirectory) {
      throw new UserError(`output folder ${folder} can't be made: ${parent} is no folder`);
    }
    Deno.removeSync(Deno.makeTempDirSync({ dir: parent }));
  } catch (error) {
    throw fileError(parent, "write", error);
  }
}

/** The metrics of a run, a line a step, each written at once. */
export class MetricsFile {
  readonly #path: string;
  readonly #file: Deno.FsFile;

  /** Makes the output folder, which must not exist. */
  constructor(folder: string) {
    refuseExisting(folder);
    this.#path = join(folder, "metrics.jsonl");
    try {
      Deno.mkdirSync(folder, { recursive: true });
      this.#file = Deno.openSync(this.#path, { write: true, createNew: true });
    } catch (error) {
      throw fileError(folder, "write", error);
    }
  }

  /** Adds the line of one step. */
  write(
    { step, epoch, learningRate, seconds, result }: {
      step: number;
      epoch: number;
      learningRate: number;
      seconds: number;
      result: StepResult;
    },
  ): void {
    const { loss, losses, gradNorm, lossScale, skipped, tokens } = result;
    const line = {
      step,
      epoch,
      loss,
      losses,
      learning_rate: learningRate,
      grad_norm: gradNorm,
      loss_scale: lossScale,
      skipped,
      tokens,
      seconds,
    };
    const bytes = new TextEncoder().encode(JSON.stringify(line) + "\n");
    try {
      for (let done = 0; done < bytes.length;) done += this.#file.writeSync(bytes.subarray(done));
    } catch (error) {
      throw fileError(this.#path, "write", error);
    }
  }

  /** Closes the file. */
  close(): void {
    this.#file.close();
  }

  /** Takes the folder back: nothing was measured. */
  discard(): void {
    this.close();
    Deno.removeSync(this.#path);
    Deno.removeSync(dirname(this.#path));
  }
}

/** Numbers of trained and of all parameters. */
export function countParameters(model: Llama): { trainable: number; total: number } {
  const sum = (parameters: readonly Parameter[]) =>
    parameters.reduce((total, parameter) => total + parameterCount(parameter), 0);
  return { trainable: sum(model.trained), total: sum(model.weights) + sum(model.adapters) };
}

/** summary.json. */
export function writeSummary(
  folder: string,
  { gpu, model, config, outcome, evaluations, skipped }: {
    gpu: Gpu;
    model: Llama;
    config: TrainConfig;
    outcome: Outcome;
    /** Held-out losses: before, after each epoch, at the end. */
    evaluations: readonly number[];
    /** Steps skipped for overflow, those of a resumed run included. */
    skipped: number;
  },
): void {
  const { progress, lastLoss, tokens, seconds } = outcome;
  const { trainable, total } = countParameters(model);
  const { peak, peakTotal } = gpu.memory;
  const round = (bytes: number) => Number(megabytes(bytes).toFixed(3));
  writeJson(join(folder, "summary.json"), {
    runtime_s: seconds,
    tokens,
    tokens_per_second: tokens / seconds,
    peak_memory_mb: round(peakTotal),
    memory_mb: Object.fromEntries(CATEGORIES.map((category) => [category, round(peak[category])])),
    trainable_parameters: trainable,
    total_parameters: total,
    trainable_percent: 100 * trainable / total,
    first_loss: progress.firstLoss,
    last_loss: lastLoss,
    skipped_steps: skipped,
    ...(evaluations.length > 0 ? { eval_losses: evaluations } : {}),
    gpu: gpu.name,
    provider: gpu.provider,
    config,
  });
}

/**
 * Writes what was trained: `adapter/` in PEFT's format, or the whole model as a Hugging Face folder
 * `model/` in the dtype it was computed in, with all else that belonged to the model it began from.
 *
 * @returns The folder.
 * @throws {UserError} where it can't be written, or the weights are no finite numbers.
 */
export async function writeTrained(
  gpu: Gpu,
  model: Llama,
  config: TrainConfig,
  { source, tokenizerPath }: Pick<ModelWithTokenizer, "source" | "tokenizerPath">,
): Promise<string> {
  const plan = model.options.lora;
  await refuseDiverged(gpu, model, `no ${plan ? "adapter" : "model"} is written`);
  if (plan !== undefined) {
    const folder = join(config.output, "adapter");
    const tensors = new Map<string, AdapterTensor>();
    for (const { name, shape, trained, value } of model.trained) {
      const tensor = trained?.master ?? value;
      const data = cutRows(await gpu.readF32(tensor), shape, tensor.shape);
      const isOwn = name.startsWith(PREFIX);
      for (const stored of isOwn ? [name] : copyNames(plan, name, model.options.config)) {
        tensors.set(stored, { shape: [...shape], data });
      }
    }
    await writeAdapter(
      folder,
      { ...plan.config, base_model_name_or_path: config.model },
      tensors,
      baseMetadata({
        ...config,
        stored: quantizedTypes(source.weights).map(([type]) => type),
      }),
    );
    return folder;
  }
  const folder = join(config.output, "model");
  const dtype = model.numerics.storage === "f16" ? "F16" : "F32";
  const tensors = model.weights.map((parameter) => ({
    name: parameter.name,
    dtype,
    shape: [...parameter.shape],
    data: valueBytes(gpu, parameter),
  } as const));
  await saveModel(folder, { source, config: model.config, tensors, tokenizerPath });
  return folder;
}

/** A weight's bytes without its padding rows, read back when asked for. */
async function* valueBytes(gpu: Gpu, parameter: Parameter): AsyncGenerator<Uint8Array> {
  const { value } = parameter;
  const bytes = await gpu.read(value);
  yield new Uint8Array(bytes, 0, parameterCount(parameter) * (value.dtype === "f16" ? 2 : 4));
}
