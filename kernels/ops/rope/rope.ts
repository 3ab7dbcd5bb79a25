/**
 * Rotary position embedding, in Hugging Face's convention (rotate_half): within a head of D
 * elements, i and i + D/2 are a pair, rotated at position p by p times their frequency, θ^(−2i/D) where
 * nothing is scaled.
 *
 * Shapes: x `[T, ≥ heads·D]` f32 or f16, its first heads in place; positions `[T]` u32. D is a multiple of 8.
 * y_i = x_i cos − x_{i+D/2} sin, y_{i+D/2} = x_{i+D/2} cos + x_i sin. Backward, the same rotation by
 * the opposite angle, is part of attention's. Source: Su et al., "RoFormer", 2021.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";
import { rotate } from "../../wgsl/rotate.ts";

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
  };

/** What decides the angles. */
export interface RopeOptions {
  headDim: number;
  /** θ, the base of the frequencies. */
  theta: number;
  /** Positions that the run was planned for: no token lies at one of these or beyond. */
  positions: number;
  scaling?: RopeScaling | null;
  /** The context the model was trained on, max_position_embeddings; `dynamic` scaling needs it. */
  trainedPositions?: number;
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
 *    original/high_freq_factor stay, and between the two it is interpolated (Llama 3.1's release).
 */
export function ropeFrequencies(options: RopeOptions): Float64Array {
  const { headDim, theta, positions, scaling, trainedPositions } = options;
  let base = theta;
  if (scaling?.type === "dynamic") {
    if (trainedPositions === undefined) throw new Error("dynamic RoPE needs trainedPositions");
    const length = Math.max(positions, trainedPositions);
    const stretch = scaling.factor * length / trainedPositions - (scaling.factor - 1);
    base *= stretch ** (headDim / (headDim - 2));
  }
  return Float64Array.from({ length: headDim / 2 }, (_, i) => {
    const frequency = base ** (-2 * i / headDim);
    if (scaling?.type === "linear") return frequency / scaling.factor;
    if (scaling?.type !== "llama3") return frequency;
    const { factor, low_freq_factor: low, high_freq_factor: high } = scaling;
    const waves = scaling.original_max_position_embeddings * frequency / (2 * Math.PI);
    const share = Math.min(1, Math.max(0, (waves - low) / (high - low)));
    return frequency * (share + (1 - share) / factor);
  });
}

/**
 * Cosines and sines `[positions, D]`: row p holds D/2 cosines and then D/2 sines. Made on the host
 * in float64, because a GPU's sin and cos are only good near zero.
 */
export function ropeTable(options: RopeOptions): Float32Array {
  const { headDim, positions } = options;
  const half = headDim / 2;
  const table = new Float32Array(positions * headDim);
  ropeFrequencies(options).forEach((frequency, i) => {
    for (let p = 0; p < positions; p++) {
      table[p * headDim + i] = Math.cos(p * frequency);
      table[p * headDim + half + i] = Math.sin(p * frequency);
    }
  });
  return table;
}

const pair = rotate({ first: "a", second: "b", cos: "c", sin: "s" });

const program = programFamily("rope", ({ x }: { x: Dtype }) => ({
  bindings: [
    { name: "x", dtype: x, access: "write" },
    { name: "table", dtype: "f32", access: "read" },
    { name: "positions", dtype: "u32", access: "read", scalar: true },
  ],
  // `half` is half a head's vectors, `stride` those from row to row.
  uniforms: { vectors: "u32", heads: "u32", half: "u32", stride: "u32" },
  body: elementMain(`
  let head = i / u.half;
  let lane = i % u.half;
  let row = positions[head / u.heads] * 2u * u.half;
  let c = load_table(row + lane);
  let s = load_table(row + u.half + lane);
  let at = head / u.heads * u.stride + head % u.heads * 2u * u.half + lane;
  let a = load_x(at);
  let b = load_x(at + u.half);
  store_x(at, ${pair.first});
  store_x(at + u.half, ${pair.second});`),
}));

/** Rotates the first `heads` heads of `rows` rows of x in place; attention's backward rotates gradients back. */
export function rope(
  gpu: Gpu,
  { x, table, positions, rows, heads, headDim }: {
    x: Tensor;
    table: Tensor;
    positions: Tensor;
    rows: number;
    heads: number;
    headDim: number;
  },
): void {
  const half = headDim / 8, vectors = rows * heads * half;
  const uniforms = { vectors, heads, half, stride: x.rowSize / 4 };
  gpu.run(program({ x: x.dtype }), [x, table, positions], uniforms, elementGrid(vectors), {
    flops: 3 * rows * heads * headDim,
    bytes: rows * headDim * (2 * heads * bytesOf(x.dtype) + 4),
  });
}
