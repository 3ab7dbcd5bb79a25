/**
 * Memory of the GPU and of the host.
 *
 * @module
 */
import { megabytes } from "../kernels/gpu/memory.ts";
import type { HostMemory } from "../kernels/measure/host_memory.ts";
import type { NvidiaGpu } from "../kernels/measure/nvidia_smi.ts";
import { type Check, ok, warning } from "./check.ts";
import type { Probe } from "./probe.ts";

/** Host memory that reading and writing a 7B model takes (docs/measurements.md), with room. */
const LEAST_HOST = 2 ** 30;
/** The part of a GPU's memory that should be free. */
const LEAST_FREE = 0.5;

const mb = (bytes: number) => `${Math.round(megabytes(bytes))} MB`;

/** What NVIDIA says of the GPU of a run. */
export function ofProbe(gpus: readonly NvidiaGpu[], { gpu }: Probe): NvidiaGpu | undefined {
  const name = gpu.toLowerCase();
  return gpus.find((other) => name.includes(other.name.toLowerCase())) ?? gpus[0];
}

/** The GPU's memory. @param gpus What `nvidia-smi` tells. */
export function checkDeviceMemory(probe: Probe, gpus: readonly NvidiaGpu[]): Check {
  const { software, available } = probe;
  if (software) {
    return ok("gpu memory", "the host's, as the driver computes on the CPU", {
      available_mb: available && megabytes(available),
    });
  }
  const nvidia = ofProbe(gpus, probe);
  if (nvidia === undefined) {
    return ok(
      "gpu memory",
      "not known: WebGPU doesn't tell, and a run that does not fit is refused by the driver",
    );
  }
  const { total, free, driver } = nvidia;
  const details = { total_mb: megabytes(total), free_mb: megabytes(free), driver };
  const found = `${mb(free)} free of ${mb(total)} (driver ${driver})`;
  if (free >= LEAST_FREE * total) return ok("gpu memory", found, details);
  const remedy =
    "See with `nvidia-smi` which programs hold the rest, and end them or wait for them.";
  return warning("gpu memory", found, remedy, details);
}

/** The host's memory. @param total All that the machine has, in bytes. @param memory What a run may take of it. */
export function checkHostMemory(total: number, { bytes, limit }: HostMemory): Check {
  const details = { total_mb: megabytes(total), available_mb: megabytes(bytes), limit };
  const by = limit === undefined ? "" : `, limited by ${limit}`;
  const found = `${mb(bytes)} available of ${mb(total)}${by}`;
  if (bytes >= LEAST_HOST) return ok("host memory", found, details);
  const remedy = limit === undefined
    ? "End other programs, or ask for a machine with more memory."
    : "Ask for a job with more memory.";
  return warning("host memory", found, remedy, details);
}
