/**
 * The output end: final norm, output projection and cross entropy, fused in chunks of rows so that the
 * logits of all tokens never exist at once. Only rows whose next token is a target are projected.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import { crossEntropy, weightedSums } from "../../kernels/ops/loss/cross_entropy.ts";
import { greedyTargets } from "../../kernels/ops/loss/greedy.ts";
import { clear } from "../../kernels/ops/elements/bytes.ts";
import { scale } from "../../kernels/ops/elements/scale.ts";
import { softcap } from "../../kernels/ops/elements/softcap.ts";
import { gatherRows, scatterRows } from "../../kernels/ops/rows/gather.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { matmul } from "../../kernels/ops/matmul/matmul.ts";
import type { RowAdapters } from "../../kernels/ops/lora/own_ranks.ts";
import { takesMatvec } from "../../kernels/ops/matvec/matvec.ts";
import { takeColumns } from "../../kernels/ops/embedding/token_rows.ts";
import { type Memory, overlay } from "../../kernels/gpu/memory.ts";
import type { Float } from "../../kernels/ops/numerics.ts";
import { rmsnorm, rmsnormBackward } from "../../kernels/ops/norm/rmsnorm.ts";
import { type Dtype, roundUp, type Tensor } from "../../kernels/gpu/tensor.ts";
import type { BatchTensors } from "./batch.ts";
import type { ArchSpec } from "../families/spec.ts";
import { linearGemv } from "./linear_gemv.ts";
import type { TrainedOutputRows } from "./input_end.ts";
import { linear, linearBackward } from "./linear.ts";
import {
  type DoraWorkspace,
  type DropoutState,
  type LinearPass,
  loraWidth,
  type PackedLinear,
  trainsAdapters,
} from "./packed_linear.ts";
import { type Parameter, storedShape } from "./parameters.ts";

/** Bytes that one chunk of logits may take. */
const LOGITS_BYTES = 1 << 23;
/** An odd number that spreads the first rows of chunks over the seeds of dropout. */
const CHUNK_HASH = 0x9e3779b1;
/** Chunks start at multiples of this many rows, so that a row range can be bound. */
const CHUNK_UNIT = 64;

/** Rows of a chunk of logits, for so many output rows of a vocabulary as it is stored. */
export function chunkRows(vocabulary: number, rows: number): number {
  const most = Math.floor(LOGITS_BYTES / (vocabulary * 4 * CHUNK_UNIT)) * CHUNK_UNIT;
  return Math.min(rows, Math.max(CHUNK_UNIT, most));
}

/** What is projected to logits. */
export interface HeadInput {
  /** Residual stream after the last block `[T, H]` f32. */
  x: Tensor;
  /** The output rows of x `[rows]` u32; absent where those are its first ones. */
  index?: Tensor;
  rows: number;
  norm: Parameter;
  output: PackedLinear;
  /** What products may round their operands to. */
  operands: Float;
  dropout: DropoutState;
  /** Which adapter each row has, where they have several. */
  rowAdapters?: RowAdapters;
}

/** Where the gradient of the residual stream goes. */
export interface HeadGradient {
  /** `[T, H]` f32. */
  dx: Tensor;
  /** The output rows of x `[rows]` u32. */
  index: Tensor;
}

/** Buffers of the output end. S is the most targets of a micro-batch. */
export class Head {
  readonly #gathered: Tensor;
  readonly #normed: Tensor;
  readonly #rstd: Tensor;
  readonly #logits: Tensor;
  /** Rows of a chunk of logits. */
  readonly #chunk: number;
  readonly #nll: Tensor;
  /** The same, and in the next row whether targets are what greedy decoding would choose; absent where nobody asks. */
  readonly #outcomes?: Tensor;
  /** Gradients of the gathered and of the normed rows; absent without backward. */
  readonly #gradients?: { gathered: Tensor; normed: Tensor };
  /** Of the output projection's adapter, for a chunk of rows. */
  readonly #loraHidden?: Tensor;
  readonly #loraHiddenGrad?: Tensor;
  readonly #dora?: DoraWorkspace;
  /** Trained rows of the output projection, with their columns of a chunk of logits. */
  readonly #trained?: TrainedOutputRows & { columns: Tensor };

  constructor(
    memory: Memory,
    readonly spec: ArchSpec,
    { rows: S, atOnce, dtype, output, trainedRows, idle, greedy = false }: {
      rows: number;
      /** Most rows whose logits are wanted at once, and not in chunks. */
      atOnce: number;
      dtype: Dtype;
      /** The output projection, with all that a pass may have of it. */
      output: PackedLinear;
      /** Rows of the output projection that are trained on their own. */
      trainedRows?: TrainedOutputRows;
      /** Working memory that the head may use, each apart from the others; absent without backward. */
      idle?: Record<"gathered" | "normed" | "gatheredGrad" | "normedGrad", Tensor>;
      /** Whether it tells of each target if greedy decoding would choose it. */
      greedy?: boolean;
    },
  ) {
    const { hidden_size: H } = spec;
    const [vocabulary] = storedShape([spec.vocab_size]);
    const make = (name: string, d: Dtype, shape: number[]) =>
      memory.tensor("workspace", name, d, shape);
    const rowsIn = (host: Tensor | undefined, name: string, d: Dtype) =>
      (host && overlay(host, { name, dtype: d, shape: [S, H] })) ?? make(name, d, [S, H]);
    this.#gathered = rowsIn(idle?.gathered, "gathered", "f32");
    this.#normed = rowsIn(idle?.normed, "final_normed", dtype);
    this.#rstd = make("final_rstd", "f32", [S]);
    this.#chunk = chunkRows(vocabulary, S);
    this.#logits = make("logits", "f32", [Math.max(this.#chunk, atOnce), vocabulary]);
    if (greedy) this.#outcomes = make("nll_and_greedy", "f32", [2, roundUp(S, CHUNK_UNIT)]);
    this.#nll = this.#outcomes?.rows(0, 1) ?? make("nll", "f32", [S]);
    const chunk = this.#logits.shape[0], width = loraWidth(output);
    if (width > 0) this.#loraHidden = make("output_lora_hidden", "f32", [chunk, width]);
    if (trainsAdapters(output)) {
      this.#loraHiddenGrad = make("output_lora_hidden_grad", "f32", [chunk, width]);
    }
    if (output.dora) {
      this.#dora = {
        z: make("output_dora_z", "f32", [chunk, vocabulary]),
        input: make("output_dora_input", "f32", [chunk, H]),
      };
    }
    if (trainedRows !== undefined) {
      const columns = make("trained_columns", "f32", [chunk, trainedRows.grad.shape[0]]);
      this.#trained = { ...trainedRows, columns };
    }
    if (idle !== undefined) {
      this.#gradients = {
        gathered: rowsIn(idle.gatheredGrad, "gathered_grad", "f32"),
        normed: rowsIn(idle.normedGrad, "final_normed_grad", dtype),
      };
    }
  }

  /** Memory for the rows of x that are projected `[S, H]` f32, for callers that gather them themselves. */
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
    const y = this.#normed, rstd = this.#rstd;
    rmsnorm(gpu, { x, w: norm.value, y, rstd, rows, ...this.spec.norm });
  }

  /** Logits `[rows, padded vocabulary]` f32; rows ≤ one chunk. */
  logits(gpu: Gpu, input: HeadInput): Tensor {
    const { norm, rows } = input, c = this.#logits;
    if (rows > c.shape[0]) {
      throw new Error(`logits of ${rows} rows exceed the plan's ${c.shape[0]}`);
    }
    const x = this.#gather(gpu, input), pass = this.#pass(input, 0, rows);
    if (takesMatvec(gpu, rows)) {
      const how = { ...pass, ...this.spec.norm, norm, normed: this.#normed };
      linearGemv(gpu, input.output, x, c, how);
    } else {
      this.#norm(gpu, input, x);
      linear(gpu, input.output, this.#normed, c, pass);
    }
    this.#multiply(gpu, c, rows);
    const { logits_softcap: cap } = this.spec;
    if (cap !== null) softcap(gpu, { y: c, cap, rows });
    return c;
  }

  /** Multiplies logits, or their gradients, as the specification has it. */
  #multiply(gpu: Gpu, y: Tensor, rows: number): void {
    const { logits_multiplier: factor } = this.spec;
    if (factor !== 1) scale(gpu, { x: y, y, factor, rows });
  }

  /** The output projection's pass over a chunk, which has dropout masks of its own. */
  #pass({ operands, dropout, rowAdapters }: HeadInput, firstRow: number, rows: number): LinearPass {
    const seed = (dropout.seed ^ Math.imul(firstRow, CHUNK_HASH)) >>> 0;
    return {
      rows,
      operands,
      dropout: { ...dropout, seed },
      loraHidden: this.#loraHidden,
      dora: this.#dora,
      rowAdapters,
    };
  }

  /** Per-target negative log-likelihoods of the last call of {@linkcode loss} `[S]` f32. */
  get nll(): Tensor {
    return this.#nll;
  }

  /** As of `Llama.readTargets`. */
  async readTargets(
    gpu: Gpu,
    overlap?: () => void,
  ): Promise<{ nll: Float32Array; greedy: Float32Array }> {
    if (this.#outcomes === undefined) {
      throw new Error("a model that is not made to tell it was asked");
    }
    const values = await gpu.readF32(this.#outcomes, overlap), { rowSize } = this.#outcomes;
    return { nll: values.subarray(0, rowSize), greedy: values.subarray(rowSize) };
  }

  /**
   * Weighted sums of the targets' negative log-likelihoods into `losses`, a slot a group, and, where `gradient` is
   * given, the gradient of x (times the loss scale, gradScaler[0]), written whole into `dx`.
   *
   * @throws {Error} for a gradient in a mode without backward.
   */
  loss(
    gpu: Gpu,
    { gradient, batch, gradScaler, losses, ...input }: HeadInput & {
      gradient?: HeadGradient;
      batch: BatchTensors;
      gradScaler: Tensor;
      losses: Tensor;
    },
  ): void {
    const { norm, output, rows, operands } = input;
    const { targets, weights } = batch;
    const [logits, nll] = [this.#logits, this.#nll];
    const { vocab_size: vocab, logits_softcap: cap, norm: { offset } } = this.spec;
    const work = gradient && present(this.#gradients, "room for the gradient of the output end");
    this.#norm(gpu, input, this.#gather(gpu, input));
    const step = this.#chunk;
    for (let firstRow = 0; firstRow < rows; firstRow += step) {
      const count = Math.min(step, rows - firstRow);
      const a = this.#normed.rows(firstRow, count);
      const pass = this.#pass(input, firstRow, count);
      linear(gpu, output, a, logits, pass);
      this.#multiply(gpu, logits, count);
      if (this.#outcomes !== undefined) {
        const greedy = this.#outcomes.rows(1, 1);
        greedyTargets(gpu, { logits, targets, greedy, rows: count, firstRow, vocab });
      }
      const sizes = { rows: count, firstRow, vocab, softcap: cap, backward: work !== undefined };
      crossEntropy(gpu, { logits, targets, weights, nll, gradScaler, ...sizes });
      if (work === undefined) continue;
      this.#multiply(gpu, logits, count);
      linearBackward(gpu, output, {
        ...pass,
        x: a,
        dy: logits,
        loraHiddenGrad: this.#loraHiddenGrad,
        dx: work.normed.rows(firstRow, count),
      });
      if (this.#trained === undefined) continue;
      const { columns, indices, count: taken, grad: c } = this.#trained;
      takeColumns(gpu, { x: logits, indices, count: taken, y: columns, rows: count });
      const sum = { a: columns, b: a, c, rows: count, accumulate: true, operands };
      matmul(gpu, { orientation: "tn", ...sum });
    }
    for (const group of batch.lossGroups) {
      weightedSums(gpu, { nll, weights, out: losses, ...group });
    }
    if (gradient === undefined || work === undefined) return;
    clear(gpu, work.gathered);
    rmsnormBackward(gpu, {
      dy: work.normed,
      x: this.#gathered,
      w: norm.value,
      offset,
      rstd: this.#rstd,
      rows,
      dx: work.gathered,
      dw: norm.trained?.grad,
    });
    clear(gpu, gradient.dx);
    scatterRows(gpu, { dy: work.gathered, ...gradient, rows });
  }
}
