/**
 * A Llama: embedding, blocks, output end; its parameters, the buffers of its passes, and the passes.
 *
 * The constructor allocates everything a run will need and nothing is allocated later. Given a
 * {@linkcode Memory} without a device it only counts, which is how a run is planned.
 *
 * @module
 */
import { cast } from "../../kernels/ops/elements/cast.ts";
import { doraFactors, type DoraModule } from "../../kernels/ops/dora/dora.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { onTensorCores } from "../../kernels/gpu/subgroup_matrix.ts";
import type { DecodeWorkspace } from "../../kernels/ops/attention/decode/attention_decode.ts";
import { initialGradScaler } from "../../kernels/ops/optimizer/loss_scale.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import { splitKBytes } from "../../kernels/ops/matmul/tiled_geometry.ts";
import type { Float, Numerics } from "../../kernels/ops/numerics.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import {
  asInference,
  decodeWorkspace,
  type InferActivations,
  inferActivations,
  type TrainActivations,
  trainActivations,
} from "./activations.ts";
import { adaptedConfig, type AdapterPlan } from "../adapter/plan.ts";
import { checkTurnsOff } from "../adapter/turned_off.ts";
import {
  allocateDora,
  doraModules,
  loraSpecs,
  packedSizes,
  type Parts,
  weightGroups,
} from "./assemble.ts";
import { type Batch, BatchTensors } from "./batch.ts";
import type { BlockPass } from "./block.ts";
import type { InferPass } from "./block_inference.ts";
import type { TrainPass } from "./block_training.ts";
import { activationPlan } from "./checkpointing.ts";
import { archSpec, type ModelConfig } from "../families/config.ts";
import { type ArchSpec, specShapes } from "../families/spec.ts";
import { Head, type HeadInput } from "./head.ts";
import type { CachePass, DecodePass } from "./kv_cache.ts";
import { type DropoutState, NO_DROPOUT } from "./packed_linear.ts";
import { RopeTables, slidingWindowsOf } from "./layers.ts";
import { decodingOf, type Mode, positionsOf } from "./modes.ts";
import { makeNetwork, type Network } from "./network.ts";
import { OwnRanks } from "./own_ranks.ts";
import { backwardPass, forwardPass, inferencePass, type LossOptions } from "./passes.ts";
import {
  allocateParameters,
  type FrozenKinds,
  isTrainedParameter,
  type Parameter,
  parameterOf,
  type TrainedParameter,
} from "./parameters.ts";

/** What a model is made of, and what for. */
export interface LlamaOptions {
  config: ModelConfig;
  /** What the model computes. Default: what its family makes of the configuration. */
  spec?: ArchSpec;
  numerics: Numerics;
  /** How matrices that are not trained are held. Default: dense, in the element type of storage. */
  frozen?: FrozenKinds;
  /** The adapter there is room for: what {@linkcode checkAdapter} found of it, or a plan of a new one. */
  lora?: AdapterPlan;
  /** Where the adapter is several, whose ranks lie side by side: which of them each rank is of, counted from 1. */
  owners?: Uint32Array;
  mode: Mode;
}

/** A model on the GPU. */
export class Llama {
  readonly config: ModelConfig;
  readonly spec: ArchSpec;
  readonly numerics: Numerics;
  readonly mode: Mode;
  /** Windows of the layers, each once; batches are laid out for the first, which is the widest. */
  readonly slidingWindows: readonly (number | null)[];
  /** As of {@linkcode RopeTables}. */
  readonly shortTexts: number | null;
  /** The base model's parameters in load order, and the adapters'. */
  readonly weights: readonly Parameter[];
  readonly adapters: readonly Parameter[];
  /** Loss scale and what else decides an optimizer step; see kernels/ops/optimizer/loss_scale.ts. */
  readonly gradScaler: Tensor;
  /** Loss of each micro-batch since the last optimizer step `[slots]` f32. */
  readonly losses: Tensor;
  /** Negative log-likelihoods that {@linkcode score} found `[slots]` f32; null where nothing is scored. */
  readonly scores: Tensor | null;

  readonly #dora: readonly DoraModule[];
  /** Whether what is computed from the adapters is that of their present values. */
  #current = false;
  /** Training's buffers; null in the other modes. */
  readonly #training: TrainActivations | null;
  /** Those of passes that no backward follows: training has them for passes over a cache. */
  readonly #inference: InferActivations;
  /** Working memory of attention; null where nothing is decoded. */
  readonly #decode: DecodeWorkspace | null;
  readonly #head: Head;
  readonly #batch: BatchTensors;
  readonly #ropeTables: RopeTables;
  readonly #ownRanks?: OwnRanks;
  /** What its passes run through. */
  readonly #network: Network;
  /** The same without the adapter, for scores of the model alone; null where there are none. */
  readonly #reference: Network | null;
  /** Whether every product of a pass can run on tensor cores, which take sizes that are multiples of 8. */
  readonly #fitsTensorCores: boolean;

  constructor(memory: Memory, readonly options: LlamaOptions) {
    const { numerics, lora, mode } = options, { maxTokens, maxTargets } = mode;
    const config = this.config = adaptedConfig(options.config, lora);
    const spec = this.spec = options.spec ?? archSpec(config);
    this.numerics = numerics;
    this.mode = mode;
    this.slidingWindows = slidingWindowsOf(spec);
    const trained = mode.kind === "train" ? mode.trained : "nothing";
    const decoding = decodingOf(mode), positions = positionsOf(mode);

    const byName = new Map<string, Parameter>();
    const own = new Set(
      trained === "adapters" ? [...lora?.replaced ?? [], ...lora?.biases ?? []] : [],
    );
    const isTrained = (name: string) => trained === "weights" || own.has(name);
    // What the adapter has copies of is these, which nobody quantised.
    const frozen: FrozenKinds = (name) =>
      lora?.replaced.includes(name) ? undefined : options.frozen?.(name);
    for (const [label, specs] of weightGroups(spec, isTrained)) {
      for (const p of allocateParameters(memory, label, specs, numerics.storage, frozen)) {
        byName.set(p.name, p);
      }
    }
    const shapes = specShapes(spec);
    this.weights = Array.from(shapes.keys(), (name) => parameterOf(byName, name));
    this.#fitsTensorCores = [...shapes.values()].flat().every((size) => size % 8 === 0);
    const adapterSpecs = lora ? loraSpecs(config, lora, trained === "adapters") : [];
    this.adapters = allocateParameters(memory, "adapters", adapterSpecs, "f32");
    const adapters = new Map(this.adapters.map((p) => [p.name, p]));
    const dora = allocateDora(memory, adapters, lora);
    const parts: Parts = { spec, weights: byName, adapters, plan: lora, dora };
    const tokens = Math.max(maxTokens, decoding?.sequences ?? 0);
    const ropeTables = this.#ropeTables = new RopeTables(memory, spec, positions);
    this.shortTexts = ropeTables.shortTexts;
    const shared = { tokens, ropeTables, slidingWindows: this.slidingWindows };
    const { input, blocks, output } = this.#network = makeNetwork(memory, parts, shared);
    const scoring = mode.kind === "train" ? mode.scoring : null;
    if (scoring?.reference) {
      checkTurnsOff(lora);
      // Its parameters are those of the other network, so that it takes no memory.
      this.#reference = makeNetwork(memory, { ...parts, plan: undefined }, shared);
    } else this.#reference = null;
    this.#dora = doraModules(blocks, output);
    const sizes = { tokens, ...packedSizes(spec, blocks) };
    if (mode.kind === "train") {
      const plan = activationPlan(mode.checkpointing, spec.layers.length);
      const dtype = numerics.storage;
      this.#training = trainActivations(memory, spec, plan, { ...sizes, dtype });
      this.#inference = asInference(this.#training);
    } else {
      // Without backward, activations are few. In f32 they leave the result to the order of sums by rounding
      // of f32 alone, so that generation with and without a cache, alone and in a batch, is the same; keys and
      // values are as a cache holds them.
      const inference = { ...sizes, dtype: "f32" } as const;
      this.#training = null;
      this.#inference = inferActivations(memory, spec, inference, numerics.storage);
    }
    this.#decode = decoding && decodeWorkspace(memory, spec, decoding);
    if (options.owners !== undefined) this.#ownRanks = new OwnRanks(memory, options.owners);
    const extraSplits = lora && mode.kind === "train" ? 1 : 0;
    memory.needScratch(splitKBytes(maxTokens, spec.hidden_size, extraSplits));
    const { product } = this.#inference.forward, d = this.#training?.backward;
    // What blocks work in is free between their forward and their backward pass.
    const idle = d && {
      gathered: product,
      normed: d.product,
      gatheredGrad: d.qkv,
      normedGrad: d.out,
    };
    this.#head = new Head(memory, spec, {
      rows: maxTargets,
      atOnce: decoding?.sequences ?? 0,
      dtype: mode.kind === "train" ? numerics.storage : "f32",
      output,
      trainedRows: input.outputRows,
      idle,
      greedy: mode.kind === "score" && mode.greedy,
    });
    this.#batch = new BatchTensors(memory, maxTokens, {
      grouped: input.isTrained,
      withKeyRows: mode.kind !== "train" || decoding !== null,
      excludes: mode.kind !== "generate" && mode.sharedPrefixes,
      slidingWindows: this.slidingWindows,
      shortTexts: this.shortTexts,
      adapted: options.owners !== undefined,
    });
    const lossSlots = mode.kind === "train" ? mode.lossSlots : 1;
    this.scores = scoring && memory.tensor("workspace", "scores", "f32", [scoring.slots]);
    [this.gradScaler, this.losses] = memory.arena("workspace", "results", [
      { name: "gradScaler", dtype: "f32", shape: [initialGradScaler(1).length] },
      { name: "losses", dtype: "f32", shape: [lossSlots] },
    ]);
  }

  /** How many adapters rows may choose of; 0 where all have the same. */
  get adapterCount(): number {
    return this.#ownRanks?.count ?? 0;
  }

  /** Everything that is trained. */
  get trained(): TrainedParameter[] {
    return [...this.weights, ...this.adapters].filter(isTrainedParameter);
  }

  /** Writes the tables that are neither weights nor activations. Call once before any pass. */
  initialize(gpu: Gpu): void {
    for (const { operand: { kind, tensors } } of this.weights) kind.writeTables?.(gpu, tensors);
    this.#ropeTables.initialize(gpu);
    this.#ownRanks?.initialize(gpu);
    const scale = this.mode.kind === "train" ? this.mode.initialLossScale : 1;
    gpu.write(this.gradScaler, initialGradScaler(scale));
    this.#network.input.initialize(gpu);
  }

  /**
   * Sets DoRA's magnitudes to the lengths of the rows of W + s·B·A, as they are before training: the model then says
   * what it says without.
   */
  initializeMagnitudes(gpu: Gpu): void {
    for (const module of this.#dora) {
      doraFactors(gpu, module);
      cast(gpu, { x: module.norm, y: module.magnitude });
    }
    this.#network.input.initializeMagnitudes(gpu);
  }

  /** To be called whenever parameters have changed: what is computed from them is computed again. */
  parametersChanged(): void {
    this.#current = false;
  }

  /** Brings what is computed from the adapters up to date: DoRA's factors, and the trained rows of embeddings. */
  refresh(gpu: Gpu): void {
    for (const module of this.#dora) doraFactors(gpu, module);
    this.#network.input.refresh(gpu);
    this.#current = true;
  }

  /**
   * Forward pass of a micro-batch, its loss (or one a group of its documents) into `losses`: Σ weight · nll over the targets.
   * With `backward`, the gradients of the loss (times the loss scale) are added to those of what is trained.
   */
  loss(
    gpu: Gpu,
    batch: Batch,
    { backward, dropout = NO_DROPOUT, passed = false }: LossOptions,
  ): void {
    this.#write(gpu, batch);
    const losses = { batch: this.#batch, gradScaler: this.gradScaler, losses: this.losses };
    if (this.#training === null) {
      if (backward) throw new Error("a model that is not made to train has no backward pass");
      const input = this.#infer(this.#inferPass(gpu, this.#batch));
      return this.#head.loss(gpu, { ...input, ...losses });
    }
    const pass = this.#trainPass(gpu, this.#training, dropout);
    const output = forwardPass(this.#network, pass, passed), { index } = output;
    const gradient = backward ? { dx: this.#training.backward.residual, index } : undefined;
    this.#head.loss(gpu, { ...output, ...losses, gradient });
    if (backward) backwardPass(this.#network, pass);
  }

  /**
   * Forward pass of a micro-batch whose losses, one a slot, go into `scores`: with weights of 1, and a slot a
   * document, the documents' negative log-likelihoods.
   *
   * @param options `adapter`: whether the pass takes the adapter's part. `dropout`: that of the pass which is to be scored.
   */
  score(
    gpu: Gpu,
    batch: Batch,
    { adapter, dropout = NO_DROPOUT }: { adapter: boolean; dropout?: DropoutState },
  ): void {
    const { scores: losses, gradScaler } = this;
    const network = adapter ? this.#network : this.#reference;
    if (losses === null || network === null || this.#training === null) {
      throw new Error(`a model that is not made for scores can't score, adapter ${adapter}`);
    }
    this.#write(gpu, batch);
    const pass = this.#trainPass(gpu, this.#training, dropout);
    const scored = { batch: this.#batch, gradScaler, losses };
    this.#head.loss(gpu, { ...forwardPass(network, pass), ...scored });
  }

  /**
   * What an optimizer step leaves behind, in one read: the values of `gradScaler` and of `losses`. `overlap`: as of
   * {@linkcode Gpu.read}.
   */
  async readResults(
    gpu: Gpu,
    overlap?: () => void,
  ): Promise<{ gradScaler: Float32Array; losses: Float32Array }> {
    const { gradScaler, losses } = this;
    const first = (losses.offset - gradScaler.offset) / 4;
    const values = await gpu.readF32(gradScaler.view([first + losses.size]), overlap);
    return { gradScaler: values.subarray(0, gradScaler.size), losses: values.subarray(first) };
  }

  /** Negative log-likelihood of each target of the last pass `[targets]` f32. */
  get nll(): Tensor {
    return this.#head.nll;
  }

  /**
   * Of each target of the last {@linkcode loss} its negative log-likelihood, and whether greedy decoding would choose it
   * (1 or 0), of a model that is made to score with `greedy`. `overlap`: as of {@linkcode Gpu.read}.
   */
  readTargets(gpu: Gpu, overlap?: () => void): ReturnType<Head["readTargets"]> {
    return this.#head.readTargets(gpu, overlap);
  }

  /**
   * Logits `[rows, padded vocabulary]` f32 at the batch's target rows. With a cache, its tokens are added to it.
   */
  logits(gpu: Gpu, batch: Batch, cache?: CachePass): Tensor {
    this.#write(gpu, batch);
    if (this.#training !== null && cache === undefined) {
      const pass = this.#trainPass(gpu, this.#training, NO_DROPOUT);
      return this.#head.logits(gpu, forwardPass(this.#network, pass));
    }
    return this.#head.logits(gpu, this.#infer(this.#inferPass(gpu, this.#batch, cache)));
  }

  /**
   * Logits `[rows, padded vocabulary]` f32 after the next token of each of the batch's sequences: for each its next
   * token, its position, the range of cache rows that it sees (`starts` of the widest sliding window, `ends`) and the row that
   * it is to take (`keyRows`).
   */
  decode(gpu: Gpu, batch: BatchTensors, cache: DecodePass): Tensor {
    if (this.#decode === null) throw new Error("a model that is not made to generate can't decode");
    batch.completeRows(gpu, batch.tokens);
    const decode = { workspace: this.#decode, longest: cache.longest };
    const pass = { ...this.#inferPass(gpu, batch, cache), decode };
    return this.#head.logits(gpu, this.#infer(pass));
  }

  /**
   * What products may round their operands to. In mixed precision training it is f16; generation keeps
   * f32 activations as they are, unless there are tensor cores, which take nothing else.
   */
  operands(gpu: Gpu): Float {
    const takesTensorCores = onTensorCores(gpu.matrices) && this.#fitsTensorCores;
    return this.mode.kind === "train" || takesTensorCores ? this.numerics.operands : "f32";
  }

  /** Uploads a micro-batch. */
  #write(gpu: Gpu, batch: Batch): void {
    const { maxTokens, maxTargets } = this.mode;
    if (batch.tokens > maxTokens || batch.targetCount > maxTargets) {
      throw new Error(`a batch of ${batch.tokens} tokens exceeds the plan's ${maxTokens}`);
    }
    this.#batch.write(gpu, batch);
  }

  /** What every pass tells its blocks. */
  #pass(gpu: Gpu, batch: BatchTensors, dropout: DropoutState): BlockPass {
    if (!this.#current) this.refresh(gpu);
    const { spec } = this, { forward } = this.#inference;
    return { gpu, spec, batch, dropout, operands: this.operands(gpu), forward };
  }

  #trainPass(gpu: Gpu, activations: TrainActivations, dropout: DropoutState): TrainPass {
    return { ...this.#pass(gpu, this.#batch, dropout), activations };
  }

  #infer(pass: InferPass): HeadInput {
    return inferencePass(this.#network, pass, this.#head.rows);
  }

  #inferPass(gpu: Gpu, batch: BatchTensors, cache?: CachePass): InferPass {
    const activations = this.#inference, { keys } = activations;
    return {
      ...this.#pass(gpu, batch, NO_DROPOUT),
      ...this.#ownRanks?.of(batch),
      activations,
      keys: (index) => {
        const found = cache?.blocks[index] ?? keys;
        if (found === null) throw new Error("a pass without a cache has no room for keys");
        return found;
      },
      decode: null,
    };
  }
}
