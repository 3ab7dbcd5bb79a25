/**
 * What a pipeline is built from: plain data, which any device takes.
 *
 * @module
 */
import { type Dialect, type Program, wgsl } from "./program.ts";

/** A program's WGSL and what it is bound to. */
export interface PipelineSource {
  /** The program's key. */
  label: string;
  code: string;
  entries: GPUBindGroupLayoutEntry[];
}

/** What a device builds a pipeline from. */
export interface PipelinePlan {
  module: GPUShaderModule;
  layout: GPUBindGroupLayout;
  descriptor: GPUComputePipelineDescriptor;
}

/** The source of a program in an implementation's dialect. */
export function pipelineSource(program: Program, dialect: Dialect): PipelineSource {
  const uniformBytes = program.uniformNames.length * 4;
  const visibility = GPUShaderStage.COMPUTE;
  const entries: GPUBindGroupLayoutEntry[] = program.bindings.map((b, i) => ({
    binding: i + 1,
    visibility,
    buffer: { type: b.access === "read" ? "read-only-storage" : "storage" },
  }));
  if (uniformBytes > 0) {
    entries.push({
      binding: 0,
      visibility,
      buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: uniformBytes },
    });
  }
  return { label: program.key, code: wgsl(program, dialect), entries };
}

/** Parses a source; errors go to the device's error scope. */
export function planPipeline(
  device: GPUDevice,
  { label, code, entries }: PipelineSource,
): PipelinePlan {
  const module = device.createShaderModule({ label, code });
  const layout = device.createBindGroupLayout({ entries });
  const descriptor = {
    label,
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module, entryPoint: "main" },
  };
  return { module, layout, descriptor };
}
