/** A device that binds little at once, for tests of split tensors. @module */
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";

/** Runs `body` on a device of its own that refuses to bind more than `maxBinding` bytes. */
export async function withMaxBinding(
  maxBinding: number,
  body: (gpu: Gpu) => Promise<void>,
): Promise<void> {
  const gpu = await openGpu({ maxBinding });
  try {
    await body(gpu);
    await gpu.check();
  } finally {
    gpu.close();
  }
}
