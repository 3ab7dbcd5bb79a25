/**
 * `lorikeet doctor probe`: opens the GPU as a run would and tells what it is. The doctor runs it as a process of its
 * own, as a driver may crash or hang.
 *
 * @module
 */
import { z } from "zod";
import { command, parseFlags } from "../cli/command_line.ts";
import { gpu as provider } from "../cli/common_settings.ts";
import { flag } from "../cli/settings.ts";
import { type Gpu, openGpu } from "../kernels/gpu/gpu.ts";
import { allLimits } from "../kernels/gpu/limits.ts";
import { onTensorCores } from "../kernels/gpu/subgroup_matrix.ts";
import { measureRoofs } from "../kernels/measure/roofs.ts";
import { printJson } from "../kernels/terminal.ts";
import { reasonOf } from "../kernels/ops/matmul/tuned.ts";
import { availableBytes } from "../model/transformer/capacity.ts";
import { wrongResult } from "./known_answers.ts";

const PROBE = command(
  "doctor probe",
  "[--flag value ...]",
  "Tells what the GPU is that a run in mixed precision gets, as one JSON object.",
  z.strictObject({
    gpu: provider,
    measure: flag().default(false).describe("Also measure a matrix product and a copy."),
  }),
);

/** Rates that were reached. */
export interface Speed {
  /** Bytes read plus written by a copy, 10^9 a second. */
  readonly copy: number;
  /** A product of f32 matrices, 10^12 operations a second. */
  readonly f32: number;
  /** The same of f16 matrices with sums in f32, as mixed precision multiplies. */
  readonly f16: number;
  /** What came out wrong; absent where everything was right. */
  readonly wrong?: string;
}

/** An open GPU. */
export interface Probe {
  readonly gpu: string;
  readonly provider: string;
  /** Why this provider, in a few words. */
  readonly reason: string;
  /** Whether it is a software driver. */
  readonly software: boolean;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  readonly f16: boolean;
  /** Threads of a subgroup; 0 without subgroup functions or where nobody tells. */
  readonly subgroup: { readonly least: number; readonly most: number };
  readonly subgroups: boolean;
  readonly tensorCores: boolean;
  /** Bytes that can be allocated, where anybody knows. */
  readonly available?: number;
  readonly speed?: Speed;
}

async function measure(gpu: Gpu): Promise<Speed> {
  const wrong = await wrongResult(gpu);
  const single = await measureRoofs(gpu, "f32"), half = await measureRoofs(gpu, "f16");
  const copy = Math.max(single.bandwidth, half.bandwidth) / 1e9;
  return { copy, f32: single.matmul / 1e12, f16: half.matmul / 1e12, wrong };
}

/** Opens the GPU and prints what it is. */
export async function probe(args: string[]): Promise<void> {
  const flags = parseFlags(PROBE, args);
  await using gpu = await openGpu({ provider: flags.gpu, precision: "mixed" });
  const { features, limits, adapterInfo } = gpu.device;
  const found: Probe = {
    gpu: gpu.name,
    provider: gpu.provider,
    reason: reasonOf(gpu),
    software: gpu.software,
    features: [...features].sort(),
    limits: allLimits(limits),
    f16: gpu.extensions.has("f16"),
    subgroup: {
      least: adapterInfo?.subgroupMinSize ?? 0,
      most: adapterInfo?.subgroupMaxSize ?? 0,
    },
    subgroups: gpu.extensions.has("subgroups"),
    tensorCores: onTensorCores(gpu.matrices),
    available: await availableBytes(gpu),
    speed: flags.measure ? await measure(gpu) : undefined,
  };
  printJson(found);
}
