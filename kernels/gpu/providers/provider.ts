/**
 * The differences between the implementations of WebGPU that Lorikeet runs on: how one is opened, the names of its
 * features, the lines of WGSL that enable them, how a buffer is read back, and how the end of all work is waited for.
 *
 * @module
 */
import type { Dialect, Extension } from "../program.ts";
import type { MatrixName } from "../subgroup_matrix.ts";

/** An implementation of WebGPU. */
export interface Provider {
  readonly name: "deno" | "dawn";
  readonly dialect: Dialect;
  /** Whether pipelines created asynchronously are compiled in parallel. */
  readonly compilesInParallel: boolean;
  /**
   * Whether a buffer is mapped as soon as the work submitted before it is done, while the GPU goes on with what
   * came later. Otherwise mapping waits for everything submitted.
   */
  readonly mapsInOrder: boolean;
  /** The best adapter, or null where there is none. */
  requestAdapter(): Promise<GPUAdapter | null>;
  /** The adapter's name as its driver gives it. */
  adapterName(adapter: GPUAdapter): string;
  /** Extensions that the adapter has or may have, each with the feature to ask its device for. */
  extensions(adapter: GPUAdapter): readonly (readonly [Extension, GPUFeatureName])[];
  /** The largest f16 matrices that the adapter's subgroups multiply with sums in f32. */
  matrices(adapter: GPUAdapter): MatrixName | undefined;
  /** Binds group 0 with its one dynamic offset. */
  bind(pass: GPUComputePassEncoder, group: GPUBindGroup, offset: number): void;
  /** Maps the first `bytes` bytes of a staging buffer; from the second time on without a wait. */
  map(staging: GPUBuffer, bytes: number): Promise<ArrayBuffer>;
  /** Maps a buffer to be written, whose own memory that is; absent where it would be a copy. */
  mapMemory?(buffer: GPUBuffer): Promise<ArrayBuffer>;
  /** Waits until everything submitted is done. */
  finish(queue: GPUQueue): Promise<void>;
}
