/** Tests of programs for subgroup matrices. */
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import { MATRIX_SHAPES } from "../../kernels/gpu/subgroup_matrix.ts";
import { gpu, gpuTest } from "./harness.ts";

/** The device of a test file that emulates matrices, opened once: its programs are compiled once. */
let emulating: Gpu | undefined;
globalThis.addEventListener("unload", () => emulating?.close());

/** Whether the device's subgroups are of the size that matrices are emulated in, and programs may use f16 as well. */
const canEmulate = (gpu: Gpu) =>
  gpu.software && gpu.extensions.has("f16") &&
  gpu.profile.subgroup === MATRIX_SHAPES.emulated.lanes;

/**
 * A test on subgroup matrices: those of the device, or else emulated ones on a software driver; ignored, with the reason in
 * its name, where there are neither.
 *
 * @param emulates Whether emulated matrices will do: naga refuses some programs that Tint takes.
 */
export function matrixTest(
  name: string,
  body: (gpu: Gpu) => Promise<void>,
  { emulates = true } = {},
): void {
  if (gpu === undefined || gpu.matrices) return gpuTest(name, body);
  if (emulates && canEmulate(gpu)) {
    return gpuTest(name, async () => {
      emulating ??= await openGpu({ matrices: "emulated" });
      await body(emulating);
      await emulating.check();
    });
  }
  Deno.test({ name: `${name} (ignored: no subgroup matrices)`, ignore: true, fn: () => {} });
}
