/**
 * Lorikeet fine-tunes and runs language models on one GPU, with WGSL kernels through WebGPU.
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
 * The same model is fine-tuned with LoRA, step by step:
 *
 * ```ts
 * import { makeTrainConfig, openTraining } from "./mod.ts";
 *
 * const config = makeTrainConfig({ samples: 16, learning_rate: 2e-3, output: "runs/example" });
 * await using training = await openTraining(config);
 * for await (const { step, loss } of training.steps()) {
 *   console.log(`step ${step}: loss ${loss.toFixed(4)}`);
 * }
 * console.log(`The adapter is in ${await training.save()}`);
 * ```
 *
 * `training.save()` also writes a state. With `resume: "auto"` in the configuration, the same program goes on from the last
 * one in `output`; `await training.saveState()` between two steps saves one while the next steps run.
 *
 * A program of another folder imports this file by its path and finds the packages by the project's deno.json:
 *
 * ```sh
 * path/to/lorikeet deno run --allow-all --config path/to/deno.json program.ts
 * ```
 *
 * @module
 */
export { UsageError, UserError } from "./kernels/errors.ts";
export { type Gpu, type GpuOptions, openGpu } from "./kernels/gpu/gpu.ts";
export { Memory, memoryLines, type MemoryTable } from "./kernels/gpu/memory.ts";
export { Tensor } from "./kernels/gpu/tensor.ts";
export { type AdapterPlan, loraPlan } from "./model/adapter/plan.ts";
export { checkAdapter, readAdapter, writeAdapter } from "./model/adapter/adapter_folder.ts";
export { adapterConfig } from "./model/adapter/adapter_config.ts";
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
export { openGguf } from "./model/formats/gguf/weights.ts";
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
export { encodePrompt, encodeRaw, encodeSample, renderPrompt } from "./model/text/prompt.ts";
export type { Sample } from "./model/text/sample.ts";
export {
  type AnswerOptions,
  type AnswerPiece,
  findModel,
  type FoundModel,
  type Loaded,
  type Loading,
  loadOnto,
  Lorikeet,
  type ModelNames,
  open,
  type OpenOptions,
  openSession,
  Session,
} from "./model/session.ts";
export { loadTokenizer } from "./model/text/tokenizer/load.ts";
export type { Tokenizer } from "./model/text/tokenizer/tokenizer.ts";
export {
  makeTrainConfig,
  parseTrainArguments,
  type PartialTrainConfig,
  type TrainConfig,
} from "./train/config/config.ts";
export type {
  LogLikelihoods,
  Objective,
  ScoredModel,
  WeighedWindow,
} from "./train/objective/objective.ts";
export { SupervisedFineTuning } from "./train/objective/sft.ts";
export { type AccumulationWindow, PassPlanner, type RunSizes } from "./train/planner.ts";
export { type StepResult, Trainer, type TrainerOptions } from "./train/trainer.ts";
export type { Progress } from "./train/states/state_file.ts";
export type { StateUnderWay } from "./train/states/state_saver.ts";
export { openTraining, type Training, type TrainingStep } from "./train/training.ts";
