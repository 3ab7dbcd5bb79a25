/**
 * The model's parameters: values in the compute dtype and, where they are trained, f32 masters,
 * gradients and room for optimizer state.
 *
 * @module
 */
import type { Category, Memory, TensorSpec } from "../../kernels/gpu/memory.ts";
import { roundUp, type Tensor } from "../../kernels/gpu/tensor.ts";
import type { Float } from "../../kernels/ops/numerics.ts";
import { DENSE } from "../../kernels/ops/weights/dense.ts";
import type { WeightKind } from "../../kernels/ops/weights/kind.ts";
import {
  encodingElements,
  planeTensors,
  WeightOperand,
} from "../../kernels/ops/weights/operand.ts";

/** What a trained parameter has besides its value. */
export interface Trained {
  /** f32 weights that the optimizer updates; the value itself where that is f32. */
  master: Tensor;
  /** f32 gradient, summed over the micro-batches of an accumulation window. */
  grad: Tensor;
}

/** One tensor of the model. */
export class Parameter {
  /**
   * @param name In Hugging Face's or PEFT's files.
   * @param shape In those files.
   * @param operand Its values; rows padded as {@linkcode storedShape} says, the padding being zero.
   */
  constructor(
    readonly name: string,
    readonly shape: readonly number[],
    readonly operand: WeightOperand,
    readonly trained?: Trained,
  ) {}

  /**
   * Its values as a tensor in the compute dtype: what is trained, no matrix, or an adapter's has one.
   *
   * @throws {Error} where it is a weight of a kind that is not dense.
   */
  get value(): Tensor {
    return this.operand.tensor;
  }
}

/** A parameter that is trained. */
export type TrainedParameter = Parameter & { readonly trained: Trained };

/** Whether a parameter is trained. */
export function isTrainedParameter(parameter: Parameter): parameter is TrainedParameter {
  return parameter.trained !== undefined;
}

/** The parameter of this name, which is one of them. */
export function parameterOf(parameters: ReadonlyMap<string, Parameter>, name: string): Parameter {
  const parameter = parameters.get(name);
  if (parameter === undefined) throw new Error(`the model has no parameter ${name}`);
  return parameter;
}

/** Number of elements in the files. */
export function parameterCount({ shape }: Pick<Parameter, "shape">): number {
  return shape.reduce((a, b) => a * b, 1);
}

/**
 * The shape a parameter has on the GPU: kernels read four elements at a time, so a vocabulary or a
 * LoRA rank that is no multiple of 4 is padded with zeros. Zeros stay zeros: their gradient is zero.
 */
export function storedShape(shape: readonly number[]): number[] {
  return shape.map((n) => roundUp(n, 4));
}

/** The kind in which a frozen matrix of this name is held; undefined for a dense one. */
export type FrozenKinds = (name: string) => WeightKind | undefined;

/** A parameter to make. */
export interface ParameterSpec {
  name: string;
  shape: readonly number[];
  trained: boolean;
  /** Shape on the GPU, where more of it is padding. Default: {@linkcode storedShape}. */
  stored?: readonly number[];
}

/**
 * Allocates parameters that live side by side: one buffer of values, and one each of masters and
 * gradients of those that are trained.
 *
 * @param storage Element type of values.
 * @param frozen How a matrix that is not trained is held, by its name; dense where it says nothing.
 */
export function allocateParameters(
  memory: Memory,
  label: string,
  specs: readonly ParameterSpec[],
  storage: Float,
  frozen?: FrozenKinds,
): Parameter[] {
  const operands = allocateValues(
    memory,
    `${label} values`,
    specs,
    ({ name, shape, trained }) =>
      (trained || shape.length < 2 ? undefined : frozen?.(name)) ?? DENSE[storage],
  );
  memory.needEncoding(4 * encodingElements(operands));
  const trained = specs.filter((spec) => spec.trained);
  const alongside = (category: Category, kind: string) =>
    trained.length === 0 ? [] : memory.arena(
      category,
      `${label} ${kind}`,
      trained.map(({ name, shape, stored = storedShape(shape) }) => ({
        name,
        dtype: "f32",
        shape: [...stored],
      })),
    );
  const masters = storage === "f32" ? undefined : alongside("parameter", "masters");
  const grads = alongside("gradient", "gradients");
  let next = 0;
  return specs.map(({ name, shape, trained }, i) => {
    if (!trained) return new Parameter(name, shape, operands[i]);
    const of = { master: masters?.[next] ?? operands[i].tensor, grad: grads[next] };
    next++;
    return new Parameter(name, shape, operands[i], of);
  });
}

/**
 * Values in one buffer: the first tensors of all weights side by side, then the second ones, so that weights which
 * share an input are one below the other in each.
 */
function allocateValues(
  memory: Memory,
  label: string,
  specs: readonly ParameterSpec[],
  kindOf: (spec: ParameterSpec) => WeightKind,
): WeightOperand[] {
  const planes = specs.flatMap((spec, weight) => {
    const { name, shape, stored = storedShape(shape) } = spec;
    return planeTensors(kindOf(spec), stored).map(({ suffix, dtype, shape }, plane) => ({
      weight,
      plane,
      spec: { name: name + suffix, dtype, shape } satisfies TensorSpec,
    }));
  }).sort((a, b) => a.plane - b.plane);
  if (planes.length === 0) return [];
  const tensors = memory.arena("parameter", label, planes.map(({ spec }) => spec));
  return specs.map((spec, weight) => {
    const own = tensors.filter((_, i) => planes[i].weight === weight);
    return new WeightOperand(kindOf(spec), spec.stored ?? storedShape(spec.shape), own);
  });
}
