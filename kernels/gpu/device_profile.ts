/**
 * What is known of a device, for the choice of tiles and grids.
 *
 * @module
 */
import type { Extension } from "./program.ts";

/** What WebGPU does not tell of a GPU. */
export interface GpuRates {
  /** Multiprocessors (compute units), which run the workgroups. */
  processors: number;
  /** Bytes a second that partial sums are written and read with. */
  memoryRate: number;
}

/** What is known of a device. */
export interface DeviceProfile extends GpuRates {
  /** A software driver such as Mesa's lavapipe: few cores, and barriers are expensive. */
  software: boolean;
  /** Fewest threads of a subgroup; 0 without subgroup functions. */
  subgroup: number;
  /** Threads of a workgroup at most. */
  workgroupThreads: number;
  /** Bytes of workgroup memory at most. */
  workgroupBytes: number;
}

/** NVIDIA's H100, which stands for every GPU: choices were measured on it. */
export const H100: GpuRates = { processors: 132, memoryRate: 2.5e12 };

/** The smallest subgroup that WGSL knows. */
const LEAST_SUBGROUP = 4;

/** The profile of an open device; what WebGPU does not tell is an H100's. */
export function deviceProfile(
  { limits, adapterInfo }: Pick<GPUDevice, "limits"> & { adapterInfo?: GPUAdapterInfo },
  { software, extensions }: { software: boolean; extensions: ReadonlySet<Extension> },
): DeviceProfile {
  return {
    ...H100,
    software,
    subgroup: extensions.has("subgroups") ? adapterInfo?.subgroupMinSize || LEAST_SUBGROUP : 0,
    workgroupThreads: limits.maxComputeInvocationsPerWorkgroup,
    workgroupBytes: limits.maxComputeWorkgroupStorageSize,
  };
}
