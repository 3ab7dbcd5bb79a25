/**
 * A packed linear layer (packed_linear.ts), which is one product for all layers of one input: y = x·Wᵀ with the layers' weights one below the
 * other and their outputs side by side, then a bias and a LoRA adapter for each layer that has them:
 * y_i = x·W_iᵀ + b_i + s_i·(dropout_i(x)·A_iᵀ·B_iᵀ + c_i).
 *
 * Shapes: x `[T, in]`, W_i `[out_i, in]`, b_i `[out_i]`, A_i `[r, in]`, B_i `[out_i, r]`, c_i `[out_i]`, y `[T, Σ out_i]`. The
 * dropout mask comes from a counter, so backward makes the same mask again instead of keeping it.
 * Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import { addBias, biasBackward } from "../../kernels/ops/rows/bias.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { loraBackward, loraDown, loraUp } from "../../kernels/ops/lora/lora.ts";
import type { ProductUpdate } from "../../kernels/ops/lora/matrix/update.ts";
import { keepOwnRanks } from "../../kernels/ops/lora/own_ranks.ts";
import { matmul, matmulSplitK } from "../../kernels/ops/matmul/matmul.ts";
import { singleSplit, type SplitKPartials } from "../../kernels/ops/split_k/split_k.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { doraBackward, doraForward } from "./dora_linear.ts";
import { inputProduct, outputProduct, updateOf } from "./packed_products.ts";
import {
  isPlain,
  isWithoutBias,
  type LinearGradients,
  type LinearPass,
  loraWidth,
  type PackedLinear,
  trainsAdapters,
} from "./packed_linear.ts";

const HIDDEN = "room for loraHidden";

/** y `[T, width]`, added to what is there where `accumulate`. */
export function linear(
  gpu: Gpu,
  packed: PackedLinear,
  x: Tensor,
  y: Tensor,
  { accumulate = false, ...pass }: LinearPass & { accumulate?: boolean },
): void {
  if (packed.dora) {
    doraForward(gpu, packed, x, y, { ...pass, accumulate });
    return addBiases(gpu, packed, y, pass.rows);
  }
  const update = startUpdate(gpu, packed, { x, y }, pass);
  outputProduct(gpu, packed, { x, y, accumulate, update }, pass);
  if (update === undefined) addRest(gpu, packed, x, y, pass);
  else addBiases(gpu, packed, y, pass.rows);
}

/** Adds the biases and the adapters' part to y. Not for DoRA, which multiplies what is there. */
export function addRest(
  gpu: Gpu,
  packed: PackedLinear,
  x: Tensor,
  y: Tensor,
  pass: LinearPass,
): void {
  const { rows, dropout: mask } = pass;
  addBiases(gpu, packed, y, rows);
  projectDown(gpu, packed, x, pass);
  if (packed.lora === undefined) return;
  const loraHidden = present(pass.loraHidden, HIDDEN);
  loraUp(gpu, { loraHidden, group: { ...packed.lora, mask }, y, rows });
}

function addBiases(gpu: Gpu, { layers }: PackedLinear, y: Tensor, rows: number): void {
  for (const { bias, lora, from } of layers) {
    if (bias !== undefined) addBias(gpu, { y, b: bias.value, from, rows });
    if (lora?.bias === undefined) continue;
    addBias(gpu, { y, b: lora.bias.value, from, rows, scale: lora.scale });
  }
}

/**
 * loraHidden = dropout(x)·Aᵀ, where there are adapters: all of the forward pass that backward reads. Of several adapters
 * each row keeps its own's.
 */
export function projectDown(
  gpu: Gpu,
  packed: PackedLinear,
  x: Tensor,
  { rows, operands, dropout: mask, rowAdapters, ...pass }: LinearPass,
): void {
  if (packed.lora === undefined) return;
  const loraHidden = present(pass.loraHidden, HIDDEN);
  loraDown(gpu, { x, group: { ...packed.lora, mask }, loraHidden, rows, operands });
  if (rowAdapters === undefined) return;
  keepOwnRanks(gpu, { loraHidden, rows, width: loraWidth(packed), ...rowAdapters });
}

/**
 * Runs loraDown and gives the update that is left, where the products of y can add it; otherwise does nothing.
 */
function startUpdate(
  gpu: Gpu,
  packed: PackedLinear,
  { x, y }: { x: Tensor; y: Tensor },
  pass: LinearPass,
): ProductUpdate | undefined {
  if (packed.lora === undefined) return undefined;
  const loraHidden = present(pass.loraHidden, HIDDEN);
  const update = updateOf(gpu, packed, { x, y, loraHidden }, pass);
  if (update === undefined) return undefined;
  projectDown(gpu, packed, x, pass);
  return update;
}

/**
 * y `[T, width]` f32 as partial sums, for the next launch to add up.
 *
 * @param whole Working memory of y's shape, f32, for layers with a bias or an adapter.
 */
export function linearSplitK(
  gpu: Gpu,
  packed: PackedLinear,
  x: Tensor,
  { whole, ...pass }: LinearPass & { whole?: Tensor },
): SplitKPartials {
  const { rows, operands } = pass, { weight } = packed;
  if (isPlain(packed) && weight !== undefined) {
    return matmulSplitK(gpu, { orientation: "nt", a: x, b: weight, rows, operands });
  }
  const y = present(whole, "room for a layer's output");
  if (!packed.dora && isWithoutBias(packed) && weight !== undefined) {
    const update = startUpdate(gpu, packed, { x, y }, pass);
    if (update !== undefined) {
      return matmulSplitK(gpu, { orientation: "nt", a: x, b: weight, rows, operands, update });
    }
  }
  linear(gpu, packed, x, y, pass);
  return singleSplit(y, rows);
}

/**
 * Adds the gradients of what is trained to their sums and, where `dx` is given, writes the input's
 * gradient there.
 */
export function linearBackward(
  gpu: Gpu,
  packed: PackedLinear,
  { dx, ...gradients }: LinearGradients & { dx?: Tensor },
): void {
  weightGradients(gpu, packed, gradients);
  if (packed.dora) return doraBackward(gpu, packed, gradients, dx);
  const { dy, dyRounded = dy } = gradients;
  if (dx !== undefined) inputProduct(gpu, packed, { dy: dyRounded, dx }, gradients);
  adapterGradients(gpu, packed, gradients, dx);
}

/**
 * The same with the input's gradient `[T, in]` f32 as partial sums, for the next launch to add up.
 *
 * @param whole Working memory of x's shape, f32, for layers with DoRA and those whose weights are not one matrix in memory.
 */
export function linearBackwardSplitK(
  gpu: Gpu,
  packed: PackedLinear,
  { whole, ...gradients }: LinearGradients & { whole?: Tensor },
): SplitKPartials {
  const { dy, dyRounded = dy, rows, operands } = gradients;
  if (packed.dora || packed.weight === undefined) {
    const dx = present(whole, "room for the gradient of a layer's input");
    linearBackward(gpu, packed, { ...gradients, dx });
    return singleSplit(dx, rows);
  }
  weightGradients(gpu, packed, gradients);
  const extraSplits = trainsAdapters(packed) ? 1 : 0;
  const common = {
    orientation: "nn",
    a: dyRounded,
    b: packed.weight,
    rows,
    operands,
    extraSplits,
  } as const;
  const splitK = matmulSplitK(gpu, common);
  adapterGradients(gpu, packed, gradients, splitK);
  return splitK;
}

function weightGradients(
  gpu: Gpu,
  { layers, grad }: PackedLinear,
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
  packed: PackedLinear,
  { x, dy, dyRounded, rows, operands, dropout: mask, loraHidden, loraHiddenGrad }: LinearGradients,
  dx: Tensor | SplitKPartials | undefined,
): void {
  if (packed.lora === undefined || !trainsAdapters(packed)) return;
  const lora = { ...packed.lora, mask };
  loraBackward(gpu, {
    x,
    dy,
    dyRounded,
    operands,
    loraHidden: present(loraHidden, HIDDEN),
    loraHiddenGrad: present(loraHiddenGrad, "room for the gradient of loraHidden"),
    group: lora,
    dx,
    rows,
  });
}
