/**
 * How likely a model finds what it should answer.
 *
 * @module
 */
import type { Gpu } from "../kernels/gpu.ts";
import { makeBatch } from "./batch.ts";
import type { Llama } from "./llama.ts";
import { supervisedTokens, type TokenizedSample } from "./text/prompt.ts";

/**
 * Mean negative log-likelihood per supervised token, in nats: Σ nll / count over all samples, each of
 * which runs alone. Nothing is dropped out.
 *
 * @param samples With at least one supervised token among them.
 * @param progress Told after each sample how many are done.
 */
export async function meanNll(
  gpu: Gpu,
  model: Llama,
  samples: readonly TokenizedSample[],
  progress?: (done: number) => void,
): Promise<number> {
  let sum = 0, count = 0;
  for (const [i, sample] of samples.entries()) {
    const batch = makeBatch([{ ...sample, weight: 1 }], model.config.sliding_window);
    model.loss(gpu, batch, { backward: false });
    sum += (await gpu.readF32(model.losses))[0];
    count += supervisedTokens(sample);
    progress?.(i + 1);
  }
  return sum / count;
}
