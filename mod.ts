/**
 * Lorikeet fine-tunes and runs Llama models on one GPU, with WGSL kernels through WebGPU.
 *
 * The commands (`./lorikeet train`, `generate`, `score`) are what most people want; this module is for
 * programs that drive the same parts themselves. The built-in model continues a text, piece by piece:
 *
 * ```ts
 * import { open } from "./mod.ts";
 *
 * await using lorikeet = await open({ model: "builtin", precision: "fp32", context: 64 });
 * let text = "";
 * for await (const piece of lorikeet.generate("Rio is a lorikeet.", { maxTokens: 20 })) {
 *   text += piece.text;
 * }
 * console.log(text);
 * ```
 *
 * @module
 */
export { UserError } from "./kernels/errors.ts";
export { type Gpu, type GpuOptions, openGpu } from "./kernels/gpu/gpu.ts";
export { Memory, memoryLines, type MemoryTable } from "./kernels/gpu/memory.ts";
export { Tensor } from "./kernels/gpu/tensor.ts";
export { type AdapterPlan, loraPlan } from "./model/adapter/plan.ts";
export { adapterConfig, checkAdapter, readAdapter, writeAdapter } from "./model/formats/adapter.ts";
export { loadSamples, parseSamples } from "./model/text/data/load.ts";
export { makeBatch } from "./model/transformer/batch.ts";
export { type BeamOptions, BeamSearcher } from "./model/engine/beams.ts";
export type { ModelConfig } from "./model/families/config.ts";
export { presetConfig } from "./model/families/presets.ts";
export {
  Engine,
  GREEDY,
  type Sampling,
  Sequence,
  type SequenceOptions,
  type Token,
} from "./model/engine/engine.ts";
export type { EngineSizes } from "./model/engine/slots.ts";
export {
  generateMode,
  type Mode,
  numericsOf,
  scoreMode,
  trainMode,
} from "./model/transformer/modes.ts";
export { openMeta } from "./model/formats/meta.ts";
export { openHuggingFace } from "./model/formats/huggingface.ts";
export { writeHuggingFace } from "./model/formats/write_huggingface.ts";
export { Llama, type LlamaOptions } from "./model/transformer/llama.ts";
export { initializeAdapters, loadAdapter, loadWeights } from "./model/checkpoint/load.ts";
export { openModel } from "./model/checkpoint/source.ts";
export { activationPlan } from "./model/transformer/checkpointing.ts";
export type { JsonText, TemplateInputs } from "./model/text/templates/chat_rendering.ts";
export {
  chatEncoder,
  type ChatTemplate,
  encodeChat,
  type Message,
} from "./model/text/templates/chat.ts";
export {
  encodePrompt,
  encodeRaw,
  encodeSample,
  renderPrompt,
  type Sample,
} from "./model/text/prompt.ts";
export {
  type AnswerOptions,
  findModel,
  type FoundModel,
  type Loading,
  loadOnto,
  Lorikeet,
  type Made,
  type ModelNames,
  open,
  type OpenOptions,
  openSession,
  type Piece,
  Session,
} from "./model/session.ts";
export { loadTokenizer } from "./model/text/tokenizer/load.ts";
export type { Tokenizer } from "./model/text/tokenizer/tokenizer.ts";
export {
  makeTrainConfig,
  parseTrainArguments,
  type PartialTrainConfig,
  type TrainConfig,
} from "./train/config.ts";
export { Trainer } from "./train/trainer.ts";
