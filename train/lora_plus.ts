/**
 * LoRA+: B learns faster than A. Which parameter has which rate is as in PEFT's `create_loraplus_optimizer`.
 * Source: Hayou et al., "LoRA+: Efficient Low Rank Adaptation of Large Models", 2024.
 *
 * @module
 */
import type { Parameter } from "../model/transformer/parameters.ts";

/** The learning rate of an adapter of an embedding, whatever that of the others is. */
const EMBEDDING_RATE = 1e-6;

/**
 * What the learning rate is multiplied by for a parameter of the adapter: `ratio` for B and for vectors (biases,
 * magnitudes), 1 for all else, but for an embedding's A and B what makes of `learningRate`, the run's highest, 1e-6.
 */
export function loraPlusRate(
  { name, shape }: Pick<Parameter, "name" | "shape">,
  { ratio, learningRate }: { ratio: number; learningRate: number },
): number {
  if (/\.lora_embedding_[AB]$/.test(name)) {
    return learningRate > 0 ? EMBEDDING_RATE / learningRate : 0;
  }
  return shape.length === 1 || /\.lora_B\./.test(name) ? ratio : 1;
}
