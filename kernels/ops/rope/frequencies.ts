/**
 * By which angles rotary position embedding turns, and the tables of their cosines and sines.
 *
 * @module
 */
import { isWhole, type Rotary } from "./rotary.ts";

/** How frequencies are changed for contexts longer than a model was trained on; `transformers`' names. */
export type RopeScaling =
  | { type: "linear"; factor: number }
  | { type: "dynamic"; factor: number }
  | {
    type: "llama3";
    factor: number;
    low_freq_factor: number;
    high_freq_factor: number;
    original_max_position_embeddings: number;
  }
  | {
    type: "yarn";
    factor: number;
    original_max_position_embeddings: number;
    beta_fast: number;
    beta_slow: number;
    /** Whether the ramp begins and ends at whole pairs. */
    truncate: boolean;
    /** What rotated queries and keys are multiplied by. */
    attention_factor: number;
  }
  | {
    type: "longrope";
    original_max_position_embeddings: number;
    /** What each pair's frequency is divided by in texts of up to the original length, and in longer ones. */
    short_factor: readonly number[];
    long_factor: readonly number[];
    /** What rotated queries and keys are multiplied by. */
    attention_factor: number;
  };

/** What decides the frequencies. */
export interface FrequencyOptions {
  /** Elements of a head that are rotated. */
  dims: number;
  /** θ, the base of the frequencies. */
  theta: number;
  /** Positions that the run was planned for: no token lies at one of these or beyond. */
  positions: number;
  scaling?: RopeScaling | null;
  /** The context the model was trained on, max_position_embeddings; `dynamic` scaling needs it. */
  trainedPositions?: number;
}

/** Which pairs YaRN divides by its factor: none before `low`, all from `high` on, and shares of them in between. */
function yarnRamp(
  { dims, theta }: Pick<FrequencyOptions, "dims" | "theta">,
  scaling: RopeScaling & { type: "yarn" },
): { low: number; high: number } {
  const { original_max_position_embeddings: original, beta_fast, beta_slow, truncate } = scaling;
  // The pair that turns so many times over the original context.
  const pairOf = (turns: number) =>
    dims * Math.log(original / (turns * 2 * Math.PI)) / (2 * Math.log(theta));
  const [first, last] = [pairOf(beta_fast), pairOf(beta_slow)];
  const low = Math.max(truncate ? Math.floor(first) : first, 0);
  const high = Math.min(truncate ? Math.ceil(last) : last, dims - 1);
  return { low, high: high === low ? high + 0.001 : high };
}

/**
 * The D/2 frequencies, in radians a position, in float64. With factor f:
 *  - plain: θ^(−2i/D);
 *  - linear: those divided by f, as if positions were closer together (Chen et al., "Extending Context
 *    Window of Large Language Models via Positional Interpolation", 2023);
 *  - dynamic ("NTK-aware"): θ · (f·L/M − (f − 1))^(D/(D−2)) in place of θ, where M is the trained
 *    context. L is max(positions, M), one length for the whole run: keys in a cache stay right, and the
 *    result is `transformers`' for a single forward pass over L tokens;
 *  - llama3: waves longer than original/low_freq_factor are divided by f, those shorter than
 *    original/high_freq_factor stay, and between the two it is interpolated (Llama 3.1's release);
 *  - yarn: pairs that turn more than beta_fast times over the original context stay, those that turn less than
 *    beta_slow times are divided by f, with a ramp in between (Peng et al., "YaRN: Efficient Context Window Extension
 *    of Large Language Models", 2023);
 *  - longrope: each pair's is divided by a factor of its own, by one list of them where `positions` are no more than
 *    the original context and by another where they are (Ding et al., "LongRoPE: Extending LLM Context Window Beyond 2
 *    Million Tokens", 2024).
 */
export function ropeFrequencies(options: FrequencyOptions): Float64Array {
  const { dims, theta, positions, scaling, trainedPositions } = options;
  let base = theta;
  if (scaling?.type === "dynamic") {
    if (trainedPositions === undefined) throw new Error("dynamic RoPE needs trainedPositions");
    const length = Math.max(positions, trainedPositions);
    const stretch = scaling.factor * length / trainedPositions - (scaling.factor - 1);
    base *= stretch ** (dims / (dims - 2));
  }
  const ramp = scaling?.type === "yarn" ? yarnRamp(options, scaling) : { low: 0, high: 1 };
  return Float64Array.from({ length: dims / 2 }, (_, i) => {
    const frequency = base ** (-2 * i / dims);
    switch (scaling?.type) {
      case "linear":
        return frequency / scaling.factor;
      case "llama3": {
        const { factor, low_freq_factor: low, high_freq_factor: high } = scaling;
        const waves = scaling.original_max_position_embeddings * frequency / (2 * Math.PI);
        const share = Math.min(1, Math.max(0, (waves - low) / (high - low)));
        return frequency * (share + (1 - share) / factor);
      }
      case "yarn": {
        const divided = Math.min(1, Math.max(0, (i - ramp.low) / (ramp.high - ramp.low)));
        return frequency * (1 - divided + divided / scaling.factor);
      }
      case "longrope": {
        const isLong = positions > scaling.original_max_position_embeddings;
        return frequency / (isLong ? scaling.long_factor : scaling.short_factor)[i];
      }
      default:
        return frequency;
    }
  });
}

/** What rotated queries and keys are multiplied by. */
function attentionFactor(scaling: RopeScaling | null | undefined): number {
  return scaling?.type === "yarn" || scaling?.type === "longrope" ? scaling.attention_factor : 1;
}

/** What decides a table. */
export interface TableOptions extends Omit<FrequencyOptions, "dims"> {
  headDim: number;
  rotary: Rotary;
}

/** Numbers of a table for each position. */
export function tableWidth({ dims, pairs }: Rotary, headDim: number): number {
  return pairs === "halves" ? dims : headDim;
}

/**
 * Cosines and sines `[positions, width]`, times the attention factor. In row p, for pairs of `halves`, stand the
 * cosines of all D/2 pairs and then their sines. For pairs of `neighbours` four numbers stand for every four elements of
 * the head: the cosines of two pairs, then their sines; where nothing is rotated these are 1 and 0. Made on the host in
 * float64, because a GPU's sin and cos are only good near zero.
 */
export function ropeTable({ headDim, rotary, ...options }: TableOptions): Float32Array {
  const { positions, scaling } = options, { dims, pairs } = rotary;
  const width = tableWidth(rotary, headDim), factor = attentionFactor(scaling);
  const table = new Float32Array(positions * width);
  const place = (i: number): [cos: number, sin: number] => {
    if (pairs === "halves") return [i, dims / 2 + i];
    const cos = 4 * Math.floor(i / 2) + i % 2;
    return [cos, cos + 2];
  };
  const set = (i: number, frequency: number, factor: number) => {
    const [cos, sin] = place(i);
    for (let p = 0; p < positions; p++) {
      table[p * width + cos] = factor * Math.cos(p * frequency);
      table[p * width + sin] = factor * Math.sin(p * frequency);
    }
  };
  ropeFrequencies({ dims, ...options }).forEach((frequency, i) => set(i, frequency, factor));
  if (!isWhole(rotary, headDim) && pairs === "neighbours") {
    for (let i = dims / 2; i < headDim / 2; i++) set(i, 0, 1);
  }
  return table;
}
