/**
 * Grouped-query attention over ranges of keys, for several documents laid end to end.
 *
 * Query i attends to the keys j with starts[i] ≤ j < ends[i], but for a range that it excludes (excluded_keys.ts), where
 * documents share the rows of their beginning:
 *   s_ij = scale · q_i · k_j, lse_i = log Σ_j exp s_ij, out_i = Σ_j exp(s_ij − lse_i) v_j;
 * with a soft cap s_ij = c · tanh(scale · q_i · k_j / c).
 *
 * Shapes: q `[rows, heads · d]` and k, v `[≥ max(ends), kvHeads · d]` are ranges of columns, head by
 * head, f32 or f16 (k and v, which may be a cache's, apart from q, and out from both); out
 * `[rows, heads · d]`; starts, ends `[rows]` u32, neither decreasing; lse `[rows, heads]` f32. Query head h reads key head
 * ⌊h / (heads / kvHeads)⌋. d is a multiple of 4 from 4 to 256. Key rows from the last of `ends` on are
 * never read. A query without keys gets zeros (and the lowest f32 as its lse).
 *
 * No matrix of scores is stored: a workgroup takes a tile of queries of one head and walks over
 * tiles of keys with a running maximum and sum. Arithmetic is f32, in powers of two; with `f16Operands` q is
 * rounded to f16 first. With `f16Sums` products are of f16, and so are sums over 32 elements of a head row or
 * over a tile of 32 keys. On subgroup matrices, which either takes, q and the weights of values are rounded to f16,
 * and all sums are f32.
 * Source: Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning",
 * 2023; grouped queries: Ainslie et al., "GQA", 2023.
 *
 * @module
 */
import { prefersUnstaged, UNSTAGED_THREADS, unstagedForward } from "./unstaged.ts";
import { forwardSource } from "./tiled/forward.ts";
import { type Heads, headValues } from "./heads.ts";
import {
  type AttentionOptions,
  choosePlan,
  deviceWish,
  headBytes,
  keyedPlan,
  uniformValues,
} from "./tiled/plan.ts";
import { forwardPlan, inWords, matrixKey } from "./matrix/plan.ts";
import { matrixForwardSource } from "./matrix/forward.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";

export { attentionBackward } from "./backward.ts";
export type { Heads } from "./heads.ts";

const forward = programFamily("attention", forwardSource);
const matrixForward = programFamily("attention_matrices", matrixForwardSource);

/**
 * Writes out (and lse where given) for `rows` queries.
 */
export function attention(
  gpu: Gpu,
  { q, k, v, starts, ends, excludedKeys, out, lse, ...options }:
    & AttentionOptions
    & {
      q: Heads;
      k: Heads;
      v: Heads;
      starts: Tensor;
      ends: Tensor;
      /** Keys in between that are not attended to (excluded_keys.ts). */
      excludedKeys?: Tensor;
      out: Tensor;
      lse?: Tensor;
    },
): void {
  const { rows, heads, kvHeads, headDim, pairs = rows * (rows + 1) / 2, shape } = options;
  const softcap = (options.softcap ?? null) !== null;
  const unstaged = options.unstaged ?? prefersUnstaged(gpu.software, headDim);
  const optional = (tensor?: Tensor) => tensor === undefined ? [] : [tensor];
  const read = [q.tensor, k.tensor, v.tensor, starts, ends, ...optional(excludedKeys)];
  const tensors = [...read, out, ...optional(lse)];
  const variant = { withLse: lse !== undefined, excludes: excludedKeys !== undefined, softcap };
  const uniforms = {
    ...uniformValues(options),
    ...headValues({ q, k, v, out }),
  };
  const { dtype } = q.tensor, kv = k.tensor.dtype;
  const cost = {
    flops: 4 * heads * headDim * pairs,
    bytes: 2 * headBytes(dtype, rows, heads + kvHeads, headDim) + 4 * rows * heads,
  };
  if (unstaged) {
    const program = unstagedForward({ dtype, kv, headDim, ...variant });
    gpu.run(program, tensors, uniforms, [Math.ceil(rows / UNSTAGED_THREADS), heads], cost);
    return;
  }
  const matrices = matrixKey(gpu, options, { halves: [k, v], either: [q] });
  if (matrices !== undefined) {
    const tiles = Math.ceil(rows / forwardPlan(matrices).rows);
    const sizes = { ...uniforms, ...inWords(headValues({ q, k, v })) };
    const program = matrixForward({ dtype, out: out.dtype, ...variant, ...matrices });
    gpu.run(program, tensors, sizes, [heads, tiles], cost);
    return;
  }
  const wish = {
    keys: pairs / rows,
    headDim,
    dtypes: [dtype, kv],
    shape,
    ...deviceWish(gpu, options),
  };
  const key = choosePlan("forward", wish);
  const program = forward({ dtype, kv, out: out.dtype, ...variant, ...key });
  gpu.run(program, tensors, uniforms, [heads, Math.ceil(rows / keyedPlan(key).rows)], cost);
}
