/**
 * The output end: final norm, output projection and cross entropy, fused in chunks of rows so that the
 * logits of all tokens never exist at once. Only rows whose next token is a target are projected.
 *
 * @module
 */
import { crossEntropy, weightedSums } from "../kernels/cross_entropy.ts";
import { gatherRows, scatterRows } from "../kernels/gather.ts";
import type { Gpu } from "../kernels/gpu.ts";
import { matmul } from "../kernels/matmul.ts";
import { takesFewRows } from "../kernels/matvec.ts";
import { type Memory, overlay } from "../kernels/memory.ts";
import { rmsnorm, rmsnormBackward } from "../kernels/rmsnorm.ts";
import type { Dtype, Tensor } from "../kernels/tensor.ts";
import type { BatchTensors } from "./batch.ts";
import type { LlamaConfig } from "./config.ts";
import { linearFew } from "./few_rows.ts";
import { linearGroup, NO_DROPOUT } from "./linear.ts";
import { type Parameter, storedShape } from "./parameters.ts";

/** Bytes that one chunk of logits may take. */
const LOGITS_BYTES = 1 << 23;
/** Chunks start at multiples of this many rows, so that a row range can be bound. */
const CHUNK_UNIT = 64;

/** Rows of a chunk of logits, where so many are wanted of a vocabulary as it is stored. */
export function chunkRows(vocabulary: number, rows: number): number {
  const most = Math.floor(LOGITS_BYTES / (vocabulary * 4 * CHUNK_UNIT)) * CHUNK_UNIT;
  return Math.min(rows, Math.max(CHUNK_UNIT, most));
}

/** What is projected to logits. */
export interface HeadInput {
  /** Residual stream after the last block `[T, H]` f32. */
  x: Tensor;
  /** The wanted rows of x `[rows]` u32; absent where those are its first ones. */
  index?: Tensor;
  rows: number;
  norm: Parameter;
  output: Parameter;
  /** Operands of products may be rounded to f16. */
  half: boolean;
}

/** Buffers of the output end. S is the most targets of a micro-batch. */
export class Head {
  readonly #gathered: Tensor;
  readonly #normed: Tensor;
  readonly #rstd: Tensor;
  readonly #logits: Tensor;
  readonly #nll: Tensor;
  readonly #normedGrad?: Tensor;
  readonly #gatheredGrad?: Tensor;

  constructor(
    memory: Memory,
    readonly config: LlamaConfig,
    { rows: S, dtype, idle }: {
      rows: number;
      dtype: Dtype;
      /** Working memory that the head may use, each apart from the others; absent without backward. */
      idle?: Record<"gathered" | "normed" | "gatheredGrad" | "normedGrad", Tensor>;
    },
  ) {
    const { hidden_size: H } = config;
    const [vocabulary] = storedShape([config.vocab_size]);
    const make = (name: string, d: Dtype, shape: number[]) =>
      memory.tensor("workspace", name, d, shape);
    const rowsIn = (host: Tensor | undefined, name: string, d: Dtype) =>
      (host && overlay(host, { name, dtype: d, shape: [S, H] })) ?? make(name, d, [S, H]);
    this.#gathered = rowsIn(idle?.gathered, "gathered", "f32");
    this.#normed = rowsIn(idle?.normed, "final_normed", dtype);
    this.#rstd = make("final_rstd", "f32", [S]);
    this.#logits = make("logits", "f32", [chunkRows(vocabulary, S), vocabulary]);
    this.#nll = make("nll", "f32", [S]);
    if (idle !== undefined) {
      this.#gatheredGrad = rowsIn(idle.gatheredGrad, "gathered_grad", "f32");
      this.#normedGrad = rowsIn(idle.normedGrad, "final_normed_grad", dtype);
    }
  }

  /** Memory for the rows of x that are projected `[S, H]` f32, for who gathers them before. */
  get rows(): Tensor {
    return this.#gathered;
  }

  /** The rows of x that `index` names, side by side; x itself without one. */
  #gather(gpu: Gpu, { x, index, rows }: HeadInput): Tensor {
    if (index === undefined) return x;
    gatherRows(gpu, { x, index, y: this.#gathered, rows });
    return this.#gathered;
  }

  #norm(gpu: Gpu, { norm, rows }: HeadInput, x: Tensor): void {
    const y = this.#normed, rstd = this.#rstd, eps = this.config.rms_norm_eps;
    rmsnorm(gpu, { x, w: norm.value, y, rstd, rows, eps });
  }

  /** Logits `[rows, padded vocabulary]` f32; rows ≤ one chunk. */
  logits(gpu: Gpu, input: HeadInput): Tensor {
    const { output, norm, rows, half } = input;
    const x = this.#gather(gpu, input), c = this.#logits;
    if (takesFewRows(gpu, rows)) {
      const eps = this.config.rms_norm_eps, pass = { rows, half, dropout: NO_DROPOUT };
      const group = linearGroup([{ weight: output }]);
      linearFew(gpu, group, x, c, { ...pass, norm, normed: this.#normed, eps });
      return c;
    }
    this.#norm(gpu, input, x);
    matmul(gpu, { orientation: "nt", a: this.#normed, b: output.value, c, rows, half });
    return c;
  }

  /** Per-target negative log-likelihoods of the last call of {@linkcode loss} `[S]` f32. */
  get nll(): Tensor {
    return this.#nll;
  }

  /**
   * Weighted sums of the targets' negative log-likelihoods into `losses`, a slot a group, and, where `dx` is
   * given, the gradient of x (times the loss scale, control[0]), written whole; that needs an `index`.
   */
  loss(
    gpu: Gpu,
    { dx, batch, control, losses, ...input }: HeadInput & {
      dx?: Tensor;
      batch: BatchTensors;
      control: Tensor;
      losses: Tensor;
    },
  ): void {
    const { norm, output, index, rows, half } = input;
    const { targets, weights } = batch;
    const [logits, nll] = [this.#logits, this.#nll];
    const vocab = this.config.vocab_size, backward = dx !== undefined;
    this.#norm(gpu, input, this.#gather(gpu, input));
    const step = logits.shape[0];
    for (let firstRow = 0; firstRow < rows; firstRow += step) {
      const count = Math.min(step, rows - firstRow);
      const a = this.#normed.rows(firstRow, count);
      matmul(gpu, { orientation: "nt", a, b: output.value, c: logits, rows: count, half });
      const sizes = { rows: count, firstRow, vocab, backward };
      crossEntropy(gpu, { logits, targets, weights, nll, control, ...sizes });
      if (!backward) continue;
      const c = this.#normedGrad!.rows(firstRow, count);
      matmul(gpu, { orientation: "nn", a: logits, b: output.value, c, rows: count, half });
      if (output.trained !== undefined) {
        const sum = { c: output.trained.grad, rows: count, accumulate: true, half };
        matmul(gpu, { orientation: "tn", a: logits, b: a, ...sum });
      }
    }
    for (const group of batch.lossGroups) {
      weightedSums(gpu, { nll, weights, out: losses, ...group });
    }
    if (!backward) return;
    gpu.clear(this.#gatheredGrad!);
    rmsnormBackward(gpu, {
      ...{ dy: this.#normedGrad!, x: this.#gathered, w: norm.value, rstd: this.#rstd, rows },
      ...{ dx: this.#gatheredGrad!, dw: norm.trained?.grad },
    });
    gpu.clear(dx);
    scatterRows(gpu, { dy: this.#gatheredGrad!, index: index!, dx, rows });
  }
}
