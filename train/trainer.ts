/**
 * The training step, from samples to updated weights:
 *
 *     where the objective asks for scores: forward passes over the window, one read
 *     for each micro-batch of the window: forward, loss, backward (gradients add up)
 *     gradient norm, clipping, loss scale, optimizer
 *     one read: the losses, the norm, whether the step was skipped
 *
 * @module
 */
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { GRAD_SCALER } from "../kernels/ops/optimizer/loss_scale.ts";
import type { Memory } from "../kernels/gpu/memory.ts";
import { type Batch, type Document, makeBatch } from "../model/transformer/batch.ts";
import { tokensOf } from "../model/text/prompt.ts";
import { contextLength, type ModelConfig } from "../model/families/config.ts";
import type { WeightSource } from "../model/formats/weights.ts";
import { Llama } from "../model/transformer/llama.ts";
import { numericsOf } from "../model/transformer/modes.ts";
import { frozenKinds } from "../model/transformer/quantization.ts";
import { type DropoutState, NO_DROPOUT } from "../model/transformer/packed_linear.ts";
import { trainedPlan } from "./config/adapter_settings.ts";
import type { TrainConfig } from "./config/config.ts";
import { loraPlusRate } from "./lora_plus.ts";
import { objectiveOf } from "./config/configured_objective.ts";
import type {
  Figures,
  LogLikelihoods,
  Objective,
  WeighedWindow,
  WindowLosses,
} from "./objective/objective.ts";
import { Optimizer } from "./optimizer.ts";
import type { PackedSample } from "./packing.ts";
import {
  type AccumulationWindow,
  PassPlanner,
  type PlannedPass,
  type RunSizes,
  samplesIn,
} from "./planner.ts";
import { logLikelihoods, type ScoredPass, scoredPasses } from "./scoring.ts";

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
  /** What the objective tells beside the loss. */
  figures: Figures;
}

/** What a step is told beside its samples. */
export interface StepOptions {
  learningRate: number;
  /** Micro-batches of the run before this window; decides the dropout masks. */
  firstMicroBatch: number;
}

/** A step on its way to the GPU. */
export interface RecordedStep {
  window: AccumulationWindow;
  weighed: WeighedWindow;
}

/** What a trainer is made for. */
export interface TrainerOptions {
  config: TrainConfig;
  sizes: RunSizes;
  /** Bytes that one binding covers. */
  maxBinding: number;
  /** Plans of the run's windows, where some were made. Default: the configuration's planner. */
  planner?: PassPlanner;
  /** What is minimised. Default: the configuration's. */
  objective?: Objective;
  /** Where the model's weights come from, which may be quantised there already. */
  weights?: WeightSource;
}

/** A model in training. */
export class Trainer {
  readonly model: Llama;
  readonly optimizer: Optimizer;
  readonly config: TrainConfig;
  readonly planner: PassPlanner;
  readonly objective: Objective;
  /** Numbers of tokens and of targets that programs were compiled for, and whether the optimizer's were. */
  readonly #compiled = new Set<string>();
  /** Scores whose pass by the policy was the last to run, and was all of the window. */
  #passed: readonly LogLikelihoods[] | undefined;
  #lossScale: number;
  /** Steps skipped and steps taken so far, those of the runs that this one goes on with included. */
  skipped = 0;
  stepsTaken = 0;

  /** Allocates everything; a {@linkcode Memory} without a device only counts. */
  constructor(memory: Memory, modelConfig: ModelConfig, options: TrainerOptions) {
    const { config, sizes, maxBinding } = options;
    const { lora, precision, checkpointing, gradient_accumulation_steps } = config;
    const { maxMicroBatches = gradient_accumulation_steps, decoding = null, ...rest } = sizes;
    const { maxSamples = maxMicroBatches * config.batch_size, ...pass } = rest;
    this.config = config;
    this.planner = options.planner ?? PassPlanner.of(config, modelConfig);
    this.objective = options.objective ?? objectiveOf(config, contextLength(modelConfig));
    const { scoredWith, scoredBeside } = this.objective;
    this.#lossScale = precision === "mixed" ? config.initial_loss_scale : 1;
    this.model = new Llama(memory, {
      config: modelConfig,
      numerics: numericsOf(config),
      frozen: frozenKinds(modelConfig, config, options.weights),
      lora: lora ? trainedPlan(lora, modelConfig) : undefined,
      mode: {
        kind: "train",
        trained: lora ? "adapters" : "weights",
        checkpointing,
        lossSlots: maxMicroBatches,
        scoring: scoredWith.length === 0 ? null : {
          slots: scoredWith.length * maxSamples * (scoredBeside === null ? 1 : 2),
          reference: scoredWith.includes("reference"),
        },
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
  async step(gpu: Gpu, window: AccumulationWindow, options: StepOptions): Promise<StepResult> {
    const scores = await this.score(gpu, window, options);
    return await this.finish(gpu, this.record(gpu, window, options, scores));
  }

  /**
   * What the objective weighs a window by: the log-likelihoods of its samples by each model that is asked for. Without
   * any, nothing is recorded, and nothing waits. Until {@linkcode record} takes them, nothing else may run on the model.
   */
  async score(
    gpu: Gpu,
    window: AccumulationWindow,
    { firstMicroBatch }: Pick<StepOptions, "firstMicroBatch">,
  ): Promise<LogLikelihoods[]> {
    return await this.#score(gpu, window, ({ slot }) => this.#dropout(firstMicroBatch + slot));
  }

  /**
   * The losses of held-out samples by an objective that asks for scores. Nothing is dropped out, and nothing learnt.
   *
   * @param window One that the plan has room for.
   */
  async evaluate(gpu: Gpu, window: AccumulationWindow): Promise<WindowLosses> {
    const scores = await this.#score(gpu, window, () => NO_DROPOUT);
    return this.objective.weigh(window, scores).losses(new Float32Array());
  }

  async #score(
    gpu: Gpu,
    window: AccumulationWindow,
    dropout: (pass: PlannedPass) => DropoutState,
  ): Promise<LogLikelihoods[]> {
    const { model: { scores }, objective, planner } = this;
    if (scores === null) return [];
    const beside = objective.scoredBeside?.(window) ?? [], all = [...window, ...beside];
    const samples = samplesIn(all), values = objective.scoredWith.length * samples;
    if (values > scores.size) {
      throw new Error(`a window of ${samples} samples exceeds the plan's ${scores.size} scores`);
    }
    const own = planner.passes(window);
    const passes = scoredPasses([
      { passes: own, firstSlot: 0 },
      { passes: planner.passes(beside), firstSlot: window.length },
    ]);
    // The pass by the policy over the window comes last, so that the loss pass finds what it left behind.
    for (const scored of passes.toReversed()) {
      this.#scorePass(gpu, scored, samples, dropout(scored.pass));
    }
    const found = logLikelihoods(all, passes, await gpu.readF32(scores.view([values])));
    this.#passed = own.length === 1 && objective.scoredWith[0] === "policy" ? found : undefined;
    return found;
  }

  /**
   * Records an optimizer step; {@linkcode finish} then tells what it did.
   *
   * @param scores What {@linkcode score} found of the window with the present weights.
   */
  record(
    gpu: Gpu,
    window: AccumulationWindow,
    { learningRate, firstMicroBatch }: StepOptions,
    scores: readonly LogLikelihoods[],
  ): RecordedStep {
    const weighed = this.#runPasses(gpu, window, firstMicroBatch, scores);
    this.optimizer.step(gpu, this.model.gradScaler, learningRate);
    this.model.parametersChanged();
    return { window, weighed };
  }

  /**
   * What a recorded step did; waits for it.
   *
   * @param overlap Called while the GPU is at work on the step; may record the next one.
   */
  async finish(
    gpu: Gpu,
    { window, weighed }: RecordedStep,
    overlap?: () => void,
  ): Promise<StepResult> {
    const { gradScaler, losses: sums } = await this.model.readResults(gpu, overlap);
    const result = {
      ...weighed.losses(sums),
      gradNorm: gradScaler[GRAD_SCALER.gradNorm],
      lossScale: this.#lossScale,
      skipped: gradScaler[GRAD_SCALER.skip] === 1,
      tokens: tokensOf(window.flat()),
    };
    this.readGradScaler(gradScaler);
    return result;
  }

  /**
   * Compiles the programs of these windows' passes, and of the optimizer, without running anything. Which programs
   * a pass takes follows from its tokens (the blocks) and from its targets (the output end): passes that bring
   * neither a number of tokens nor one of targets that was there before are left out.
   *
   * @param between As {@linkcode Gpu.precompile} takes it.
   * @returns Programs compiled, when all are ready.
   */
  async precompile(
    gpu: Gpu,
    windows: Iterable<AccumulationWindow>,
    between?: () => Promise<void>,
  ): Promise<number> {
    const fresh: PlannedPass[] = [], beside: PlannedPass[] = [];
    const take = (into: PlannedPass[], window: AccumulationWindow, what: string) => {
      for (const pass of this.planner.passes(window)) {
        const { tokens, shares, targets } = pass;
        const sizes = [`${what}${tokens} tokens, ${shares}`, `${what}${targets} targets`];
        if (this.#takeSizes(...sizes)) into.push(pass);
      }
    };
    for (const window of windows) {
      take(fresh, window, "");
      const others = this.objective.scoredBeside?.(window);
      if (others !== undefined) take(beside, others, "beside: ");
    }
    const optimizer = this.#takeSizes("optimizer");
    if (fresh.length === 0 && beside.length === 0 && !optimizer) return 0;
    return await gpu.precompile(() => {
      // Weights, like places and slots, make no difference to the programs.
      const passes = [...fresh, ...beside], dropout = this.#dropout(0);
      for (const scored of scoredPasses([{ passes, firstSlot: 0 }])) {
        this.#scorePass(gpu, scored, 0, dropout);
      }
      for (const pass of fresh) {
        this.#runPass(gpu, this.#batch(pass, ({ slot }) => ({ slot, weight: 0 })), 0);
      }
      if (optimizer) {
        this.optimizer.clearGradients(gpu);
        this.optimizer.step(gpu, this.model.gradScaler, 0);
      }
      // Nothing of this has been computed.
      this.model.parametersChanged();
    }, between);
  }

  /** Takes note of sizes; whether one of them is new. */
  #takeSizes(...sizes: string[]): boolean {
    const before = this.#compiled.size;
    for (const size of sizes) this.#compiled.add(size);
    return this.#compiled.size > before;
  }

  /**
   * Runs the passes of a window and waits, so that memory is touched before steps are timed. Parameters,
   * the optimizer's state and the loss scale stay as they are, and the next step clears the gradients.
   */
  async warmUp(gpu: Gpu, window: AccumulationWindow): Promise<void> {
    this.#runPasses(gpu, window, 0, await this.score(gpu, window, { firstMicroBatch: 0 }));
    await this.model.readResults(gpu);
  }

  /** Runs the passes of a window, whose gradients are then those of its loss. */
  #runPasses(
    gpu: Gpu,
    window: AccumulationWindow,
    firstMicroBatch: number,
    scores: readonly LogLikelihoods[],
  ): WeighedWindow {
    const weighed = this.objective.weigh(window, scores), { weights } = weighed;
    const passed = this.#passed === scores;
    this.#passed = undefined;
    this.optimizer.clearGradients(gpu);
    for (const pass of this.planner.passes(window)) {
      const weigh = ({ slot, index }: PackedSample) => ({ slot, weight: weights[slot][index] });
      this.#runPass(gpu, this.#batch(pass, weigh), firstMicroBatch + pass.slot, passed);
    }
    return weighed;
  }

  /** A pass in which each sample's targets have this weight and add up in this slot. */
  #batch(
    { samples }: PlannedPass,
    place: (sample: PackedSample, i: number) => Pick<Document, "weight" | "slot">,
  ): Batch {
    const documents = samples.map((packed, i): Document => {
      const { sample, shared } = packed;
      return { ...sample, shared, ...place(packed, i) };
    });
    return makeBatch(documents, this.model.slidingWindows[0]);
  }

  #runPass(gpu: Gpu, batch: Batch, step: number, passed = false): void {
    this.model.loss(gpu, batch, { backward: true, dropout: this.#dropout(step), passed });
  }

  /** The forward passes that score a pass's samples, with the dropout that {@linkcode #runPass} has. */
  #scorePass(gpu: Gpu, { pass, places }: ScoredPass, samples: number, dropout: DropoutState): void {
    const { scoredWith } = this.objective;
    for (const [i, scorer] of [...scoredWith.entries()].toReversed()) {
      const first = i * samples;
      const batch = this.#batch(pass, (_, i) => ({ slot: first + places[i], weight: 1 }));
      this.model.score(gpu, batch, { adapter: scorer === "policy", dropout });
    }
  }

  /** What decides the masks of a micro-batch of the run. */
  #dropout(step: number): DropoutState {
    const { lora, seed } = this.config;
    return { p: lora ? lora.dropout : 0, seed, step };
  }

  /** Takes over the loss scale and the counts of steps from the grad scaler's values. */
  readGradScaler(gradScaler: Float32Array): void {
    this.#lossScale = gradScaler[GRAD_SCALER.scale];
    this.skipped = gradScaler[GRAD_SCALER.skipped];
    this.stepsTaken = gradScaler[GRAD_SCALER.steps];
  }
}
