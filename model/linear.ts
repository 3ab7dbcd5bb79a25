/**
 * A linear layer y = x·Wᵀ, with a bias and a LoRA adapter where it has them:
 * y = x·Wᵀ + b + (α/r)·dropout(x)·Aᵀ·Bᵀ.
 *
 * Shapes: x `[T, in]`, W `[out, in]`, b `[out]`, A `[r, in]`, B `[out, r]`, y `[T, out]`. The dropout mask comes
 * from a counter, so backward makes the same mask again instead of keeping it, and dropout(x)·Aᵀ with it.
 * Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
 *
 * @module
 */
import { addBias, biasBackward } from "../kernels/bias.ts";
import { dropout, dropoutBackward } from "../kernels/dropout.ts";
import type { Gpu } from "../kernels/gpu.ts";
import { matmul } from "../kernels/matmul.ts";
import { MATVEC_ROWS, matvecJoined, matvecSwiglu } from "../kernels/matvec.ts";
import { swiglu } from "../kernels/swiglu.ts";
import { bytesOf, type Tensor } from "../kernels/tensor.ts";
import type { Parameter } from "./parameters.ts";

/** An adapter of one layer. */
export interface LoraPair {
  a: Parameter;
  b: Parameter;
  /** α/r. */
  scale: number;
  /** Identity of this layer's dropout masks. */
  stream: number;
}

/** A layer's weight, bias and adapter. */
export interface Linear {
  weight: Parameter;
  bias?: Parameter;
  lora?: LoraPair;
}

/** What decides the dropout masks of a pass; forward and backward of a micro-batch share it. */
export interface DropoutState {
  p: number;
  seed: number;
  /** Differs from micro-batch to micro-batch. */
  step: number;
}

/** Working memory of the adapters, large enough for every layer. */
export interface LoraWorkspace {
  /** dropout(x)·Aᵀ `[T, r]`. */
  low: Tensor;
  /** dropout(x) `[T, in]` and both gradients; absent where no backward follows. */
  backward?: { dropped: Tensor; droppedGrad: Tensor; lowGrad: Tensor };
}

/** What both passes of a layer are given. */
export interface LinearPass {
  rows: number;
  dropout: DropoutState;
  workspace?: LoraWorkspace;
}

/** dropout(x) and dropout(x)·Aᵀ in the workspace. */
function projectDown(gpu: Gpu, lora: LoraPair, x: Tensor, pass: LinearPass) {
  const { rows, dropout: { p, seed, step }, workspace } = pass;
  const [rank, width] = lora.a.value.shape;
  const capacity = workspace!.low.shape[0];
  let input = x;
  if (p > 0) {
    input = workspace!.backward!.dropped.view([capacity, width]);
    dropout(gpu, { x, y: input, rows, p, seed, step, stream: lora.stream });
  }
  const low = workspace!.low.view([capacity, rank]);
  matmul(gpu, { orientation: "nt", a: input, b: lora.a.value, c: low, rows });
  return { input, low };
}

/** y = x·Wᵀ, the bias and the adapter's part; added to y where `accumulate`. */
export function linear(
  gpu: Gpu,
  layer: Linear,
  x: Tensor,
  y: Tensor,
  { accumulate = false, ...pass }: LinearPass & { accumulate?: boolean },
): void {
  const { rows } = pass;
  matmul(gpu, { orientation: "nt", a: x, b: layer.weight.value, c: y, rows, accumulate });
  addRest(gpu, layer, x, y, pass);
}

/** Three layers of the same input: y[i] = x·W[i]ᵀ and what belongs to it. */
export function linears(
  gpu: Gpu,
  layers: readonly [Linear, Linear, Linear],
  x: Tensor,
  ys: readonly [Tensor, Tensor, Tensor],
  pass: LinearPass,
): void {
  const { rows } = pass;
  const joined = joinedWeights(gpu, layers, rows);
  if (joined !== undefined) matvecJoined(gpu, { a: x, b: joined, c: ys, rows });
  layers.forEach((layer, i) => {
    if (joined === undefined) linear(gpu, layer, x, ys[i], pass);
    else addRest(gpu, layer, x, ys[i], pass);
  });
}

/**
 * y = silu(gate(x)) · up(x).
 *
 * @param pass `gate` and `up`: working memory of y's shape for their products, where they are made apart.
 */
export function gatedLinear(
  gpu: Gpu,
  layers: { gate: Linear; up: Linear },
  x: Tensor,
  y: Tensor,
  { gate, up, ...pass }: LinearPass & { gate: Tensor; up: Tensor },
): void {
  const both = [layers.gate, layers.up], { rows } = pass;
  const plain = both.every(({ bias, lora }) => bias === undefined && lora === undefined);
  const joined = plain ? joinedWeights(gpu, both, rows) : undefined;
  if (joined !== undefined) return matvecSwiglu(gpu, { a: x, b: joined, c: y, rows });
  linear(gpu, layers.gate, x, gate, pass);
  linear(gpu, layers.up, x, up, pass);
  swiglu(gpu, { gate, up, y, rows });
}

/** Weights that lie one after the other in memory as one matrix, where that saves launches. */
function joinedWeights(gpu: Gpu, layers: readonly Linear[], rows: number): Tensor | undefined {
  if (gpu.software || rows > MATVEC_ROWS) return undefined;
  const weights = layers.map(({ weight }) => weight.value);
  const adjacent = weights.every((w, i) => {
    const before = weights[i - 1];
    if (before === undefined) return true;
    return w.buffer === before.buffer &&
      w.offset === before.offset + before.size * bytesOf(before.dtype);
  });
  const [first] = weights, [, width] = first.shape;
  const height = weights.reduce((sum, { shape }) => sum + shape[0], 0);
  const bytes = height * width * bytesOf(first.dtype);
  return adjacent && bytes <= gpu.maxBinding ? first.view([height, width]) : undefined;
}

/** Adds the bias and the adapter's part of x·Wᵀ to y. */
function addRest(gpu: Gpu, layer: Linear, x: Tensor, y: Tensor, pass: LinearPass): void {
  const { rows } = pass;
  const { bias, lora } = layer;
  if (bias !== undefined) addBias(gpu, { y, b: bias.value, rows });
  if (lora === undefined) return;
  const { low } = projectDown(gpu, lora, x, pass);
  const alpha = lora.scale;
  matmul(gpu, { orientation: "nt", a: low, b: lora.b.value, c: y, rows, alpha, accumulate: true });
}

/**
 * Adds the gradients of what is trained to their sums and, where `dx` is given, writes the input's
 * gradient there (adds it where `accumulate`).
 */
export function linearBackward(
  gpu: Gpu,
  layer: Linear,
  { x, dy, dx, accumulate = false, ...pass }: LinearPass & {
    x: Tensor;
    dy: Tensor;
    dx?: Tensor;
    accumulate?: boolean;
  },
): void {
  const { rows } = pass;
  const { weight, bias, lora } = layer;
  if (weight.trained !== undefined) {
    const c = weight.trained.grad;
    matmul(gpu, { orientation: "tn", a: dy, b: x, c, rows, accumulate: true });
  }
  if (bias?.trained !== undefined) biasBackward(gpu, { dy, db: bias.trained.grad, rows });
  if (dx !== undefined) {
    matmul(gpu, { orientation: "nn", a: dy, b: weight.value, c: dx, rows, accumulate });
  }
  if (lora?.a.trained === undefined || lora.b.trained === undefined) return;
  const { input, low } = projectDown(gpu, lora, x, pass);
  const { a, b, scale: alpha } = lora;
  const [rank, width] = a.value.shape;
  const { workspace, dropout: { p, seed, step } } = pass;
  const capacity = workspace!.low.shape[0];
  const lowGrad = workspace!.backward!.lowGrad.view([capacity, rank]);
  const [gradA, gradB] = [a.trained!.grad, b.trained!.grad];
  matmul(gpu, { orientation: "tn", a: dy, b: low, c: gradB, rows, alpha, accumulate: true });
  matmul(gpu, { orientation: "nn", a: dy, b: b.value, c: lowGrad, rows, alpha });
  matmul(gpu, { orientation: "tn", a: lowGrad, b: input, c: gradA, rows, accumulate: true });
  if (dx === undefined) return;
  if (p === 0) {
    matmul(gpu, { orientation: "nn", a: lowGrad, b: a.value, c: dx, rows, accumulate: true });
    return;
  }
  const droppedGrad = workspace!.backward!.droppedGrad.view([capacity, width]);
  matmul(gpu, { orientation: "nn", a: lowGrad, b: a.value, c: droppedGrad, rows });
  dropoutBackward(gpu, { dy: droppedGrad, dx, rows, p, seed, step, stream: lora.stream });
}
