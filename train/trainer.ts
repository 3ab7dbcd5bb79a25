/**
 * The training step, from samples to updated weights:
 *
 *     for each micro-batch of the window: forward, loss, backward (gradients add up)
 *     gradient norm, clipping, loss scale, optimizer
 *     one read: the losses, the norm, whether the step was skipped
 *
 * @module
 */
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { CONTROL } from "../kernels/ops/optimizer/loss_scale.ts";
import type { Memory } from "../kernels/gpu/memory.ts";
import { type Batch, type Document, makeBatch } from "../model/transformer/batch.ts";
import type { ModelConfig } from "../model/families/config.ts";
import { Llama } from "../model/transformer/llama.ts";
import { type Decoding, numericsOf } from "../model/transformer/modes.ts";
import { supervisedTokens, type TokenizedSample } from "../model/text/prompt.ts";
import { trainedPlan } from "./adapter_settings.ts";
import type { TrainConfig } from "./config.ts";
import { lossWeights } from "./data.ts";
import { loraPlusRate } from "./lora_plus.ts";
import { Optimizer } from "./optimizer.ts";
import { type PackedSample, type PackingOptions, passes, passTokens } from "./packing.ts";

/** The largest passes of a run, which size its buffers. */
export interface RunSizes {
  /** Most tokens and most targets of one pass. */
  maxTokens: number;
  maxTargets: number;
  /** Most tokens of one document. */
  maxPosition: number;
  /** Sequences that are decoded together between steps, where any are. */
  decoding?: Decoding;
  /** Most micro-batches of a window. Default: the configuration's, which data may be too short for. */
  maxMicroBatches?: number;
}

/** What a step did. */
export interface StepResult {
  /** Loss of the window and of each micro-batch. */
  loss: number;
  losses: number[];
  /** Norm of the gradients before clipping. */
  gradNorm: number;
  /** Loss scale that the step ran with. */
  lossScale: number;
  /** Whether the update was left out because a gradient was not finite. */
  skipped: boolean;
  /** Tokens of the window's samples. */
  tokens: number;
}

/** What a step is told beside its samples. */
export interface StepOptions {
  learningRate: number;
  /** Micro-batches of the run before this window; decides the dropout masks. */
  firstMicroBatch: number;
}

/** A step on its way to the GPU: its window, and the weights of its targets. */
export interface RecordedStep {
  window: Window;
  weights: ReturnType<typeof lossWeights>;
}

/** Samples of a window, by micro-batch. */
export type Window = readonly (readonly TokenizedSample[])[];

/** A model in training. */
export class Trainer {
  readonly model: Llama;
  readonly optimizer: Optimizer;
  #lossScale: number;
  /** Steps skipped and steps taken so far, those of the runs that this one goes on with included. */
  skipped = 0;
  taken = 0;

  /** Allocates everything; a {@linkcode Memory} without a device only counts. */
  constructor(
    memory: Memory,
    modelConfig: ModelConfig,
    readonly config: TrainConfig,
    sizes: RunSizes,
    maxBinding: number,
  ) {
    const { lora, precision, checkpointing, gradient_accumulation_steps } = config;
    const { maxMicroBatches = gradient_accumulation_steps, decoding = null, ...pass } = sizes;
    this.#lossScale = precision === "mixed" ? config.initial_loss_scale : 1;
    this.model = new Llama(memory, {
      config: modelConfig,
      numerics: numericsOf(config),
      lora: lora ? trainedPlan(lora, modelConfig) : undefined,
      mode: {
        kind: "train",
        trained: lora ? "adapters" : "weights",
        checkpointing,
        lossSlots: maxMicroBatches,
        sharedPrefixes: config.packing && config.share_prefixes,
        initialLossScale: this.#lossScale,
        decoding,
        ...pass,
      },
    });
    const plus = lora && lora.plus_ratio !== 1 &&
      { ratio: lora.plus_ratio, learningRate: config.learning_rate };
    this.optimizer = new Optimizer(
      memory,
      this.model.trained,
      config,
      maxBinding,
      plus ? (parameter) => loraPlusRate(parameter, plus) : undefined,
    );
  }

  /** One optimizer step. */
  step(gpu: Gpu, window: Window, options: StepOptions): Promise<StepResult> {
    return this.finish(gpu, this.record(gpu, window, options));
  }

  /** Records an optimizer step; {@linkcode finish} then tells what it did. */
  record(gpu: Gpu, window: Window, { learningRate, firstMicroBatch }: StepOptions): RecordedStep {
    const weights = this.#passes(gpu, window, firstMicroBatch);
    this.optimizer.step(gpu, this.model.control, learningRate);
    this.model.parametersChanged();
    return { window, weights };
  }

  /**
   * What a recorded step did; waits for it.
   *
   * @param meanwhile Called while the GPU is at work on the step; may record the next one.
   */
  async finish(
    gpu: Gpu,
    { window, weights }: RecordedStep,
    meanwhile?: () => void,
  ): Promise<StepResult> {
    const { control, losses: parts } = await this.model.readResults(gpu, meanwhile);
    const result = {
      loss: parts.subarray(0, window.length).reduce((sum, part) => sum + part, 0),
      // A token's weight differs between the window's loss and its micro-batch's by a factor.
      losses: window.map((_, slot) =>
        parts[slot] * weights.microBatch[slot][0] / weights.window[slot][0]
      ),
      gradNorm: control[CONTROL.gradNorm],
      lossScale: this.#lossScale,
      skipped: control[CONTROL.skip] === 1,
      tokens: window.flat().reduce((sum, { ids }) => sum + ids.length, 0),
    };
    this.readControl(control);
    return result;
  }

  /**
   * Prepares every pass of these windows without running it, so that all programs are compiled before the first
   * step. Which programs a pass takes follows from its tokens (the blocks) and from its targets (the output end):
   * passes that bring neither a number of tokens nor one of targets that was there before are left out.
   *
   * @returns Programs compiled.
   */
  rehearse(gpu: Gpu, windows: Iterable<Window>): Promise<number> {
    const { sliding_window } = this.model.config;
    return gpu.rehearse(() => {
      const seen = new Set<string>();
      for (const window of windows) {
        let weights: ReturnType<typeof lossWeights> | undefined;
        for (const pass of passes(window, this.config, sliding_window)) {
          const shares = pass.some(({ shared }) => shared > 0);
          const sizes = [`${passTokens(pass)} tokens, ${shares}`, `${passTargets(pass)} targets`];
          if (sizes.every((size) => seen.has(size))) continue;
          sizes.forEach((size) => seen.add(size));
          weights ??= lossWeights(window, this.config.loss_normalization);
          this.#pass(gpu, this.#batch(pass, weights.window), 0);
        }
      }
      this.optimizer.clearGradients(gpu);
      this.optimizer.step(gpu, this.model.control, 0);
      // What was rehearsed has not been computed.
      this.model.parametersChanged();
    });
  }

  /**
   * Runs the passes of a window and waits, so that memory is touched before steps are timed. Parameters,
   * the optimizer's state and the loss scale stay as they are, and the next step clears the gradients.
   */
  async warmUp(gpu: Gpu, window: Window): Promise<void> {
    this.#passes(gpu, window, 0);
    await this.model.readResults(gpu);
  }

  /** Runs the passes of a window, whose gradients are then those of its loss. @returns its targets' weights. */
  #passes(gpu: Gpu, window: Window, firstMicroBatch: number): ReturnType<typeof lossWeights> {
    const weights = lossWeights(window, this.config.loss_normalization);
    this.optimizer.clearGradients(gpu);
    for (const { batch, slot } of this.#batches(window, weights.window)) {
      this.#pass(gpu, batch, firstMicroBatch + slot);
    }
    return weights;
  }

  /** The passes of a window, each with its first micro-batch's number. */
  *#batches(window: Window, weights: readonly (readonly number[])[]) {
    for (const pass of passes(window, this.config, this.model.config.sliding_window)) {
      const slot = Math.min(...pass.map(({ slot }) => slot));
      yield { batch: this.#batch(pass, weights), slot };
    }
  }

  /** A pass of a window whose targets have these weights. */
  #batch(pass: readonly PackedSample[], weights: readonly (readonly number[])[]): Batch {
    const documents = pass.map(({ sample, slot, index, shared }): Document => {
      return { ...sample, weight: weights[slot][index], slot, shared };
    });
    return makeBatch(documents, this.model.config.sliding_window);
  }

  #pass(gpu: Gpu, batch: Batch, step: number): void {
    const { lora, seed } = this.config, p = lora ? lora.dropout : 0;
    this.model.loss(gpu, batch, { backward: true, dropout: { p, seed, step } });
  }

  /** Takes over the loss scale and the counts of steps from the control tensor's values. */
  readControl(control: Float32Array): void {
    this.#lossScale = control[CONTROL.scale];
    this.skipped = control[CONTROL.skipped];
    this.taken = control[CONTROL.steps];
  }
}

/** Targets of a pass. */
function passTargets(pass: readonly PackedSample[]): number {
  return pass.reduce((sum, { sample }) => sum + supervisedTokens(sample), 0);
}

/** The largest passes over any of these windows; by default every micro-batch is one. */
export function runSizes(
  windows: Iterable<Window>,
  packing: PackingOptions = { packing: false, share_prefixes: false },
  slidingWindow: number | null = null,
): RunSizes {
  const sizes: RunSizes = { maxTokens: 1, maxTargets: 1, maxPosition: 1 };
  for (const window of windows) {
    for (const pass of passes(window, packing, slidingWindow)) {
      sizes.maxTokens = Math.max(sizes.maxTokens, passTokens(pass));
      sizes.maxTargets = Math.max(sizes.maxTargets, passTargets(pass));
      sizes.maxPosition = Math.max(
        sizes.maxPosition,
        ...pass.map(({ sample }) => sample.ids.length),
      );
    }
  }
  return sizes;
}
