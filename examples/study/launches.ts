/**
 * What a piece of work has the GPU do, launch by launch.
 *
 * @module
 */
import type { Cost, Gpu } from "../../kernels/gpu.ts";

/** One launch: the key of its program and its floating-point operations and bytes. */
export interface Launch extends Cost {
  key: string;
}

/** The launches that `work` records. */
export async function launchesOf(gpu: Gpu, work: () => unknown): Promise<Launch[]> {
  const launches: Launch[] = [];
  const { run } = gpu;
  gpu.run = (program, tensors, uniforms, workgroups, cost) => {
    launches.push({ key: program.key, flops: cost?.flops ?? 0, bytes: cost?.bytes ?? 0 });
    run.call(gpu, program, tensors, uniforms, workgroups, cost);
  };
  try {
    await work();
  } finally {
    gpu.run = run;
  }
  return launches;
}
