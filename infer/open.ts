/**
 * What `generate` and `score` do alike: find a model with its tokenizer and adapter, and bring it to
 * the GPU once its memory is planned.
 *
 * @module
 */
import { type Gpu, openGpu } from "../kernels/gpu/gpu.ts";
import type { Memory } from "../kernels/gpu/memory.ts";
import { measureRoofs } from "../kernels/measure/roofs.ts";
import type { Dtype } from "../kernels/gpu/tensor.ts";
import { reasonOf } from "../kernels/ops/matmul/tuned.ts";
import type { AdapterPlan } from "../model/adapter/plan.ts";
import { allocatePlanned } from "../model/transformer/capacity.ts";
import { loadingBar } from "../cli/progress.ts";
import { type Adapter, checkAdapter, readAdapter } from "../model/formats/adapter.ts";
import { Llama, type LlamaOptions } from "../model/transformer/llama.ts";
import { loadAdapter, loadWeights } from "../model/checkpoint/load.ts";
import { type ModelWithTokenizer, openModelWithTokenizer } from "../model/checkpoint/source.ts";
import type { CacheFlags, ModelFlags } from "./flags.ts";

/** A model that was found and checked; its weights are still in their files. */
export interface FoundModel extends ModelWithTokenizer {
  adapter?: Adapter & { plan: AdapterPlan };
}

/**
 * Finds what the flags name.
 *
 * @throws {UserError} where a file is missing or wrong, or tokenizer or adapter don't fit the model.
 */
export async function findModel(flags: ModelFlags): Promise<FoundModel> {
  const found = await openModelWithTokenizer(flags);
  if (flags.adapter === undefined) return found;
  const adapter = readAdapter(flags.adapter);
  const plan = checkAdapter(adapter, found.source.config, flags.adapter);
  return { ...found, adapter: { ...adapter, plan } };
}

/** The largest pass to come, which sizes the buffers. */
export type PassSizes = Pick<
  LlamaOptions,
  "maxTokens" | "maxTargets" | "maxPosition" | "decodedSequences"
>;

/** Element type of the KV cache. */
export function cacheDtype({ cache_dtype, precision }: CacheFlags): Dtype {
  if (cache_dtype !== "auto") return cache_dtype;
  return precision === "fp32" ? "f32" : "f16";
}

/**
 * Opens the GPU and loads the model.
 *
 * @param also Allocates what is needed beside the model.
 * @param advice What would need less memory, for the message where it does not fit.
 * @throws {UserError} where there is no GPU, or not the memory: then before anything is allocated.
 */
export async function loadModel<T>(
  { source, adapter }: FoundModel,
  flags: ModelFlags,
  sizes: PassSizes,
  also: (memory: Memory, model: Llama) => T,
  advice: string,
): Promise<{ gpu: Gpu; model: Llama; also: T }> {
  const gpu = await openGpu({
    provider: flags.gpu,
    precision: flags.precision,
    profile: flags.profile,
  });
  console.error(`GPU: ${gpu.name} (${gpu.provider}: ${reasonOf(gpu)})`);
  if (gpu.profiler) {
    gpu.profiler.roofs = await measureRoofs(gpu, flags.precision === "mixed" ? "f16" : "f32");
  }
  const options: LlamaOptions = {
    config: source.config,
    precision: flags.precision,
    exact: flags.exact_products,
    trained: "nothing",
    lora: adapter?.plan,
    ...sizes,
  };
  const made = await allocatePlanned(gpu, (memory) => {
    const model = new Llama(memory, options);
    return { model, also: also(memory, model) };
  }, advice);
  made.model.initialize(gpu);
  await loadWeights(gpu, made.model, source, { seed: flags.seed, progress: loadingBar() });
  if (adapter !== undefined) loadAdapter(gpu, made.model, adapter);
  await gpu.profiler?.take(); // loading is no part of the profile
  return { gpu, ...made };
}
