/** What the matrices of a quantised model stand for, and models that hold it as numbers. @module */
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { setParameter } from "../model/checkpoint/load.ts";
import type { Llama } from "../model/transformer/llama.ts";
import { parameterCount } from "../model/transformer/parameters.ts";
import { decoded } from "./kernels/ops/weights/encoded.ts";

/** Names and values of the matrices that are held as codes. */
export async function standingValues(gpu: Gpu, model: Llama): Promise<Map<string, Float32Array>> {
  const values = new Map<string, Float32Array>();
  for (const parameter of model.weights) {
    const { name, operand } = parameter;
    if (operand.kind.element !== undefined) continue;
    const all = await decoded(gpu, operand);
    values.set(name, Float32Array.from(all.subarray(0, parameterCount(parameter))));
  }
  return values;
}

/** Sets weights of a model that holds them as numbers. */
export function setWeights(
  gpu: Gpu,
  model: Llama,
  values: ReadonlyMap<string, Float32Array>,
): void {
  for (const parameter of model.weights) {
    const data = values.get(parameter.name);
    if (data !== undefined) setParameter(gpu, parameter, data);
  }
}
