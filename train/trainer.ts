/**
 * The training step, from samples to updated weights:
 *
 *     for each micro-batch of the window: forward, loss, backward (gradients add up)
 *     gradient norm, clipping, loss scale, optimizer
 *     one read: the losses, the norm, whether the step was skipped
 *
 * @module
 */
import type { Gpu } from "../kernels/gpu.ts";
import { CONTROL } from "../kernels/loss_scale.ts";
import type { Memory } from "../kernels/memory.ts";
import { type Document, makeBatch } from "../model/batch.ts";
import type { LlamaConfig } from "../model/config.ts";
import { Llama } from "../model/llama.ts";
import { supervisedTokens, type TokenizedSample } from "../model/text/prompt.ts";
import type { TrainConfig } from "./config.ts";
import { lossWeights } from "./data.ts";
import { Optimizer } from "./optimizer.ts";
import { passes } from "./packing.ts";

/** The largest passes of a run, which size its buffers. */
export interface RunSizes {
  /** Most tokens and most targets of one pass. */
  maxTokens: number;
  maxTargets: number;
  /** Most tokens of one document. */
  maxPosition: number;
  /** Sequences that are decoded together between steps, where any are. */
  decodedSequences?: number;
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

/** Samples of a window, by micro-batch. */
export type Window = readonly (readonly TokenizedSample[])[];

/** A model in training. */
export class Trainer {
  readonly model: Llama;
  readonly optimizer: Optimizer;
  #lossScale: number;
  /** Steps skipped so far. */
  skipped = 0;

  /** Allocates everything; a {@linkcode Memory} without a device only counts. */
  constructor(
    memory: Memory,
    modelConfig: LlamaConfig,
    readonly config: TrainConfig,
    sizes: RunSizes,
    maxBinding: number,
  ) {
    const { lora, precision, checkpointing, gradient_accumulation_steps } = config;
    const { maxMicroBatches = gradient_accumulation_steps, ...pass } = sizes;
    this.#lossScale = precision === "mixed" ? config.initial_loss_scale : 1;
    this.model = new Llama(memory, {
      config: modelConfig,
      precision,
      trained: lora ? "adapters" : "weights",
      lora: lora || undefined,
      checkpointing,
      lossSlots: maxMicroBatches,
      initialLossScale: this.#lossScale,
      ...pass,
    });
    this.optimizer = new Optimizer(memory, this.model.trained, config, maxBinding);
  }

  /**
   * One optimizer step.
   *
   * @param firstMicroBatch Micro-batches of the run before this window; decides the dropout masks.
   */
  async step(
    gpu: Gpu,
    window: Window,
    { learningRate, firstMicroBatch }: { learningRate: number; firstMicroBatch: number },
  ): Promise<StepResult> {
    const { lora, seed, packing, loss_normalization } = this.config;
    const weights = lossWeights(window, loss_normalization);
    const documents = window.map((samples, slot) =>
      samples.map((sample, i): Document => ({ ...sample, weight: weights.window[slot][i], slot }))
    );
    const p = lora ? lora.dropout : 0;
    this.optimizer.clearGradients(gpu);
    for (const slots of passes(window, packing)) {
      const batch = makeBatch(
        slots.flatMap((slot) => documents[slot]),
        this.model.config.sliding_window,
      );
      const dropout = { p, seed, step: firstMicroBatch + slots[0] };
      this.model.loss(gpu, batch, { backward: true, dropout });
    }
    this.optimizer.step(gpu, this.model.control, learningRate);

    const parts = (await gpu.readF32(this.model.losses)).subarray(0, window.length);
    const control = await gpu.readF32(this.model.control);
    const result = {
      loss: parts.reduce((sum, part) => sum + part, 0),
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

  /** Takes over the loss scale and the count of skipped steps from the control tensor's values. */
  readControl(control: Float32Array): void {
    this.#lossScale = control[CONTROL.scale];
    this.skipped = control[CONTROL.skipped];
  }
}

/** The largest passes over any of these windows. */
export function runSizes(windows: Iterable<Window>, packing: boolean): RunSizes {
  const sizes: RunSizes = { maxTokens: 1, maxTargets: 1, maxPosition: 1 };
  for (const window of windows) {
    for (const slots of passes(window, packing)) {
      const samples = slots.flatMap((slot) => window[slot]);
      const total = (count: (sample: TokenizedSample) => number) =>
        samples.reduce((sum, sample) => sum + count(sample), 0);
      sizes.maxTokens = Math.max(sizes.maxTokens, total(({ ids }) => ids.length));
      sizes.maxTargets = Math.max(sizes.maxTargets, total(supervisedTokens));
      sizes.maxPosition = Math.max(sizes.maxPosition, ...samples.map(({ ids }) => ids.length));
    }
  }
  return sizes;
}
