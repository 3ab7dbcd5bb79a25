/**
 * RoPE's scaling of Llama 3.1 in GGUF: not its parameters are in a file, but what each frequency is divided by.
 *
 * With F the factor, λ a frequency's wavelength, C the original context, l and h the low and the high frequency factor,
 * and s = (C/λ − l)/(h − l), a frequency is divided by 1 where s ≥ 1, by F where s ≤ 0, else by 1/((1 − s)/F + s).
 *
 * @module
 */

import type { ModelConfig } from "../../families/config.ts";

type RopeScaling = ModelConfig["rope_scaling"];
type Llama3 = Extract<RopeScaling, { type: "llama3" }>;

/** Divisors are f32. */
const TOLERANCE = 1e-5;

/** What the frequencies of RoPE are divided by, one of each, `head_dim / 2` of them. */
export function ropeFactors(scaling: Llama3, headDim: number, theta: number): number[] {
  const { factor, low_freq_factor: low, high_freq_factor: high } = scaling;
  return Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** (2 * i / headDim);
    const share = (scaling.original_max_position_embeddings / wavelength - low) / (high - low);
    const s = Math.min(1, Math.max(0, share));
    return 1 / ((1 - s) / factor + s);
  });
}

/** The original context by a line through what is between, for a low factor of 1. */
function solved(factors: ArrayLike<number>, headDim: number, theta: number): Llama3[] {
  const factor = factors[factors.length - 1];
  const points: [inverse: number, share: number][] = [];
  for (let i = 0; i < factors.length; i++) {
    const share = (1 / factors[i] - 1 / factor) / (1 - 1 / factor);
    if (share > 0.001 && share < 0.999) {
      points.push([theta ** (-2 * i / headDim) / (2 * Math.PI), share]);
    }
  }
  if (points.length < 2) return [];
  const [[x0, y0]] = points, [x1, y1] = points[points.length - 1];
  const slope = (y1 - y0) / (x1 - x0), low = slope * x0 - y0;
  return [{
    type: "llama3",
    factor,
    low_freq_factor: 1,
    high_freq_factor: 1 + 1 / low,
    original_max_position_embeddings: Math.round(slope / low),
  }];
}

/**
 * The scaling that divides the frequencies so: Llama 3.1's where its rule gives these factors, else one of LongRoPE that has
 * the same for texts of all lengths.
 *
 * @param factors One of each frequency, `head_dim / 2` of them.
 * @param of `context`: max_position_embeddings.
 */
export function ropeScaling(
  factors: ArrayLike<number>,
  { headDim, theta, context }: { headDim: number; theta: number; context: number },
): RopeScaling {
  const all = Array.from(factors);
  if (all.every((factor) => factor === 1)) return null;
  // It was divided by in f32.
  const factor = Number(all[all.length - 1].toPrecision(6));
  // Published are the factors 1 and 4; the contexts are powers of two.
  const published = Array.from({ length: 16 }, (_, i): Llama3 => ({
    type: "llama3",
    factor,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 2 ** (i + 6),
  }));
  const found = [...published, ...solved(factors, headDim, theta)].find((scaling) => {
    const expected = ropeFactors(scaling, headDim, theta);
    return expected.every((divisor, i) => Math.abs(divisor / all[i] - 1) < TOLERANCE);
  });
  return found ?? {
    type: "longrope",
    original_max_position_embeddings: context,
    short_factor: all,
    long_factor: all,
    attention_factor: 1,
  };
}
