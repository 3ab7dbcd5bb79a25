/**
 * The model's parameters: values in the compute dtype and, where they are trained, f32 masters,
 * gradients and room for optimizer state.
 *
 * @module
 */
import type { Category, Memory, TensorSpec } from "../../kernels/gpu/memory.ts";
import { type Dtype, roundUp, type Tensor } from "../../kernels/gpu/tensor.ts";

/** What a trained parameter has besides its value. */
export interface Trained {
  /** f32 weights that the optimizer updates; the value itself where that is f32. */
  master: Tensor;
  /** f32 gradient, summed over the micro-batches of an accumulation window. */
  grad: Tensor;
}

/** One tensor of the model. */
export interface Parameter {
  /** Name in Hugging Face's or PEFT's files. */
  name: string;
  /** Shape in those files. */
  shape: readonly number[];
  /** In the compute dtype; rows padded as {@linkcode storedShape} says, the padding being zero. */
  value: Tensor;
  trained?: Trained;
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
 */
export function allocateParameters(
  memory: Memory,
  label: string,
  specs: readonly ParameterSpec[],
  dtype: Dtype,
): Parameter[] {
  const tensors = (
    category: Category,
    kind: string,
    wanted: readonly ParameterSpec[],
    d: Dtype,
  ) => {
    const list = wanted.map(({ name, shape, stored = storedShape(shape) }): TensorSpec => ({
      name,
      dtype: d,
      shape: [...stored],
    }));
    return list.length === 0 ? [] : memory.arena(category, `${label} ${kind}`, list);
  };
  const values = tensors("parameter", "values", specs, dtype);
  const trained = specs.filter((spec) => spec.trained);
  const masters = dtype === "f32" ? undefined : tensors("parameter", "masters", trained, "f32");
  const grads = tensors("gradient", "gradients", trained, "f32");
  let next = 0;
  return specs.map(({ name, shape, trained }, i) => {
    const parameter: Parameter = { name, shape, value: values[i] };
    if (trained) {
      parameter.trained = { master: masters?.[next] ?? values[i], grad: grads[next] };
      next++;
    }
    return parameter;
  });
}
