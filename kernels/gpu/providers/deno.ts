/**
 * Deno's built-in WebGPU: wgpu, whose WGSL compiler is naga.
 *
 * @module
 */
import { pollEventLoop } from "../event_loop.ts";
import type { Provider } from "./provider.ts";

const offsets = new Uint32Array(1);
/** Buffers that were mapped before, and waited for. */
const awaited = new WeakSet<GPUBuffer>();

/** Deno's built-in WebGPU. */
export const denoProvider: Provider = {
  name: "deno",
  // naga takes subgroup functions without an `enable` line, and refuses one.
  dialect: { enable: { f16: "enable f16;\n" } },
  // createComputePipelineAsync compiles before it returns, as createComputePipeline does.
  compilesInParallel: false,
  mapsInOrder: false,

  async requestAdapter() {
    return await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" }) ?? null;
  },

  adapterName({ info }) {
    return info.description || info.device || "unknown adapter";
  },

  extensions({ features }) {
    // The adapter does not list subgroups, though its device has them where the hardware does.
    return features.has("shader-f16")
      ? [["f16", "shader-f16"], ["subgroups", "subgroups"]]
      : [["subgroups", "subgroups"]];
  },

  matrices() {
    return undefined; // Deno asks for none of wgpu's experimental features.
  },

  bind(pass, group, offset) {
    offsets[0] = offset;
    pass.setBindGroup(0, group, offsets, 0, 1); // 0.13 µs, and 0.59 µs with a list
  },

  async map(staging, bytes) {
    // The buffer is mapped when the call returns, though the promise resolves 10 ms later. Deno crashes where
    // none of a buffer's was ever awaited.
    const mapped = staging.mapAsync(GPUMapMode.READ, 0, bytes);
    if (!awaited.has(staging)) {
      await mapped;
      awaited.add(staging);
      return staging.getMappedRange(0, bytes);
    }
    mapped.catch(() => {});
    try {
      return staging.getMappedRange(0, bytes);
    } catch {
      await mapped;
      return staging.getMappedRange(0, bytes);
    }
  },

  async finish(queue) {
    // All is done when the call returns, though the promise resolves 10 ms later (Deno 2.9.6).
    queue.onSubmittedWorkDone().catch(() => {});
    await pollEventLoop();
  },
};
