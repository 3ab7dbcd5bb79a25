/** The programs for GPUs on whatever adapter there is, for tests. @module */
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";

/** The device of a test file that takes the programs for GPUs, opened once: its programs are compiled once. */
let hardware: Gpu | undefined;
globalThis.addEventListener("unload", () => hardware?.close());

/**
 * Runs `body` on the test's device and, where that is a software driver, on one that takes the programs for
 * GPUs. Dawn's need a Mesa that takes minutes to compile these, so there the built-in provider's test must do.
 */
export async function withHardwarePrograms(
  gpu: Gpu,
  body: (gpu: Gpu) => Promise<void>,
): Promise<void> {
  await body(gpu);
  if (!gpu.software || gpu.provider === "dawn") return;
  hardware ??= await openGpu({ software: false });
  await body(hardware);
  await hardware.check();
}
