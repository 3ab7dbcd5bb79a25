/**
 * What a piece of work has the GPU do, launch by launch.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Cost } from "../../kernels/gpu/work.ts";

/** One launch: the key of its program and its floating-point operations and bytes. */
export interface Launch extends Cost {
  key: string;
}

/** The launches that `work` records. */
export async function launchesOf(gpu: Gpu, work: () => unknown): Promise<Launch[]> {
  const uses = await gpu.trace(work);
  return uses.flatMap(({ launch }) =>
    launch === undefined ? [] : [{ key: launch.key, ...(launch.cost ?? { flops: 0, bytes: 0 }) }]
  );
}
