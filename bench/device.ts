/**
 * The GPU that a run would get, for benches that only start others.
 *
 * @module
 */
import { z } from "zod";
import { openGpu } from "../kernels/gpu/gpu.ts";
import { megabytes } from "../kernels/gpu/memory.ts";
import { reasonOf } from "../kernels/ops/matmul/tuned.ts";
import { availableBytes } from "../model/transformer/capacity.ts";
import { command, parseFlags } from "../cli/command_line.ts";
import { flag } from "../cli/settings.ts";
import { nvidiaGpus } from "../kernels/measure/nvidia_smi.ts";
import { printJson, printLine } from "../kernels/terminal.ts";
import { trainSchema } from "../train/config/schema.ts";

const DEVICE = command(
  "bench device",
  "[--flag value ...]",
  "Tells which GPU, WebGPU and driver a run in mixed precision gets.",
  z.strictObject({
    gpu: trainSchema.shape.gpu,
    json: flag().default(false).describe("Print one JSON object."),
  }),
);

/** What is known of a GPU; memory in MB (2^20 bytes). */
export interface DeviceInfo {
  gpu: string;
  provider: string;
  /** Why this provider, in a few words. */
  reason: string;
  /** Whether it is a software driver. */
  software: boolean;
  /** The driver's version, where `nvidia-smi` tells. */
  driver?: string;
  /** Memory that can be allocated, where anybody knows. */
  available_mb?: number;
}

/** Runs the bench and prints lines, or JSON. */
export async function benchDevice(args: string[]): Promise<void> {
  const { gpu: provider, json } = parseFlags(DEVICE, args);
  const gpu = await openGpu({ provider, precision: "mixed" });
  const bytes = await availableBytes(gpu), nvidia = await nvidiaGpus();
  const info: DeviceInfo = {
    gpu: gpu.name,
    provider: gpu.provider,
    reason: reasonOf(gpu),
    software: gpu.software,
    driver: gpu.software ? undefined : nvidia.find(({ name }) => gpu.name.includes(name))?.driver,
    available_mb: bytes === undefined ? undefined : megabytes(bytes),
  };
  gpu.close();
  if (json) printJson(info, 2);
  else {for (const [key, value] of Object.entries(info)) {
      printLine(`${key}: ${value ?? "unknown"}`);
    }}
}
