/**
 * Lorikeet fine-tunes and runs Llama models on one GPU, with WGSL kernels through WebGPU.
 *
 * The commands (`./lorikeet train`, `generate`, `score`) are what most people want; this module is for
 * programs that drive the same parts themselves. The built-in model continues a text:
 *
 * ```ts
 * import { encodePrompt, greedy, KvCache, Llama, loadTokenizer, loadWeights, openGpu, openModel } from "./mod.ts";
 *
 * const gpu = await openGpu();
 * const source = openModel("builtin");
 * const tokenizer = await loadTokenizer(source.tokenizerPath!);
 * const prompt = encodePrompt(tokenizer, "Rio is a lorikeet.");
 * const model = new Llama(gpu.memory, {
 *   config: source.config,
 *   precision: "fp32",
 *   trained: "nothing",
 *   maxTokens: prompt.length,
 *   maxTargets: 1,
 *   maxPosition: prompt.length + 20,
 * });
 * model.initialize(gpu);
 * await loadWeights(gpu, model, source, { seed: 0 });
 * const cache = new KvCache(gpu.memory, source.config, prompt.length + 20, model.dtype);
 * const ids: number[] = [];
 * for await (const id of greedy(gpu, model, prompt, { maxTokens: 20, stop: [tokenizer.eos_id], cache })) {
 *   ids.push(id);
 * }
 * console.log(tokenizer.decode(ids));
 * gpu.close();
 * ```
 *
 * @module
 */
export { UserError } from "./kernels/errors.ts";
export { type Gpu, type GpuOptions, openGpu } from "./kernels/gpu.ts";
export { Memory, memoryLines, type MemoryTable } from "./kernels/memory.ts";
export { Tensor } from "./kernels/tensor.ts";
export { readAdapter, writeAdapter } from "./model/adapter.ts";
export { loadAlpaca } from "./model/alpaca.ts";
export { makeBatch } from "./model/batch.ts";
export { KvCache } from "./model/cache.ts";
export { type LlamaConfig, presetConfig } from "./model/config.ts";
export { greedy } from "./model/generate.ts";
export { openHuggingFace, writeHuggingFace } from "./model/huggingface.ts";
export { Llama, type LlamaOptions } from "./model/llama.ts";
export { initializeAdapters, loadAdapter, loadWeights } from "./model/load.ts";
export { openModel } from "./model/source.ts";
export { activationPlan } from "./model/plan.ts";
export { encodePrompt, encodeSample, renderPrompt } from "./model/prompt.ts";
export { loadTokenizer, type Tokenizer } from "./model/tokenizer.ts";
export { parseTrainArguments, type TrainConfig } from "./train/config.ts";
export { Trainer } from "./train/trainer.ts";
