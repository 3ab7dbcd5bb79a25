/** Names of an adapter's tensors, for tests that make or change them. */
import { loraNames } from "../model/adapter/tensors.ts";
import { type LinearModule, submoduleOf } from "../model/families/linear_modules.ts";

/** PEFT's name of A `[r, in]` or B `[out, r]` of one linear layer of a block. */
export function adapterTensorName(layer: number, module: LinearModule, matrix: "A" | "B"): string {
  const { a, b } = loraNames(`model.layers.${layer}.${submoduleOf(module)}.${module}`);
  return matrix === "A" ? a : b;
}
