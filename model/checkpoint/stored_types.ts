/**
 * What is said of weights that their file holds in blocks: as what they are held on the GPU.
 *
 * @module
 */
import type { WeightSource } from "../formats/weights.ts";
import type { Parameter } from "../transformer/parameters.ts";
import { destination } from "./pieces.ts";

/** Names with how often each occurs, the most frequent first. */
class Counts {
  readonly #counts = new Map<string, number>();
  total = 0;

  add(name: string): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
    this.total++;
  }

  toString(): string {
    const sorted = [...this.#counts].sort(([, a], [, b]) => b - a);
    return sorted.map(([name, count]) => `${count} in ${name}`).join(", ");
  }
}

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
  const kinds = new Map<string, Counts>();
  for (const parameter of parameters) {
    const { stored, dtype: read } = weights.info(parameter.name);
    if (stored === undefined || stored === read) continue;
    const { kind } = destination(parameter), counts = kinds.get(kind.name) ?? new Counts();
    counts.add(stored);
    kinds.set(kind.name, counts);
  }
  if (kinds.size === 0) return undefined;
  const sorted = [...kinds].sort(([, a], [, b]) => b.total - a.total);
  const becomes = sorted.map(([kind, counts]) => `${kind} (${counts})`);
  const last = becomes.pop(), list = [...(becomes.length > 0 ? [becomes.join(", ")] : []), last];
  return `Model "${name}" has quantised weights; they are loaded as ${list.join(" and ")}.`;
}
