/**
 * What is said of weights that their file holds in blocks: as what they are held on the GPU.
 *
 * @module
 */
import { countTypes, listTypes, quantizedType, type WeightSource } from "../formats/weights.ts";
import type { Parameter } from "../transformer/parameters.ts";
import { destination } from "./pieces.ts";

/**
 * One line about tensors that their file holds in blocks: the kinds of weights that they become
 * (kernels/ops/weights/kinds.ts), each with the types in the file and their number; undefined where there are none.
 *
 * @param name What the model is called.
 */
export function describeConversion(
  name: string,
  weights: WeightSource,
  parameters: readonly Parameter[],
): string | undefined {
  const kinds = new Map<string, string[]>();
  for (const parameter of parameters) {
    const type = quantizedType(weights.info(parameter.name));
    if (type === undefined) continue;
    const { kind: { name } } = destination(parameter);
    kinds.set(name, [...kinds.get(name) ?? [], type]);
  }
  if (kinds.size === 0) return undefined;
  const sorted = [...kinds].sort(([, a], [, b]) => b.length - a.length);
  const becomes = sorted.map(([kind, types]) => `${kind} (${listTypes(countTypes(types))})`);
  const last = becomes.pop(), list = [...(becomes.length > 0 ? [becomes.join(", ")] : []), last];
  return `Model "${name}" has quantised weights; they are loaded as ${list.join(" and ")}.`;
}
