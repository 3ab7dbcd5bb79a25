/**
 * What kernels/ops/sampling/sample.ts should do, in float64 and by sorting; and a test of draws against a distribution.
 *
 * @module
 */
import { pcg4d } from "../../../../kernels/wgsl/hash.ts";
import type { Sampling } from "../../../../kernels/ops/sampling/sample.ts";

/** Every option off. */
export const PLAIN: Sampling = {
  temperature: 1,
  top_k: 0,
  top_p: 1,
  min_p: 0,
  repetition_penalty: 1,
  seed: 0,
};

const LARGEST = (2 - 2 ** -23) * 2 ** 127;

/** Logits as they count: rounded to f32, penalised where `seen`, infinity as the largest f32, NaN as −infinity. */
export function processed(
  logits: ArrayLike<number>,
  penalty = 1,
  seen: ReadonlySet<number> = new Set(),
): Float64Array {
  const factor = (x: number) => Math.fround(x > 0 ? 1 / penalty : penalty);
  return Float64Array.from(logits, (logit, id) => {
    const x = Math.fround(logit);
    const y = seen.has(id) ? Math.fround(x * factor(x)) : x;
    return Number.isNaN(y) ? -Infinity : Math.min(y, LARGEST);
  });
}

/** Possible tokens in order: the largest logit first, of equals the lowest id. */
export function order(x: Float64Array): number[] {
  return [...x.keys()].filter((id) => x[id] > -Infinity).sort((a, b) => x[b] - x[a] || a - b);
}

/** Weights relative to the most likely token's, in order. */
function weights(x: Float64Array, ordered: readonly number[], temperature: number): number[] {
  return ordered.map((id) => Math.exp((x[id] - x[ordered[0]]) / temperature));
}

/** The tokens that may be drawn, in order. `x` is {@linkcode processed}. */
export function keptTokens(x: Float64Array, options: Sampling): number[] {
  const { temperature, top_k, top_p, min_p } = options;
  let kept = order(x);
  if (top_k > 0) kept = kept.slice(0, top_k);
  if (top_p < 1) {
    const all = weights(x, kept, temperature), total = all.reduce((a, b) => a + b, 0);
    let count = 0, sum = 0;
    do sum += all[count++]; while (count < kept.length && sum < top_p * total);
    kept = kept.slice(0, count);
  }
  const relative = weights(x, kept, temperature);
  return kept.filter((_, i) => relative[i] >= min_p);
}

/**
 * A top_p that keeps `count` tokens, halfway between the probabilities of one token more and fewer, so that rounding
 * can't change the set. `top_k` of the options counts.
 */
export function topPFor(x: Float64Array, options: Sampling, count: number): number {
  const kept = keptTokens(x, { ...options, top_p: 1, min_p: 0 });
  const all = weights(x, kept, options.temperature);
  const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
  return (sum(all.slice(0, count)) - all[count - 1] / 2) / sum(all);
}

/** A min_p between the weights of the tokens at `count − 1` and, if that is less, `count`. */
export function minPFor(x: Float64Array, { temperature }: Sampling, count: number): number {
  const all = weights(x, order(x), temperature);
  return (all[count - 1] + (all[count] ?? 0)) / 2;
}

/** The probability of every token `[vocab]`. */
export function distribution(x: Float64Array, options: Sampling): Float64Array {
  const kept = keptTokens(x, options);
  const all = weights(x, kept, options.temperature), total = all.reduce((a, b) => a + b, 0);
  const probabilities = new Float64Array(x.length);
  kept.forEach((id, i) => probabilities[id] = all[i] / total);
  return probabilities;
}

/** The token drawn, its score (logit / temperature + noise), and by how much that exceeds the next best one's. */
export function draw(
  x: Float64Array,
  options: Sampling,
  subsequence: number,
  position: number,
): { token: number; score: number; lead: number } {
  let [token, best, second] = [0, -Infinity, -Infinity];
  for (const id of keptTokens(x, options)) {
    const word = pcg4d(id >>> 2, options.seed, subsequence, position)[id & 3];
    const score = x[id] / options.temperature - Math.log(-Math.log1p(-(word + 0.5) / 2 ** 32));
    if (score > best) [token, best, second] = [id, score, best];
    else if (score > second) second = score;
  }
  return { token, score: best, lead: best - second };
}

/**
 * Pearson's test of counts against probabilities, as a standard normal deviate: above 3.72 has a probability of 1e-4
 * if the counts come from them. Cells that expect under 5 are pooled; infinite where an impossible cell was hit.
 *
 * Source: Wilson and Hilferty, "The distribution of chi-square", 1931.
 */
export function chiSquaredDeviate(
  counts: ArrayLike<number>,
  probabilities: ArrayLike<number>,
): number {
  const draws = Array.from(counts).reduce((a, b) => a + b, 0);
  const cells: [number, number][] = [];
  let pooled: [number, number] = [0, 0];
  for (let i = 0; i < probabilities.length; i++) {
    const expected = draws * probabilities[i];
    if (expected === 0 && counts[i] > 0) return Infinity;
    if (expected >= 5) cells.push([counts[i], expected]);
    else pooled = [pooled[0] + counts[i], pooled[1] + expected];
  }
  if (pooled[1] >= 5) cells.push(pooled);
  const chiSquared = cells.reduce((sum, [count, e]) => sum + (count - e) ** 2 / e, 0);
  const spread = 2 / (9 * (cells.length - 1));
  return (Math.cbrt(chiSquared / (cells.length - 1)) - (1 - spread)) / Math.sqrt(spread);
}
