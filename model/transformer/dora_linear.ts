/**
 * Packed linear layers with DoRA adapters: y_i = g_i ∘ (x·W_iᵀ + s_i·loraHidden_i·B_iᵀ) with the factors g_i of
 * kernels/ops/dora/dora.ts, which also has the equations with dropout and those of backward. Layers without an
 * adapter are plain.
 *
 * @module
 */
import { cast } from "../../kernels/ops/elements/cast.ts";
import { magnitudeGradient, scaleColumns } from "../../kernels/ops/dora/dora.ts";
import { addDropped, dropoutCopy } from "../../kernels/ops/lora/dropout_copy.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { loraBackward, loraDown, loraUp } from "../../kernels/ops/lora/lora.ts";
import { matmul } from "../../kernels/ops/matmul/matmul.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { inputProduct, outputProduct, updateOf } from "./packed_products.ts";
import type {
  Dora,
  LinearGradients,
  LinearPass,
  LoraPair,
  PackedLinear,
  PlacedLinear,
} from "./packed_linear.ts";

/** A layer with an adapter. */
type Adapted = PlacedLinear & { lora: LoraPair & { dora: Dora } };

/** Working memory and adapters of a pass. */
interface Workspace {
  lora: NonNullable<PackedLinear["lora"]>;
  loraHidden: Tensor;
  /** Working memory as wide as y, and as wide as x. */
  z: Tensor;
  input: Tensor;
}

function workspaceOf(
  { width, lora, layers }: PackedLinear,
  { loraHidden, dora }: LinearPass,
): Workspace {
  if (lora === undefined || loraHidden === undefined || dora === undefined) {
    throw new Error("a layer with DoRA needs its working memory");
  }
  const input = layers[0].weight.operand.shape[1];
  const asWideAs = (tensor: Tensor, width: number) => tensor.view([tensor.shape[0], width]);
  return { lora, loraHidden, z: asWideAs(dora.z, width), input: asWideAs(dora.input, input) };
}

const isAdapted = (layer: PlacedLinear): layer is Adapted => layer.lora?.dora !== undefined;

/** y without biases, added to what is there where `accumulate`. */
export function doraForward(
  gpu: Gpu,
  packed: PackedLinear,
  x: Tensor,
  y: Tensor,
  { accumulate, ...pass }: LinearPass & { accumulate: boolean },
): void {
  const { rows, operands, dropout } = pass,
    { lora, loraHidden, z, input } = workspaceOf(packed, pass);
  const mask = { ...lora, mask: dropout }, dropped = dropout.p > 0;
  const common = { orientation: "nt", rows, operands } as const;
  const adapted = packed.layers.filter(isAdapted);
  loraDown(gpu, { x, group: mask, loraHidden, rows, operands });
  const update = updateOf(gpu, packed, { x, y, loraHidden }, pass);
  if (!dropped && !accumulate) {
    // The result itself has room for what the factors multiply.
    outputProduct(gpu, packed, { x, y, accumulate, update }, pass);
    if (update === undefined) loraUp(gpu, { loraHidden, group: mask, y, rows });
    for (const { lora: { dora: { factor } }, from } of adapted) {
      scaleColumns(gpu, { x: y, factor, y, from, rows });
    }
    return;
  }
  for (const layer of packed.layers) {
    const { weight: { operand: b }, from: cFrom } = layer;
    if (!isAdapted(layer)) matmul(gpu, { ...common, a: x, b, c: y, cFrom, accumulate });
    else if (!dropped) matmul(gpu, { ...common, a: x, b, c: z, cFrom, update });
    else {
      const copy = { x, y: input, rows, mask: { ...dropout, subsequence: layer.lora.subsequence } };
      dropoutCopy(gpu, copy);
      matmul(gpu, { ...common, a: input, b, c: z, cFrom, update });
      dropoutCopy(gpu, { ...copy, rest: true });
      matmul(gpu, { ...common, a: input, b, c: y, cFrom, accumulate });
    }
  }
  if (update === undefined) loraUp(gpu, { loraHidden, group: mask, y: z, rows });
  for (const { lora: { dora: { factor } }, from } of adapted) {
    scaleColumns(gpu, { x: z, factor, y, from, rows, accumulate: true });
  }
}

/**
 * Adds the gradients of A, B and the magnitudes to their sums and, where `dx` is given, writes the input's
 * gradient there.
 */
export function doraBackward(
  gpu: Gpu,
  packed: PackedLinear,
  { x, dy, dyRounded = dy, loraHiddenGrad, ...pass }: LinearGradients,
  dx: Tensor | undefined,
): void {
  const { rows, operands, dropout } = pass,
    { lora, loraHidden, z, input } = workspaceOf(packed, pass);
  if (loraHiddenGrad === undefined) throw new Error("a layer with DoRA needs its working memory");
  const mask = { ...lora, mask: dropout }, dropped = dropout.p > 0;
  const adapted = packed.layers.filter(isAdapted), every = adapted.length === packed.layers.length;
  const maskOf = ({ lora: { subsequence } }: Adapted) => ({ ...dropout, subsequence });
  /** z = (factor − less) ∘ from in the adapted columns. */
  const scale = (from: Tensor, less = 0) => {
    for (const { lora: { dora: { factor } }, from: column } of adapted) {
      scaleColumns(gpu, { x: from, factor, y: z, from: column, rows, less });
    }
  };

  // z is not kept: it would take as much memory as all outputs do.
  const update = updateOf(gpu, packed, { x, y: z, loraHidden }, pass);
  if (every && !dropped) outputProduct(gpu, packed, { x, y: z, accumulate: false, update }, pass);
  else {
    for (const layer of adapted) {
      if (dropped) dropoutCopy(gpu, { x, y: input, rows, mask: maskOf(layer) });
      const product = { a: dropped ? input : x, b: layer.weight.operand, c: z, cFrom: layer.from };
      matmul(gpu, { orientation: "nt", ...product, rows, operands, update });
    }
  }
  if (update === undefined) loraUp(gpu, { loraHidden, group: mask, y: z, rows });
  for (const { lora: { dora: { magnitude, norm } }, from } of adapted) {
    const grad = magnitude.trained?.grad;
    if (grad !== undefined) magnitudeGradient(gpu, { dy, z, norm, grad, from, rows });
  }

  if (dropped && dx !== undefined) {
    inputProduct(gpu, packed, { dy: dyRounded, dx }, pass);
    scale(dy, 1);
    for (const layer of adapted) {
      const product = { a: z, b: layer.weight.operand, c: input, aFrom: layer.from };
      matmul(gpu, { orientation: "nn", ...product, rows, operands });
      addDropped(gpu, { d: input, dx, rows, mask: maskOf(layer) });
    }
    scale(dy);
  } else {
    // Columns without an adapter are part of the product too.
    if (!every) cast(gpu, { x: dy, y: z, rows });
    scale(every ? dy : z);
    if (dx !== undefined) inputProduct(gpu, packed, { dy: z, dx }, pass);
  }
  loraBackward(gpu, { x, dy: z, loraHidden, loraHiddenGrad, group: mask, dx, rows, operands });
}
