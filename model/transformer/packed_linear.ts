/**
 * Packed (fused) linear layers, such as qkv_proj and gate_up_proj: layers that share an input, with their weights one
 * below the other, their outputs side by side, and a bias and an adapter for each layer that has them. What they
 * compute is in linear.ts.
 *
 * Shapes: W_i `[out_i, in]`, b_i `[out_i]`, A_i `[r, in]`, B_i `[out_i, r]`, y `[T, Σ out_i]`.
 *
 * @module
 */
import type { LoraGroup } from "../../kernels/ops/lora/lora.ts";
import type { RowAdapters } from "../../kernels/ops/lora/own_ranks.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import type { Float } from "../../kernels/ops/numerics.ts";
import {
  packOperands,
  packTensors,
  type WeightOperand,
} from "../../kernels/ops/weights/operand.ts";
import type { Parameter } from "./parameters.ts";

/** What DoRA adds to an adapter of one layer; see kernels/ops/dora/dora.ts. */
export interface Dora {
  magnitude: Parameter;
  /** Lengths of the rows of W + s·B·A, and magnitudes over lengths `[out]` f32: of the last change. */
  norm: Tensor;
  factor: Tensor;
}

/** An adapter of one layer. */
export interface LoraPair {
  a: Parameter;
  b: Parameter;
  /** What the update is multiplied by. */
  scale: number;
  /** Identity of this layer's dropout masks. */
  subsequence: number;
  /** Bias of B. */
  bias?: Parameter;
  dora?: Dora;
}

/** A layer's weight, bias and adapter. */
export interface Linear {
  weight: Parameter;
  bias?: Parameter;
  lora?: LoraPair;
}

/** A layer with the first of its columns in y. */
export type PlacedLinear = Linear & { readonly from: number };

/** Weights one below the other, with the first of their columns in y. */
export interface PlacedWeight {
  readonly weight: WeightOperand;
  readonly from: number;
}

/** Layers of one input, as one. */
export interface PackedLinear {
  readonly layers: readonly PlacedLinear[];
  /** Columns of y. */
  readonly width: number;
  /** The weights as few matrices: those of neighbours are one where they are of one kind and memory holds them so. */
  readonly weights: readonly PlacedWeight[];
  /** All weights as one matrix `[Σ out, in]`, and all their gradients, where they can be. */
  readonly weight?: WeightOperand;
  readonly grad?: Tensor;
  readonly lora?: Omit<LoraGroup, "mask">;
  /** Whether the adapters are DoRA's. */
  readonly dora: boolean;
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

/** Working memory of DoRA. */
export interface DoraWorkspace {
  /** What the factors multiply `[T, widest y]`, and in backward y's gradient times the factors. */
  z: Tensor;
  /** An input after dropout, or an input's gradient `[T, widest input]`. */
  input: Tensor;
}

/** What both passes of a packed layer take. */
export interface LinearPass {
  rows: number;
  /** What products may round their operands to. */
  operands: Float;
  dropout: DropoutState;
  /** dropout(x)·Aᵀ of every adapter `[T, adapters · r]` f32, for backward to read. */
  loraHidden?: Tensor;
  /** For layers with DoRA. */
  dora?: DoraWorkspace;
  /** Which of several adapters, whose ranks lie side by side, each row has; absent where all have the same. */
  rowAdapters?: RowAdapters;
}

/** Operands of a backward pass: the layer's input and the gradient of its output. */
export interface LinearGradients extends LinearPass {
  x: Tensor;
  dy: Tensor;
  /** dy in f16, where the products would round it; see `operands`. */
  dyRounded?: Tensor;
  /** Working memory of the adapters `[T, adapters · r]` f32. */
  loraHiddenGrad?: Tensor;
}

/** Packs layers, in the order of y's columns. */
export function packLinears(linears: readonly Linear[]): PackedLinear {
  let width = 0;
  const layers = linears.map((linear) => {
    const from = width;
    width += linear.weight.operand.shape[0];
    return { ...linear, from };
  });
  const weights = packWeights(layers);
  const grads = layers.map(({ weight }) => weight.trained?.grad);
  const trained = grads.filter((grad) => grad !== undefined);
  return {
    layers,
    width,
    lora: loraGroup(layers),
    weights,
    weight: weights.length === 1 ? weights[0].weight : undefined,
    grad: trained.length === layers.length ? packTensors(trained) : undefined,
    dora: layers.some(({ lora }) => lora?.dora !== undefined),
  };
}

/** As few matrices as the layers' weights can be. */
function packWeights(layers: readonly PlacedLinear[]): PlacedWeight[] {
  const packed: PlacedWeight[] = [];
  for (const { weight: { operand }, from } of layers) {
    const above = packed.at(-1), both = above && packOperands([above.weight, operand]);
    if (both !== undefined) packed.pop();
    packed.push({ weight: both ?? operand, from: both && above ? above.from : from });
  }
  return packed;
}

/** The adapters of layers, if any has one. */
function loraGroup(layers: readonly PlacedLinear[]): PackedLinear["lora"] {
  const modules = layers.flatMap(({ lora, from }) =>
    lora === undefined ? [] : [{
      a: lora.a.value,
      b: lora.b.value,
      from,
      scale: lora.scale,
      subsequence: lora.subsequence,
      gradA: lora.a.trained?.grad,
      gradB: lora.b.trained?.grad,
    }]
  );
  return modules.length === 0 ? undefined : { modules };
}

/** Whether the adapters are trained. */
export function trainsAdapters({ lora }: PackedLinear): boolean {
  return lora !== undefined && lora.modules[0].gradA !== undefined;
}

/** Whether any weight, bias or adapter is trained. */
export function trainsPacked(packed: PackedLinear): boolean {
  return trainsAdapters(packed) ||
    packed.layers.some(({ weight, bias }) =>
      weight.trained !== undefined || bias?.trained !== undefined
    );
}

/** Whether backward reads the layer's input. */
export function readsInput(packed: PackedLinear): boolean {
  return trainsAdapters(packed) || packed.layers.some(({ weight }) => weight.trained !== undefined);
}

/** Whether y is nothing but x·Wᵀ. */
export function isPlain(packed: PackedLinear): boolean {
  return packed.lora === undefined && isWithoutBias(packed);
}

/** Whether neither a layer nor an adapter has a bias. */
export function isWithoutBias({ layers }: PackedLinear): boolean {
  return layers.every(({ bias, lora }) => bias === undefined && lora?.bias === undefined);
}

/** Columns of loraHidden. */
export function loraWidth({ lora }: PackedLinear): number {
  return lora === undefined ? 0 : lora.modules.reduce((sum, { a }) => sum + a.shape[0], 0);
}
