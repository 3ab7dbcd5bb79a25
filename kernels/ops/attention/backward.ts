/**
 * Gradients of attention within documents laid end to end (see attention.ts for the forward).
 *
 * With p_ij = exp(s_ij − lse_i), dp_ij = dout_i · v_j, delta_i = dout_i · out_i and
 * ds_ij = p_ij (dp_ij − delta_i):
 *   dq_i = Σ_j ds_ij k_j / √d, dk_j = Σ_i ds_ij q_i / √d, dv_j = Σ_i p_ij dout_i,
 * the last two summed over the query heads that share the key head.
 *
 * Shapes: q, dq `[rows, heads · d]` and k, v, dk, dv `[rows, kvHeads · d]` are ranges of columns of
 * one tensor, the gradients of another; out, dout `[rows, heads · d]`; all f32 or all f16; lse
 * `[rows, heads]` f32; starts, ends, queryEnds `[rows]` u32, none decreasing (with holes, queryEnds may). The
 * queries that attend to key j are those from j to queryEnds[j]. Scores are computed again tile by tile;
 * every gradient element is summed by one thread in a fixed order, so results repeat exactly.
 * Source: Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning",
 * 2023, algorithm 2, with the query gradient by workgroups of its own instead of atomic additions, and
 * delta formed where it is needed.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { positionalFamily } from "../../gpu/program.ts";
import type { Dtype, Tensor } from "../../gpu/tensor.ts";
import {
  DIRECT_THREADS,
  directKeyGradient,
  directQueryGradient,
  prefersDirect,
} from "./unstaged.ts";
import { gradientSource } from "./tiled/gradient.ts";
import { type Heads, headValues } from "./heads.ts";
import { inWords, matrixKey, matrixPlan } from "./matrix/plan.ts";
import { matrixGradientSource } from "./matrix/gradient.ts";
import {
  type AttentionOptions,
  choosePlan,
  deviceWish,
  headBytes,
  keyedPlan,
  type PlanKey,
  uniformValues,
} from "./tiled/plan.ts";

const gradients = positionalFamily(
  "attention_backward",
  (dtype: Dtype, turned: boolean, holed: boolean, ...key: PlanKey) =>
    gradientSource(keyedPlan(...key), dtype, turned, holed),
);

const matrixGradients = positionalFamily("attention_backward_matrices", matrixGradientSource);

/**
 * Writes dq, dk and dv for `rows` queries and as many keys.
 *
 * @param turn Undo RoPE in dq and dk: its table and the rows' positions (see rope.ts).
 * @throws {Error} where q, k and v, or their gradients, are not parts of one tensor.
 */
export function attentionBackward(
  gpu: Gpu,
  { q, k, v, out, dout, lse, starts, ends, queryEnds, holes, dq, dk, dv, turn, ...options }:
    & AttentionOptions
    & {
      q: Heads;
      k: Heads;
      v: Heads;
      out: Tensor;
      dout: Tensor;
      lse: Tensor;
      starts: Tensor;
      ends: Tensor;
      queryEnds: Tensor;
      holes?: Tensor;
      dq: Heads;
      dk: Heads;
      dv: Heads;
      turn?: { table: Tensor; positions: Tensor };
    },
): void {
  const { rows, heads, kvHeads, headDim, shape, pairs = rows * (rows + 1) / 2 } = options;
  const direct = options.direct ?? prefersDirect(gpu.software, headDim);
  const qkv = q.tensor, gradient = dq.tensor, { dtype } = qkv;
  if (k.tensor !== qkv || v.tensor !== qkv || dk.tensor !== gradient || dv.tensor !== gradient) {
    throw new Error("attention: q, k and v, or their gradients, are not parts of one tensor");
  }
  if (turn !== undefined && headDim % 8 !== 0) {
    throw new Error(`attention: head_dim ${headDim} can't be turned in pairs of vectors`);
  }
  const turned = turn !== undefined, holed = holes !== undefined;
  const between = holed ? [holes] : [];
  const written = turned ? [gradient, turn.table, turn.positions] : [gradient];
  const bytes = (queries: number, keyed: number) =>
    headBytes(dtype, rows, queries * heads + keyed * kvHeads, headDim) + 4 * rows * heads;
  const uniforms = {
    ...uniformValues(rows, heads, kvHeads, headDim),
    ...headValues({ q, k, v, out, dout, dq, dk, dv }),
  };
  const product = 2 * heads * headDim * pairs;
  if (direct) {
    const groups = Math.ceil(rows / DIRECT_THREADS);
    const query = directQueryGradient(dtype, headDim, turned, holed);
    const key = directKeyGradient(dtype, headDim, turned);
    const read = [qkv, out, dout, lse, starts];
    const queryCost = { flops: 3 * product, bytes: bytes(4, 2) };
    gpu.run(query, [...read, ends, ...between, ...written], uniforms, [groups, heads], queryCost);
    const keyCost = { flops: 4 * product, bytes: bytes(3, 4) };
    gpu.run(key, [...read, queryEnds, ...written], uniforms, [groups, kvHeads], keyCost);
    return;
  }
  const tensors = [qkv, out, dout, lse, starts, ends, queryEnds, ...between, ...written];
  const cost = { flops: 7 * product, bytes: bytes(4, 4) };
  const matrices = matrixKey(gpu, options, [q, k, v, out, dout, dq, dk, dv]);
  if (matrices !== undefined) {
    const tiles = Math.ceil(rows / matrixPlan(...matrices).rows);
    const sizes = { ...uniforms, ...inWords(headValues({ q, k, v, out, dout })) };
    gpu.run(matrixGradients(turned, holed, ...matrices), tensors, sizes, [heads, 2 * tiles], cost);
    return;
  }
  const key = choosePlan("backward", {
    keys: pairs / rows,
    headDim,
    dtypes: [dtype],
    shape,
    ...deviceWish(gpu, options),
  });
  const tiles = Math.ceil(rows / keyedPlan(...key).rows);
  gpu.run(gradients(dtype, turned, holed, ...key), tensors, uniforms, [heads, 2 * tiles], cost);
}
