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
import { initialControl } from "../../kernels/ops/optimizer/loss_scale.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import { partialsBytes } from "../../kernels/ops/matmul/partials.ts";
import { ropeTable } from "../../kernels/ops/rope/rope.ts";
import type { Dtype, Tensor } from "../../kernels/gpu/tensor.ts";
import { type Activations, allocateActivations } from "./activations.ts";
import { adaptedConfig, type AdapterPlan } from "../adapter/plan.ts";
import {
  allocateDora,
  doraModules,
  groupSizes,
  loraSpecs,
  makeBlock,
  makeOutput,
  type Parts,
  trainsBlock,
  weightGroups,
} from "./assemble.ts";
import { type Batch, BatchTensors } from "./batch.ts";
import {
  type Block,
  blockBackward,
  blockForward,
  type BlockPass,
  type CachePass,
  inputNorm,
  type NextNorm,
  roundedResidual,
} from "./block.ts";
import { blockInference } from "./block_inference.ts";
import { type LlamaConfig, weightShapes } from "../families/config.ts";
import { Head, type HeadInput } from "./head.ts";
import { InputEnd } from "./input_end.ts";
import { type DropoutState, type LinearGroup, NO_DROPOUT } from "./linear_group.ts";
import { allocateParameters, type Parameter } from "./parameters.ts";
import { activationPlan, inferencePlan } from "./checkpointing.ts";

/** What a model is to do. */
export interface LlamaOptions {
  config: LlamaConfig;
  /**
   * `mixed`: weights, keys and values in f16, and activations that a backward reads; the residual stream and
   * every sum in f32.
   */
  precision: "fp32" | "mixed";
  /** What is trained: nothing, the adapters, or every weight. */
  trained: "nothing" | "adapters" | "weights";
  /** The adapter there is room for: what {@linkcode checkAdapter} found of it, or a plan of a new one. */
  lora?: AdapterPlan;
  /** Checkpointing mode; absent where no backward follows. */
  checkpointing?: string;
  /** Most tokens of one pass. */
  maxTokens: number;
  /** Most rows of one pass that need logits. */
  maxTargets: number;
  /** Tokens of one document at most, cached ones included. Default: `maxTokens`. */
  maxPosition?: number;
  /** Sequences that are decoded together with a KV cache; absent where there is no cache. */
  decodedSequences?: number;
  /** Most micro-batches whose losses are kept before they are read. */
  lossSlots?: number;
  /** Documents of a batch may share the rows of their beginning. Default false. */
  sharedRows?: boolean;
  /** Sums and operands of products stay f32 where `mixed` would have f16. Default false. */
  exact?: boolean;
  /** Loss scale to start with. Default 1. */
  initialLossScale?: number;
}

/** A forward pass, and what the output end is given of it. */
interface Forward {
  pass: BlockPass;
  input: HeadInput;
}

/** Whether every product of a pass can run on tensor cores, which want sizes that are multiples of 8. */
function takesTensorCores({ matrices }: Gpu, config: LlamaConfig): boolean {
  const sizes = [...weightShapes(config).values()].flat();
  return matrices === "tensor_cores" && sizes.every((size) => size % 8 === 0);
}

/** A model on the GPU. */
export class Llama {
  readonly config: LlamaConfig;
  readonly dtype: Dtype;
  /** The base model's parameters in load order, and the adapters'. */
  readonly weights: readonly Parameter[];
  readonly adapters: readonly Parameter[];
  /** Loss scale and what else decides an optimizer step; see kernels/loss_scale.ts. */
  readonly control: Tensor;
  /** Loss of each micro-batch since the last optimizer step `[slots]` f32. */
  readonly losses: Tensor;

  readonly #input: InputEnd;
  readonly #blocks: Block[];
  readonly #norm: Parameter;
  readonly #output: LinearGroup;
  readonly #dora: readonly DoraModule[];
  /** Whether what is computed from the adapters is that of their present values. */
  #current = false;
  readonly #activations: Activations;
  readonly #head: Head;
  readonly #batch: BatchTensors;
  readonly #decoded?: BatchTensors;
  readonly #ropeTable: Tensor;
  /** The lowest block with something to train; below it backward has nothing to do. */
  readonly #lowestTrained: number;

  constructor(memory: Memory, readonly options: LlamaOptions) {
    const { precision, trained, lora, maxTokens, maxTargets } = options;
    const config = this.config = adaptedConfig(options.config, lora);
    const dtype = this.dtype = precision === "mixed" ? "f16" : "f32";
    const backward = options.checkpointing !== undefined;
    // Without backward, activations are few. In f32 they leave the result to the order of sums by rounding
    // of f32 alone, so that generation with and without a cache, alone and in a batch, is the same; keys and
    // values are as a cache holds them.
    const activation: Dtype = backward ? dtype : "f32";
    const blocks = config.num_hidden_layers;
    const positions = options.maxPosition ?? maxTokens;
    const sequences = options.decodedSequences;

    const byName = new Map<string, Parameter>();
    const own = new Set(
      trained === "adapters" ? [...lora?.replaced ?? [], ...lora?.biases ?? []] : [],
    );
    const isTrained = (name: string) => trained === "weights" || own.has(name);
    for (const [label, specs] of weightGroups(config, isTrained)) {
      for (const p of allocateParameters(memory, label, specs, dtype)) byName.set(p.name, p);
    }
    this.weights = Array.from(weightShapes(config).keys(), (name) => byName.get(name)!);
    const adapterSpecs = lora ? loraSpecs(config, lora, trained === "adapters") : [];
    this.adapters = allocateParameters(memory, "adapters", adapterSpecs, "f32");
    const adapters = new Map(this.adapters.map((p) => [p.name, p]));
    const dora = allocateDora(memory, adapters, lora);
    const parts: Parts = { config, weights: byName, adapters, plan: lora, dora };
    const tokens = Math.max(maxTokens, sequences ?? 0);
    const input = this.#input = new InputEnd(memory, parts, tokens);
    this.#norm = byName.get("model.norm.weight")!;
    this.#output = makeOutput(parts, input.table);
    this.#blocks = Array.from({ length: blocks }, (_, i) => makeBlock(i, parts));
    this.#dora = doraModules(this.#blocks, this.#output);
    const lowest = input.isTrained ? 0 : this.#blocks.findIndex(trainsBlock);
    this.#lowestTrained = lowest < 0 ? blocks : lowest;

    const plan = backward ? activationPlan(options.checkpointing!, blocks) : inferencePlan(blocks);
    this.#activations = allocateActivations(memory, config, plan, {
      tokens,
      dtype: activation,
      kvDtype: dtype,
      backward,
      ...groupSizes(this.#blocks),
      decode: sequences === undefined ? undefined : { sequences, longest: positions },
    });
    const spare = lora && backward ? 1 : 0;
    memory.needScratch(partialsBytes(maxTokens, config.hidden_size, spare));
    const { forward: { product }, backward: d } = this.#activations;
    // What blocks work in is free between their forward and their backward pass.
    const idle = d && {
      gathered: product,
      normed: d.product,
      gatheredGrad: d.qkv,
      normedGrad: d.out,
    };
    this.#head = new Head(memory, config, {
      rows: maxTargets,
      dtype: activation,
      output: this.#output,
      trainedRows: input.outputRows,
      idle,
    });
    const grouped = input.isTrained, keyed = !backward || sequences !== undefined;
    const excludes = options.sharedRows;
    this.#batch = new BatchTensors(memory, maxTokens, { grouped, keyed, excludes });
    if (sequences !== undefined) this.#decoded = new BatchTensors(memory, sequences, { keyed });
    this.#ropeTable = memory.tensor("workspace", "rope", "f32", [positions, config.head_dim]);
    const [control, losses] = [initialControl(1).length, options.lossSlots ?? 1];
    [this.control, this.losses] = memory.arena("workspace", "results", [
      { name: "control", dtype: "f32", shape: [control] },
      { name: "losses", dtype: "f32", shape: [losses] },
    ]);
  }

  /** Everything that is trained. */
  get trained(): Parameter[] {
    return [...this.weights, ...this.adapters].filter((p) => p.trained !== undefined);
  }

  /** Writes the tables that are neither weights nor activations. Call once before any pass. */
  initialize(gpu: Gpu): void {
    const { head_dim: headDim, rope_theta: theta, rope_scaling: scaling } = this.config;
    const { max_position_embeddings: trainedPositions } = this.config;
    const positions = this.#ropeTable.shape[0];
    gpu.write(
      this.#ropeTable,
      ropeTable({ headDim, theta, positions, scaling, trainedPositions }),
    );
    gpu.write(this.control, initialControl(this.options.initialLossScale ?? 1));
    this.#input.initialize(gpu);
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
    this.#input.initializeMagnitudes(gpu);
  }

  /** To be called whenever parameters have changed: what is computed from them is computed again. */
  parametersChanged(): void {
    this.#current = false;
  }

  /** Brings what is computed from the adapters up to date: DoRA's factors, and the trained rows of embeddings. */
  refresh(gpu: Gpu): void {
    for (const module of this.#dora) doraFactors(gpu, module);
    this.#input.refresh(gpu);
    this.#current = true;
  }

  /**
   * Forward pass of a micro-batch, its loss (or one loss a group of its documents) into `losses`:
   * Σ weight · nll over the targets.
   * With `backward`, the gradients of the loss (times the loss scale) are added to those of what is
   * trained.
   */
  loss(
    gpu: Gpu,
    batch: Batch,
    { backward, dropout = NO_DROPOUT }: { backward: boolean; dropout?: DropoutState },
  ): void {
    const { pass, input } = this.#forward(gpu, batch, dropout);
    const dx = backward ? this.#activations.backward!.residual : undefined;
    const losses = { batch: this.#batch, control: this.control, losses: this.losses };
    this.#head.loss(gpu, { ...input, ...losses, dx });
    if (backward) this.#backward(pass);
  }

  /**
   * What an optimizer step leaves behind, in one read: the values of `control` and of `losses`. `meanwhile`: as of
   * {@linkcode Gpu.read}.
   */
  async readResults(
    gpu: Gpu,
    meanwhile?: () => void,
  ): Promise<{ control: Float32Array; losses: Float32Array }> {
    const { control, losses } = this;
    const first = (losses.offset - control.offset) / 4;
    const values = await gpu.readF32(control.view([first + losses.size]), meanwhile);
    return { control: values.subarray(0, control.size), losses: values.subarray(first) };
  }

  /** Negative log-likelihood of each target of the last pass `[targets]` f32. */
  get nll(): Tensor {
    return this.#head.nll;
  }

  /**
   * Logits `[rows, padded vocabulary]` f32 at the batch's target rows. With a cache, its tokens are
   * added to it.
   */
  logits(gpu: Gpu, batch: Batch, cache?: CachePass): Tensor {
    return this.#head.logits(gpu, this.#forward(gpu, batch, NO_DROPOUT, cache).input);
  }

  /**
   * What {@linkcode decode} reads: for each sequence its next token, its position, the range of cache
   * rows that it sees (`starts`, `ends`) and the row that it is to take (`keyRows`).
   */
  get decoded(): BatchTensors {
    return this.#decoded!;
  }

  /** Logits `[rows, padded vocabulary]` f32 after the next token of each of the first `rows` sequences. */
  decode(gpu: Gpu, rows: number, cache: CachePass): Tensor {
    const batch = this.#decoded!;
    batch.tokens = batch.targetCount = rows;
    return this.#head.logits(gpu, this.#run(gpu, batch, NO_DROPOUT, cache).input);
  }

  /**
   * Whether products may round their operands to f16. In mixed precision training they may; generation keeps
   * f32 activations as they are, unless there are tensor cores, which take nothing else.
   */
  half(gpu: Gpu): boolean {
    const { precision, checkpointing, exact = false } = this.options;
    if (precision === "fp32" || exact) return false;
    return checkpointing !== undefined || takesTensorCores(gpu, this.config);
  }

  #forward(gpu: Gpu, batch: Batch, dropout: DropoutState, cache?: CachePass): Forward {
    const { maxTokens, maxTargets } = this.options;
    if (batch.tokens > maxTokens || batch.targetCount > maxTargets) {
      throw new Error(`a batch of ${batch.tokens} tokens exceeds the plan's ${maxTokens}`);
    }
    this.#batch.write(gpu, batch);
    return this.#run(gpu, this.#batch, dropout, cache);
  }

  #run(gpu: Gpu, batch: BatchTensors, dropout: DropoutState, cache?: CachePass): Forward {
    const { plan, residual, backward, forward } = this.#activations;
    if (!this.#current) this.refresh(gpu);
    const half = this.half(gpu), blocks = this.#blocks.length;
    const pass: BlockPass = {
      gpu,
      config: this.config,
      activations: this.#activations,
      batch,
      ropeTable: this.#ropeTable,
      dropout,
      half,
      cache,
    };
    // Where no backward follows, the residual stream stays in one buffer, that of the result.
    const inPlace = cache !== undefined || backward === undefined;
    const stream = (b: number) => residual[plan.residual[inPlace ? blocks : b]];
    const { targetRows: index, targetCount: rows, tokens } = batch;
    const wanted = forward.wantedOut && rows < tokens
      ? { index, rows, x: this.#head.rows, out: forward.wantedOut }
      : undefined;
    this.#input.forward(gpu, batch, stream(0));
    this.#blocks.forEach((block, b) => {
      const [x, y, next] = [stream(b), stream(b + 1), this.#normAfter(pass, b)];
      if (!inPlace) blockForward(pass, block, b, { x, y, normed: b > 0, next });
      else blockInference(pass, block, b, x, { next, wanted: next ? undefined : wanted });
    });
    const common = { norm: this.#norm, half, dropout };
    const whole = wanted !== undefined || (inPlace && rows === tokens);
    const x = wanted?.x ?? stream(blocks);
    return { pass, input: { x, index: whole ? undefined : index, rows, ...common } };
  }

  /** The norm at the start of the block after block `b`, if there is one. */
  #normAfter(pass: BlockPass, b: number): NextNorm | undefined {
    const next = this.#blocks[b + 1];
    return next && inputNorm(pass, next, b + 1);
  }

  #backward(pass: BlockPass): void {
    const { plan, residual, backward } = this.#activations;
    const lowest = this.#lowestTrained;
    const lastSegment = plan.segments.length - 1;
    const rounded = roundedResidual(pass);
    if (rounded !== undefined) {
      cast(pass.gpu, { x: backward!.residual, y: rounded, rows: pass.batch.tokens });
    }
    for (let s = lastSegment; s >= 0; s--) {
      const { first, count } = plan.segments[s];
      const last = first + count - 1;
      if (last < lowest) break;
      // The last segment's activations are those of the forward pass just done.
      for (let b = first; s < lastSegment && b <= last; b++) {
        const [x, next] = [residual[plan.residual[b]], residual[plan.residual[b + 1]]];
        const [y, norm] = b < last ? [next, this.#normAfter(pass, b)] : [];
        blockForward(pass, this.#blocks[b], b, { x, y, normed: b > first, next: norm });
      }
      for (let b = last; b >= Math.max(first, lowest); b--) {
        const x = residual[plan.residual[b]];
        blockBackward(pass, this.#blocks[b], b, {
          x,
          inputGradient: b > lowest || this.#input.isTrained,
        });
      }
    }
    this.#input.backward(pass.gpu, this.#batch, backward!.residual);
  }
}
