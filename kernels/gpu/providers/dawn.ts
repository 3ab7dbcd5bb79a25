/**
 * Dawn, Chrome's WebGPU, from `npm:webgpu`: the provider with subgroup matrices (tensor cores). Its
 * WGSL compiler is Tint. The library is loaded on demand from the file that `DAWN_NODE` names, which
 * the launcher fetches and sets.
 *
 * @module
 */
import { createRequire } from "node:module";
import { UserError } from "../../errors.ts";
import type { Extension } from "../program.ts";
import { MATRIX_SHAPES, type MatrixName, type MatrixShape } from "../subgroup_matrix.ts";
import { pacePolls, type PollPace, type PollScope } from "./dawn_event_loop.ts";
import { environment } from "./environment.ts";
import type { Provider } from "./provider.ts";

/** What the library exports. */
interface DawnModule {
  create(options: string[]): GPU;
}

/** A shape of matrix product that an adapter's subgroups do; not yet part of the standard. */
interface SubgroupMatrixConfig {
  componentType: string;
  resultComponentType: string;
  M: number;
  N: number;
  K: number;
}

/** Dawn's switches: those to set and those to unset. */
const OPTIONS = [
  "enable-dawn-features=" + [
    "allow_unsafe_apis", // timestamps, subgroup matrices
    "vulkan_enable_f16_on_nvidia", // else NVIDIA has no shader-f16
    "disable_robustness", // no clamped indices
  ].join(),
  "disable-dawn-features=timestamp_quantization", // to 0.1 ms
];

const FEATURES: readonly (readonly [Extension, GPUFeatureName])[] = [
  ["f16", "shader-f16"],
  ["subgroups", "subgroups"],
  ["subgroup_matrix", "chromium-experimental-subgroup-matrix" as GPUFeatureName],
];

/**
 * Dawn, and the file it was loaded from. Its objects outlive the process's end only while the instance, which owns them
 * all, is kept.
 */
let loaded: { file: string; instance: GPU } | undefined;
let pace: PollPace | undefined;

/** Whether the adapter's subgroups multiply f16 matrices of this shape with f32 sums. */
function multiplies({ info }: GPUAdapter, { m, n, k, lanes, spelling }: MatrixShape): boolean {
  const { subgroupMatrixConfigs = [], subgroupMaxSize } = info as GPUAdapterInfo & {
    subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig>;
  };
  return spelling === "chromium" && subgroupMaxSize === lanes &&
    [...subgroupMatrixConfigs].some(({ componentType, resultComponentType, M, N, K }) =>
      componentType === "f16" && resultComponentType === "f32" && M === m && N === n && K === k
    );
}

/** Dawn, which is loaded from the file that `DAWN_NODE` names. */
export const dawnProvider: Provider = {
  name: "dawn",
  dialect: {
    enable: {
      f16: "enable f16;\n",
      subgroups: "enable subgroups;\n",
      subgroup_matrix: "enable chromium_experimental_subgroup_matrix;\n",
    },
  },
  compilesInParallel: true,
  mapsInOrder: true,

  async requestAdapter() {
    const file = dawnFile();
    if (loaded?.file !== file) {
      const isFirst = loaded === undefined;
      loaded = { file, instance: loadDawn(file).create(OPTIONS) };
      if (isFirst) pace = pacePolls(globalThis as unknown as PollScope);
    }
    return await loaded.instance.requestAdapter({ powerPreference: "high-performance" });
  },

  adapterName({ info }) {
    // The name comes as an identifier: nvidia-h100-80gb-hbm3.
    const words = info.device.replaceAll("-", " ").trim().toUpperCase();
    return words || info.description || "unknown adapter";
  },

  extensions(adapter) {
    return FEATURES.filter(([name, feature]) =>
      adapter.features.has(feature) && (name !== "subgroup_matrix" || this.matrices(adapter))
    );
  },

  matrices(adapter) {
    const names = Object.keys(MATRIX_SHAPES) as MatrixName[];
    return names.find((name) => multiplies(adapter, MATRIX_SHAPES[name]));
  },

  bind(pass, group, offset) {
    pass.setBindGroup(0, group, [offset]); // 1.1 µs, and 1.45 µs with a typed array
  },

  async map(staging, bytes) {
    await staging.mapAsync(GPUMapMode.READ, 0, bytes);
    return staging.getMappedRange(0, bytes);
  },

  async mapMemory(buffer) {
    await buffer.mapAsync(GPUMapMode.WRITE);
    pace?.goOn();
    return buffer.getMappedRange();
  },

  async finish(queue) {
    await queue.onSubmittedWorkDone();
  },
};

/** The library's file. @throws {UserError} where it is not named, or this program may not load it. */
function dawnFile(): string {
  if (Deno.build.standalone) throw new UserError("a compiled program can't load Dawn");
  const file = environment("DAWN_NODE");
  if (file !== undefined) return file;
  throw new UserError(
    "Dawn is not installed: run the command once as `./lorikeet ... --gpu dawn`, which fetches it, " +
      "or name its dawn.node in DAWN_NODE",
  );
}

/** Loads the library. @throws {UserError} where it is not there. */
function loadDawn(file: string): DawnModule {
  try {
    return createRequire(import.meta.url)(file);
  } catch (error) {
    const [reason] = (error as Error).message.split("\n");
    throw new UserError(`Dawn can't be loaded from ${file}: ${reason}`);
  }
}
