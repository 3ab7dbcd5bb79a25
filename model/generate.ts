/**
 * Greedy continuation of a prompt, with a KV cache or recomputing everything for every token.
 *
 * @module
 */
import type { Gpu } from "../kernels/gpu.ts";
import type { Batch } from "./batch.ts";
import type { KvCache } from "./cache.ts";
import type { Llama } from "./llama.ts";

/** Tokens that follow `past` earlier ones of the same document, with logits asked of the last. */
function continuation(ids: Uint32Array, past: number): Batch {
  const tokens = ids.length;
  const indexes = Uint32Array.from({ length: tokens }, (_, i) => i);
  return {
    tokens,
    targetCount: 1,
    ids,
    positions: indexes.map((i) => past + i),
    starts: new Uint32Array(tokens),
    ends: indexes.map((i) => past + i + 1),
    queryEnds: new Uint32Array(tokens).fill(tokens),
    targetRows: Uint32Array.of(tokens - 1),
    targets: new Uint32Array(1),
    weights: new Float32Array(1),
    lossGroups: [],
  };
}

/** The logits `[vocabulary]` after `ids`, which follow `past` earlier tokens. */
async function nextLogits(
  gpu: Gpu,
  model: Llama,
  ids: Uint32Array,
  cache: KvCache | undefined,
): Promise<Float32Array> {
  const past = cache?.length ?? 0;
  const logits = model.logits(gpu, continuation(ids, past), cache?.rows());
  if (cache !== undefined) cache.length += ids.length;
  return (await gpu.readF32(logits.rows(0, 1))).subarray(0, model.config.vocab_size);
}

/** The index of the largest value; the first of several. */
function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/**
 * Yields up to `maxTokens` tokens, the most likely one each time, and stops before `stop`.
 *
 * @param cache Emptied first; without one, every token costs a pass over all tokens so far.
 */
export async function* greedy(
  gpu: Gpu,
  model: Llama,
  prompt: Uint32Array,
  { maxTokens, stop, cache }: { maxTokens: number; stop: readonly number[]; cache?: KvCache },
): AsyncGenerator<number> {
  if (cache !== undefined) cache.length = 0;
  let ids = prompt;
  for (let made = 0; made < maxTokens; made++) {
    const token = argmax(await nextLogits(gpu, model, ids, cache));
    if (stop.includes(token)) return;
    yield token;
    ids = cache === undefined ? Uint32Array.of(...ids, token) : Uint32Array.of(token);
  }
}
