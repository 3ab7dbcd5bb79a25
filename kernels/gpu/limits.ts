/**
 * The limits and features asked of an adapter: all that it has, or only those that every WebGPU adapter has.
 *
 * @module
 */
import { UsageError, UserError } from "../errors.ts";
import type { Choice } from "./providers/choose.ts";
import { environment } from "./providers/environment.ts";
import type { Provider } from "./providers/provider.ts";

/**
 * What a device may do: `adapter`, all that its adapter can, or `default`, what the WebGPU specification
 * guarantees (https://www.w3.org/TR/webgpu/#limits): 8 storage buffers a program, 16 KiB of memory and
 * 256 threads a workgroup, bindings of 128 MiB, buffers of 256 MiB, and no optional feature, so neither f16 nor
 * subgroups nor timestamps.
 */
export type LimitsName = "adapter" | "default";

/** Most bytes that NVIDIA's driver allocates at once, which is less than Dawn's limit of a buffer. */
const MOST_ALLOCATED = 2 ** 32 - 2 ** 21;

/**
 * The limits that an option names, or else the variable LORIKEET_LIMITS.
 *
 * @throws {UsageError} where the option or the variable names none.
 */
export function limitsName(requested?: LimitsName): LimitsName {
  const value = requested ?? environment("LORIKEET_LIMITS") ?? "adapter";
  if (value === "adapter" || value === "default") return value;
  const name = requested === undefined ? "LORIKEET_LIMITS" : "limits";
  throw new UsageError(`${name} is "${value}"; expected adapter or default`);
}

/** All limits of an adapter that programs and memory make use of. */
export function allLimits(limits: GPUSupportedLimits): Record<string, number> {
  return {
    maxBufferSize: Math.min(limits.maxBufferSize, MOST_ALLOCATED),
    maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
    maxStorageBuffersPerShaderStage: Math.min(16, limits.maxStorageBuffersPerShaderStage),
    maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
    maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
    maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
    minUniformBufferOffsetAlignment: limits.minUniformBufferOffsetAlignment,
  };
}

/**
 * Opens the chosen adapter's device.
 *
 * @param timestamps Launches are to be measured, where the device can.
 * @throws {UserError} where the adapter gives no device.
 */
export async function openDevice(
  { provider, adapter }: Pick<Choice, "provider" | "adapter">,
  { limits, timestamps }: { limits: LimitsName; timestamps: boolean },
): Promise<GPUDevice> {
  const request = (requiredFeatures: GPUFeatureName[]) =>
    adapter.requestDevice({ requiredFeatures, requiredLimits: allLimits(adapter.limits) });
  const open = async () => {
    if (limits === "default") return await adapter.requestDevice();
    const features = provider.extensions(adapter).map(([, feature]) => feature);
    if (timestamps && adapter.features.has("timestamp-query")) features.push("timestamp-query");
    // The first try asks also for features that the adapter may have without listing them.
    return await request(features)
      .catch(() => request(features.filter((feature) => adapter.features.has(feature))));
  };
  return await open().catch((error: Error) => {
    const name = provider.adapterName(adapter);
    throw new UserError(`the GPU ${name} can't be opened: ${error.message}`);
  });
}

/**
 * Opens one more device of a provider, which only compiles.
 *
 * @throws {Error} where the adapter is gone or gives no device.
 */
export async function openCompilingDevice(
  provider: Provider,
  limits: LimitsName,
): Promise<GPUDevice> {
  const adapter = await provider.requestAdapter();
  if (adapter === null) throw new Error("the adapter is gone");
  return await openDevice({ provider, adapter }, { limits, timestamps: false });
}
