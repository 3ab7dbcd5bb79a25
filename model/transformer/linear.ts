/**
 * Linear layers that share an input, as one product: y = x·Wᵀ with the layers' weights one below the
 * other and their outputs side by side, then a bias and a LoRA adapter for each layer that has them:
 * y_i = x·W_iᵀ + b_i + s_i·(dropout_i(x)·A_iᵀ·B_iᵀ + c_i).
 *
 * Shapes: x `[T, in]`, W_i `[out_i, in]`, b_i `[out_i]`, A_i `[r, in]`, B_i `[out_i, r]`, c_i `[out_i]`, y `[T, Σ out_i]`. The
 * dropout mask comes from a counter, so backward makes the same mask again instead of keeping it.
 * Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
 *
 * @module
 */
import { addBias, biasBackward } from "../../kernels/ops/rows/bias.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { loraBackward, loraDown, loraUp } from "../../kernels/ops/lora/lora.ts";
import { matmul, matmulSplitK } from "../../kernels/ops/matmul/matmul.ts";
import { singleSplit, type SplitKPartials } from "../../kernels/ops/matmul/split_k.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { doraBackward, doraForward } from "./dora_linear.ts";
import { inputProduct, outputProduct } from "./group_products.ts";
import {
  isPlain,
  type LinearGradients,
  type LinearGroup,
  type LinearPass,
  trainsAdapters,
} from "./linear_group.ts";

/** y `[T, width]`, added to what is there where `accumulate`. */
export function linear(
  gpu: Gpu,
  group: LinearGroup,
  x: Tensor,
  y: Tensor,
  { accumulate = false, ...pass }: LinearPass & { accumulate?: boolean },
): void {
  if (group.dora) {
    doraForward(gpu, group, x, y, { ...pass, accumulate });
    return addBiases(gpu, group, y, pass.rows);
  }
  outputProduct(gpu, group, { x, y, accumulate }, pass);
  addRest(gpu, group, x, y, pass);
}

/** Adds the biases and the adapters' part to y. Not for DoRA, which multiplies what is there. */
export function addRest(
  gpu: Gpu,
  group: LinearGroup,
  x: Tensor,
  y: Tensor,
  pass: LinearPass,
): void {
  const { rows, dropout: mask, loraHidden } = pass;
  addBiases(gpu, group, y, rows);
  projectDown(gpu, group, x, pass);
  if (group.lora !== undefined) {
    loraUp(gpu, { loraHidden: loraHidden!, group: { ...group.lora, mask }, y, rows });
  }
}

function addBiases(gpu: Gpu, { layers }: LinearGroup, y: Tensor, rows: number): void {
  for (const { bias, lora, from } of layers) {
    if (bias !== undefined) addBias(gpu, { y, b: bias.value, from, rows });
    if (lora?.bias === undefined) continue;
    addBias(gpu, { y, b: lora.bias.value, from, rows, scale: lora.scale });
  }
}

/** dropout(x)·Aᵀ of the group's adapters, where it has any: all that backward needs of its forward pass. */
export function projectDown(
  gpu: Gpu,
  { lora }: LinearGroup,
  x: Tensor,
  { rows, dropout: mask, loraHidden }: LinearPass,
): void {
  if (lora !== undefined) {
    loraDown(gpu, { x, group: { ...lora, mask }, loraHidden: loraHidden!, rows });
  }
}

/**
 * y `[T, width]` f32 as partial sums, for the next launch to add up.
 *
 * @param whole Working memory of y's shape, f32, for groups that are not plain.
 */
export function linearSplitK(
  gpu: Gpu,
  group: LinearGroup,
  x: Tensor,
  { whole, ...pass }: LinearPass & { whole?: Tensor },
): SplitKPartials {
  const { rows, operands } = pass;
  if (isPlain(group)) {
    return matmulSplitK(gpu, { orientation: "nt", a: x, b: group.weight!, rows, operands });
  }
  linear(gpu, group, x, whole!, pass);
  return singleSplit(whole!, rows);
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
  if (group.dora) return doraBackward(gpu, group, gradients, dx);
  const { dy, dyRounded = dy } = gradients;
  if (dx !== undefined) inputProduct(gpu, group, { dy: dyRounded, dx }, gradients);
  adapterGradients(gpu, group, gradients, dx);
}

/**
 * The same with the input's gradient `[T, in]` f32 as partial sums, for the next launch to add up.
 *
 * @param whole Working memory of x's shape, f32, for groups whose weights are apart in memory, and those with DoRA.
 */
export function linearBackwardSplitK(
  gpu: Gpu,
  group: LinearGroup,
  { whole, ...gradients }: LinearGradients & { whole?: Tensor },
): SplitKPartials {
  const { dy, dyRounded = dy, rows, operands } = gradients;
  if (group.dora || group.weight === undefined) {
    linearBackward(gpu, group, { ...gradients, dx: whole! });
    return singleSplit(whole!, rows);
  }
  weightGradients(gpu, group, gradients);
  const extraSplits = trainsAdapters(group) ? 1 : 0;
  const common = {
    orientation: "nn",
    a: dyRounded,
    b: group.weight,
    rows,
    operands,
    extraSplits,
  } as const;
  const splitK = matmulSplitK(gpu, common);
  adapterGradients(gpu, group, gradients, splitK);
  return splitK;
}

function weightGradients(
  gpu: Gpu,
  { layers, grad }: LinearGroup,
  { x, dy, dyRounded = dy, rows, operands }: LinearGradients,
): void {
  const common = {
    orientation: "tn",
    a: dyRounded,
    b: x,
    rows,
    operands,
    accumulate: true,
  } as const;
  if (grad !== undefined) matmul(gpu, { ...common, c: grad });
  for (const { weight, bias, lora, from } of layers) {
    if (grad === undefined && weight.trained !== undefined) {
      matmul(gpu, { ...common, c: weight.trained.grad, aFrom: from });
    }
    if (bias?.trained !== undefined) biasBackward(gpu, { dy, db: bias.trained.grad, from, rows });
    if (lora?.bias?.trained === undefined) continue;
    biasBackward(gpu, { dy, db: lora.bias.trained.grad, from, rows, scale: lora.scale });
  }
}

function adapterGradients(
  gpu: Gpu,
  group: LinearGroup,
  { x, dy, rows, dropout: mask, loraHidden, loraHiddenGrad }: LinearGradients,
  dx: Tensor | SplitKPartials | undefined,
): void {
  if (group.lora === undefined || !trainsAdapters(group)) return;
  const lora = { ...group.lora, mask };
  loraBackward(gpu, {
    x,
    dy,
    loraHidden: loraHidden!,
    loraHiddenGrad: loraHiddenGrad!,
    group: lora,
    dx,
    rows,
  });
}
