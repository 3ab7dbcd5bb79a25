/** Tests of programs for subgroup matrices. */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { gpu, gpuTest } from "./harness.ts";

/** A test on subgroup matrices; ignored, with the reason in its name, where the device has none. */
export function matrixTest(name: string, body: (gpu: Gpu) => Promise<void>): void {
  if (gpu === undefined || gpu.matrices) return gpuTest(name, body);
  Deno.test({ name: `${name} (ignored: no subgroup matrices)`, ignore: true, fn: () => {} });
}
