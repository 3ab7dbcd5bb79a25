/** Devices that bind little at once, for tests of split tensors. @module */
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";

/** A test file's devices by the most bytes that they bind, each opened once: its programs are compiled once. */
const devices = new Map<number, Gpu>();
globalThis.addEventListener("unload", () => devices.forEach((gpu) => gpu.close()));

/** Runs `body` on a device that refuses to bind more than `maxBinding` bytes. */
export async function withMaxBinding(
  maxBinding: number,
  body: (gpu: Gpu) => Promise<void>,
): Promise<void> {
  const gpu = devices.get(maxBinding) ?? await openGpu({ maxBinding });
  devices.set(maxBinding, gpu);
  await body(gpu);
  await gpu.check();
}
