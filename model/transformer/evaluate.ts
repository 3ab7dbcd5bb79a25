/**
 * How likely a model finds what it should answer.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { makeBatch } from "./batch.ts";
import type { Llama } from "./llama.ts";
import { DAMAGED, NotFinite } from "./not_finite.ts";
import { supervisedTokens, type TokenizedSample } from "../text/prompt.ts";

/** Samples whose programs are compiled before the first is scored. */
const REHEARSED = 16;

/** Launches what {@linkcode meanNll} of the first samples takes, for {@linkcode Gpu.precompile}. */
export function rehearseNll(gpu: Gpu, model: Llama, samples: Iterable<TokenizedSample>): void {
  for (const sample of Iterator.from(samples).take(REHEARSED)) scoreAlone(gpu, model, sample);
}

/** Scores a sample by itself. */
function scoreAlone(gpu: Gpu, model: Llama, sample: TokenizedSample): void {
  const batch = makeBatch([{ ...sample, weight: 1 }], model.slidingWindows[0]);
  model.loss(gpu, batch, { backward: false });
}

/**
 * Mean negative log-likelihood per supervised token, in nats: Σ nll / count over all samples, each of
 * which runs alone. Nothing is dropped out.
 *
 * @param samples With at least one supervised token among them.
 * @param progress Told after each sample how many are done; may throw to end it.
 * @throws {NotFinite} where a sample's is NaN or infinite, with the sample's number, counted from 1.
 */
export async function meanNll(
  gpu: Gpu,
  model: Llama,
  samples: Iterable<TokenizedSample> & { readonly length: number },
  progress?: (done: number) => void,
): Promise<number> {
  let sum = 0, count = 0, done = 0;
  for (const sample of samples) {
    done++;
    scoreAlone(gpu, model, sample);
    const [nll] = await gpu.readF32(model.losses);
    if (!Number.isFinite(nll)) {
      const what = `sample ${done} of ${samples.length}: its negative log-likelihood is ${nll}`;
      throw new NotFinite(what, model, DAMAGED);
    }
    sum += nll;
    count += supervisedTokens(sample);
    progress?.(done);
  }
  return sum / count;
}
