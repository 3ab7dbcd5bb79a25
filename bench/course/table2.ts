/**
 * The course's table 2: peak memory and run time of instruction tuning with every combination of gradient
 * accumulation, mixed precision and LoRA, without checkpointing and with it. Every row is a run of
 * `bench train` in a process of its own, batch 1, with the course's settings.
 *
 * @module
 */
import type { z } from "zod";
import { present } from "../../kernels/present.ts";
import type { MemoryTable } from "../../kernels/gpu/memory.ts";
import { megabytes } from "../../kernels/gpu/memory.ts";
import { ProgressBar } from "../../cli/progress.ts";
import { modelFlag } from "../default_model.ts";
import type { DeviceInfo } from "../device.ts";
import { type Measured, type Measurements, VERSION } from "./measurements.ts";
import type { TrainResult } from "../train_run.ts";

/** Which runs. */
export interface Table2Settings {
  /** Without it, what fits the machine; see {@linkcode courseModel}. */
  model?: string;
  layers?: number;
  /** Without it, the built-in samples for the built-in model, else random ones of Alpaca's lengths. */
  data?: string;
  tokenizer?: string;
  samples: number;
  gpu: string;
  optimizer: "adamw" | "sgd";
  learning_rate: number;
  /** Take a run that the plan refuses as one that does not fit, without trying. */
  trust_plan: boolean;
}

/** The techniques of one row. */
export interface Combination {
  gradient_accumulation: boolean;
  mixed_precision: boolean;
  lora: boolean;
  checkpointing: "none" | "block";
  optimizer: "adamw" | "sgd";
}

/** One row; memory in MB (2^20 bytes). What a run did is absent where it did not fit. */
export interface Table2Row extends Combination {
  fits: boolean;
  /** By whom it was refused: the plan, or the driver when it was tried. */
  refused_by?: "plan" | "driver";
  planned_mb: number;
  /** Of WebGPU: `--gpu auto` chooses by precision. */
  provider?: string;
  peak_memory_mb?: number;
  /** By category: the peak, or where it does not fit what it needs. */
  memory_mb: MemoryTable;
  /** What `nvidia-smi` saw at most, where it is there. */
  nvidia_smi_mb?: number;
  runtime_s?: number;
  tokens_per_second?: number;
  first_loss?: number;
  last_loss?: number;
  /** Of each sample, in their order. */
  losses?: number[];
  step_seconds?: number[];
}

/** The table. */
export interface Table2 {
  model: string;
  samples: number;
  /** Of all samples together, where any run fits. */
  tokens?: number;
  gpu: string;
  /** As {@linkcode providersOf} says. */
  provider: string;
  device: DeviceInfo;
  lorikeet: string;
  rows: Table2Row[];
}

const SWITCH = [false, true] as const;

/** The sixteen combinations, in the order of the course's columns. */
export function combinations(optimizer: Combination["optimizer"]): Combination[] {
  return (["none", "block"] as const).flatMap((checkpointing) =>
    SWITCH.flatMap((gradient_accumulation) =>
      SWITCH.flatMap((mixed_precision) =>
        SWITCH.map((lora) => ({
          gradient_accumulation,
          mixed_precision,
          lora,
          checkpointing,
          optimizer,
        }))
      )
    )
  );
}

/** The flag that names another model than {@linkcode courseModel}. */
export const courseModelFlag: z.ZodOptional<z.ZodString> = modelFlag.describe(
  "Model; without it random:llama2-7b on a GPU with 40 GB or more, else builtin.",
);

/** Memory, in MB, of GPUs that are sold as having 40 GB, less what a driver keeps. */
const ROOMY = 38000;

/** The model that the course's tables are measured on where none is named: its own on a GPU with 40 GB or more. */
export function courseModel({ software, available_mb = 0 }: DeviceInfo): string {
  return !software && available_mb >= ROOMY ? "random:llama2-7b" : "builtin";
}

/** The data of a run: without any named, the built-in model has its own samples, others random ones. */
export function courseData(data: string | undefined, model: string): string | undefined {
  return data ?? (model === "builtin" ? "builtin" : undefined);
}

/** The flags of `bench train` that say what is trained on what. */
export function subjectFlags(
  { data, layers, tokenizer, samples, gpu, learning_rate }: Omit<
    Table2Settings,
    "model" | "optimizer" | "trust_plan"
  >,
  model: string,
): string[] {
  const given = { data: courseData(data, model), layers, tokenizer };
  const optional = Object.entries(given)
    .flatMap(([name, value]) => value === undefined ? [] : [`--${name}`, `${value}`]);
  return [
    "bench",
    "train",
    "--json",
    "--model",
    model,
    ...optional,
    "--samples",
    `${samples}`,
    "--gpu",
    gpu,
    "--learning-rate",
    `${learning_rate}`,
  ];
}

const onOff = (on: boolean) => on ? "on" : "off";

/** The flags of `bench train` that say how. */
export function techniqueFlags(row: Combination): string[] {
  return [
    "--gradient-accumulation-steps",
    row.gradient_accumulation ? "8" : "1",
    "--precision",
    row.mixed_precision ? "mixed" : "fp32",
    "--lora",
    onOff(row.lora),
    "--checkpointing",
    row.checkpointing,
    "--optimizer",
    row.optimizer,
  ];
}

/** A row's name among the measurements. */
export function nameOf(row: Combination): string {
  const accumulation = row.gradient_accumulation ? 8 : 1;
  const precision = row.mixed_precision ? "mixed" : "fp32";
  return `accumulation-${accumulation}-${precision}-lora-${onOff(row.lora)}-` +
    `checkpointing-${row.checkpointing}-${row.optimizer}`;
}

/** What `bench train` prints of a run that fits. */
export type TrainJson = TrainResult & { gpu: string; provider: string };

/** One run: as planned, and where the plan refuses it and is not trusted, tried all the same. */
async function measureRow(
  measurements: Measurements,
  row: Combination,
  { subject, tries }: Table2Plan,
): Promise<Measured> {
  const command = [...subject, ...techniqueFlags(row)], name = `table2-${nameOf(row)}`;
  const measured = await measurements.measure(name, command);
  if (!measured.refused || !tries) return measured;
  return await measurements.measure(`${name}-tried`, [...command, "--ignore-plan"]);
}

function rowOf(combination: Combination, { result, refused, nvidia_smi_mb }: Measured): Table2Row {
  if (refused !== undefined) {
    const needed = Object.entries(refused.needed).map(([name, bytes]) => [name, megabytes(bytes)]);
    return {
      ...combination,
      fits: false,
      refused_by: refused.by,
      planned_mb: megabytes(refused.total),
      memory_mb: Object.fromEntries(needed),
    };
  }
  const run = result as unknown as TrainJson;
  return {
    ...combination,
    fits: true,
    planned_mb: run.planned_mb,
    provider: run.provider,
    peak_memory_mb: run.peak_memory_mb,
    memory_mb: run.memory_mb,
    nvidia_smi_mb,
    runtime_s: run.seconds,
    tokens_per_second: run.tokens_per_second,
    first_loss: run.first_loss,
    last_loss: run.last_loss,
    losses: run.losses,
    step_seconds: run.step_seconds,
  };
}

/** On what all rows are measured, and how. */
export interface Table2Plan {
  device: DeviceInfo;
  model: string;
  /** The flags that all rows share. */
  subject: string[];
  /** Whether a run that the plan refuses is tried all the same. */
  tries: boolean;
}

/** Says what is run on this GPU. */
export function planTable2(device: DeviceInfo, settings: Table2Settings): Table2Plan {
  const model = settings.model ?? courseModel(device);
  return {
    device,
    model,
    subject: subjectFlags(settings, model),
    // Without a GPU, memory that isn't there is handed out all the same: trying would prove nothing.
    tries: !settings.trust_plan && !device.software,
  };
}

/**
 * The rows of a combination, measured where the folder does not hold them: where AdamW does not fit, one with SGD
 * follows.
 *
 * @throws {UserError} as {@linkcode Measurements.measure} does.
 */
export async function* combinationRows(
  measurements: Measurements,
  combination: Combination,
  plan: Table2Plan,
): AsyncGenerator<{ row: Table2Row; run?: TrainJson }> {
  const both = combination.optimizer === "adamw" ? ["adamw", "sgd"] as const : ["sgd"] as const;
  for (const optimizer of both) {
    const row = { ...combination, optimizer };
    const measured = await measureRow(measurements, row, plan);
    const run = measured.result as TrainJson | undefined;
    yield { row: rowOf(row, measured), run };
    if (run !== undefined) return;
  }
}

/** The provider that rows were measured with, or both where one took f32 and the other f16. */
export function providersOf(
  rows: readonly Pick<Table2Row, "mixed_precision" | "provider">[],
  device: DeviceInfo,
): string {
  const of = (mixed: boolean) =>
    rows.find((row) => row.mixed_precision === mixed && row.provider !== undefined)?.provider;
  const [fp32, mixed] = [of(false), of(true)];
  return fp32 !== undefined && mixed !== undefined && fp32 !== mixed
    ? `${fp32} in fp32, ${mixed} in mixed precision`
    : fp32 ?? mixed ?? device.provider;
}

/** Measures what the folder does not hold yet. @throws as {@linkcode combinationRows} does. */
export async function table2(
  measurements: Measurements,
  settings: Table2Settings,
): Promise<Table2> {
  const plan = planTable2(measurements.device, settings), { device, model } = plan;
  const rows: Table2Row[] = [], planned = combinations(settings.optimizer);
  const bar = new ProgressBar("Runs", planned.length);
  let tokens: number | undefined;
  for (const [i, combination] of planned.entries()) {
    for await (const { row, run } of combinationRows(measurements, combination, plan)) {
      rows.push(row);
      tokens ??= run?.tokens;
    }
    bar.update(i + 1, describe(present(rows.at(-1), "row of the combination")));
  }
  return {
    model,
    samples: settings.samples,
    tokens,
    device,
    gpu: device.gpu,
    provider: providersOf(rows, device),
    lorikeet: VERSION,
    rows,
  };
}

/** How a run went, in a few words. */
export function describe(
  { peak_memory_mb, runtime_s }: Pick<Table2Row, "peak_memory_mb" | "runtime_s">,
): string {
  return runtime_s === undefined || peak_memory_mb === undefined
    ? "does not fit"
    : `${peak_memory_mb.toFixed(0)} MB, ${runtime_s.toFixed(1)} s`;
}
