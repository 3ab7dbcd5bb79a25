/**
 * What is said of weights that become another type on their way to the GPU.
 *
 * @module
 */
import type { WeightSource } from "../formats/weights.ts";
import type { Parameter } from "../transformer/parameters.ts";

/**
 * One line about tensors that their file holds in blocks, by type with their number; undefined where there are none.
 *
 * @param name What the model is called.
 */
export function describeConversion(
  name: string,
  weights: WeightSource,
  parameters: readonly Parameter[],
): string | undefined {
  const counts = new Map<string, number>(), becomes = new Set<string>();
  for (const { name, operand: { kind } } of parameters) {
    const { stored, dtype: read } = weights.info(name);
    if (stored === undefined || stored === read) continue;
    counts.set(stored, (counts.get(stored) ?? 0) + 1);
    becomes.add(kind.element ?? kind.name);
  }
  if (counts.size === 0) return undefined;
  const sorted = [...counts].sort(([, a], [, b]) => b - a);
  const types = sorted.map(([type, count]) => `${count} in ${type}`).join(", ");
  return `Model "${name}" has quantised weights (${types}); they are loaded as ${
    [...becomes].join(" and ")
  }.`;
}
