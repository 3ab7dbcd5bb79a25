/**
 * Linear layers that share an input, as one product: y = x·Wᵀ with the layers' weights one below the
 * other and their outputs side by side, then a bias and a LoRA adapter for each layer that has them:
 * y_i = x·W_iᵀ + b_i + (α/r)·dropout_i(x)·A_iᵀ·B_iᵀ.
 *
 * Shapes: x `[T, in]`, W_i `[out_i, in]`, b_i `[out_i]`, A_i `[r, in]`, B_i `[out_i, r]`, y `[T, Σ out_i]`. The
 * dropout mask comes from a counter, so backward makes the same mask again instead of keeping it.
 * Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
 *
 * @module
 */
import { addBias, biasBackward } from "../kernels/bias.ts";
import type { Gpu } from "../kernels/gpu.ts";
import {
  loraBackward,
  loraDown,
  type LoraGroup,
  type LoraModule,
  loraUp,
} from "../kernels/lora.ts";
import { matmul, matmulPartials } from "../kernels/matmul.ts";
import { type Partials, wholePartials } from "../kernels/partials.ts";
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

/** Layers of one input. */
export interface LinearGroup {
  /** Each with the first of its columns in y. */
  readonly layers: readonly (Linear & { readonly from: number })[];
  /** Columns of y. */
  readonly width: number;
  /** All weights as one matrix `[Σ out, in]`, and all their gradients, where memory holds them so. */
  readonly weight?: Tensor;
  readonly grad?: Tensor;
  readonly lora?: Omit<LoraGroup, "mask">;
}

/** What decides the dropout masks of a pass; forward and backward of a micro-batch share it. */
export interface DropoutState {
  p: number;
  seed: number;
  /** Differs from micro-batch to micro-batch. */
  step: number;
}

/** Nothing is dropped. */
export const NO_DROPOUT: DropoutState = { p: 0, seed: 0, step: 0 };

/** What both passes of a group are given. */
export interface LinearPass {
  rows: number;
  /** Operands may be rounded to f16; see kernels/matmul.ts. */
  half: boolean;
  dropout: DropoutState;
  /** dropout(x)·Aᵀ of every adapter of the group `[T, adapters · r]` f32, for backward to read. */
  low?: Tensor;
}

/** The group of these layers, in the order of y's columns. */
export function linearGroup(linears: readonly Linear[]): LinearGroup {
  let width = 0;
  const layers = linears.map((linear) => {
    const from = width;
    width += linear.weight.value.shape[0];
    return { ...linear, from };
  });
  const trained = layers.every(({ weight }) => weight.trained !== undefined);
  return {
    ...{ layers, width, lora: loraGroup(layers) },
    weight: stacked(layers.map(({ weight }) => weight.value)),
    grad: trained ? stacked(layers.map(({ weight }) => weight.trained!.grad)) : undefined,
  };
}

/** The adapters of layers, if any has one. */
function loraGroup(layers: LinearGroup["layers"]): LinearGroup["lora"] {
  let scale: number | undefined;
  const modules: LoraModule[] = [];
  for (const { lora, from } of layers) {
    if (lora === undefined) continue;
    scale = lora.scale;
    modules.push({
      ...{ a: lora.a.value, b: lora.b.value, from, stream: lora.stream },
      ...{ gradA: lora.a.trained?.grad, gradB: lora.b.trained?.grad },
    });
  }
  return scale === undefined ? undefined : { modules, scale };
}

/** Matrices that lie one after the other in memory as one. */
function stacked(matrices: readonly Tensor[]): Tensor | undefined {
  const [first] = matrices;
  if (matrices.length === 1) return first;
  const adjacent = matrices.slice(1).every((matrix, i) => {
    const before = matrices[i];
    return matrix.buffer === before.buffer &&
      matrix.offset === before.offset + before.size * bytesOf(before.dtype);
  });
  const height = matrices.reduce((sum, { shape }) => sum + shape[0], 0);
  return adjacent ? first.view([height, first.shape[1]]) : undefined;
}

/** Whether the group's backward reads its input. */
export function readsInput({ layers, lora }: LinearGroup): boolean {
  return isTrained(lora) || layers.some(({ weight }) => weight.trained !== undefined);
}

/** Whether y is nothing but x·Wᵀ. */
export function isPlain({ layers, lora }: LinearGroup): boolean {
  return lora === undefined && layers.every(({ bias }) => bias === undefined);
}

const isTrained = (lora: LinearGroup["lora"]) =>
  lora !== undefined && lora.modules[0].gradA !== undefined;

/** y `[T, width]`, added to what is there where `accumulate`. */
export function linear(
  gpu: Gpu,
  group: LinearGroup,
  x: Tensor,
  y: Tensor,
  { accumulate = false, ...pass }: LinearPass & { accumulate?: boolean },
): void {
  const { rows, half } = pass;
  const common = { orientation: "nt", a: x, c: y, rows, half, accumulate } as const;
  if (group.weight !== undefined) matmul(gpu, { ...common, b: group.weight });
  else {
    for (const { weight, from } of group.layers) {
      matmul(gpu, { ...common, b: weight.value, cFrom: from });
    }
  }
  addRest(gpu, group, x, y, pass);
}

/** Adds the biases and the adapters' part to y. */
export function addRest(
  gpu: Gpu,
  group: LinearGroup,
  x: Tensor,
  y: Tensor,
  pass: LinearPass,
): void {
  const { rows, dropout: mask, low } = pass;
  for (const { bias, from } of group.layers) {
    if (bias !== undefined) addBias(gpu, { y, b: bias.value, from, rows });
  }
  projectDown(gpu, group, x, pass);
  if (group.lora !== undefined) loraUp(gpu, { low: low!, group: { ...group.lora, mask }, y, rows });
}

/** dropout(x)·Aᵀ of the group's adapters, where it has any: all that backward needs of its forward pass. */
export function projectDown(
  gpu: Gpu,
  { lora }: LinearGroup,
  x: Tensor,
  { rows, dropout: mask, low }: LinearPass,
): void {
  if (lora !== undefined) loraDown(gpu, { x, group: { ...lora, mask }, low: low!, rows });
}

/**
 * y `[T, width]` f32 as partial sums, for the next launch to add up.
 *
 * @param whole Working memory of y's shape, f32, for groups that are not plain.
 */
export function linearPartials(
  gpu: Gpu,
  group: LinearGroup,
  x: Tensor,
  { whole, ...pass }: LinearPass & { whole?: Tensor },
): Partials {
  const { rows, half } = pass;
  if (isPlain(group)) {
    return matmulPartials(gpu, { orientation: "nt", a: x, b: group.weight!, rows, half });
  }
  linear(gpu, group, x, whole!, pass);
  return wholePartials(whole!, rows);
}

/** Operands of a backward pass: the group's input and the gradient of its output. */
export interface LinearGradients extends LinearPass {
  x: Tensor;
  dy: Tensor;
  /** dy in f16, where the products would round it; see `half`. */
  dyRounded?: Tensor;
  /** Working memory of the adapters `[T, adapters · r]` f32. */
  lowGrad?: Tensor;
}

/**
 * Adds the gradients of what is trained to their sums and, where `dx` is given, writes the input's
 * gradient there.
 */
export function linearBackward(
  gpu: Gpu,
  group: LinearGroup,
  { dx, ...gradients }: LinearGradients & { dx?: Tensor },
): void {
  weightGradients(gpu, group, gradients);
  if (dx !== undefined) inputGradient(gpu, group, gradients, dx);
  adapterGradients(gpu, group, gradients, dx);
}

/**
 * The same with the input's gradient `[T, in]` f32 as partial sums, for the next launch to add up.
 *
 * @param whole Working memory of x's shape, f32, for groups whose weights are apart in memory.
 */
export function linearBackwardPartials(
  gpu: Gpu,
  group: LinearGroup,
  { whole, ...gradients }: LinearGradients & { whole?: Tensor },
): Partials {
  const { dy, dyRounded = dy, rows, half } = gradients;
  weightGradients(gpu, group, gradients);
  if (group.weight === undefined) {
    inputGradient(gpu, group, gradients, whole!);
    adapterGradients(gpu, group, gradients, whole);
    return wholePartials(whole!, rows);
  }
  const spare = isTrained(group.lora) ? 1 : 0;
  const common = { orientation: "nn", a: dyRounded, b: group.weight, rows, half, spare } as const;
  const partials = matmulPartials(gpu, common);
  adapterGradients(gpu, group, gradients, partials);
  return partials;
}

function weightGradients(
  gpu: Gpu,
  { layers, grad }: LinearGroup,
  { x, dy, dyRounded = dy, rows, half }: LinearGradients,
): void {
  const common = { orientation: "tn", a: dyRounded, b: x, rows, half, accumulate: true } as const;
  if (grad !== undefined) matmul(gpu, { ...common, c: grad });
  for (const { weight, bias, from } of layers) {
    if (grad === undefined && weight.trained !== undefined) {
      matmul(gpu, { ...common, c: weight.trained.grad, aFrom: from });
    }
    if (bias?.trained !== undefined) biasBackward(gpu, { dy, db: bias.trained.grad, from, rows });
  }
}

function inputGradient(
  gpu: Gpu,
  { layers, weight }: LinearGroup,
  { dy, dyRounded = dy, rows, half }: LinearGradients,
  dx: Tensor,
): void {
  const common = { orientation: "nn", a: dyRounded, c: dx, rows, half } as const;
  if (weight !== undefined) return matmul(gpu, { ...common, b: weight });
  layers.forEach(({ weight, from }, i) => {
    matmul(gpu, { ...common, b: weight.value, aFrom: from, accumulate: i > 0 });
  });
}

function adapterGradients(
  gpu: Gpu,
  { lora }: LinearGroup,
  { x, dy, rows, dropout: mask, low, lowGrad }: LinearGradients,
  dx: Tensor | Partials | undefined,
): void {
  if (lora === undefined || !isTrained(lora)) return;
  const group = { ...lora, mask };
  loraBackward(gpu, { x, dy, low: low!, lowGrad: lowGrad!, group, dx, rows });
}
