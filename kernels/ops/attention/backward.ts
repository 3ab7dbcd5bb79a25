/**
 * Gradients of attention within documents laid end to end (see attention.ts for the forward).
 *
 * With p_ij = exp(s_ij − lse_i), dp_ij = dout_i · v_j, delta_i = dout_i · out_i and
 * ds_ij = p_ij (dp_ij − delta_i):
 *   dq_i = Σ_j scale · ds_ij k_j, dk_j = scale · Σ_i ds_ij q_i, dv_j = Σ_i p_ij dout_i,
 * the last two summed over the query heads that share the key head. With a soft cap c, ds_ij has the factor
 * 1 − (s_ij / c)².
 *
 * Shapes: q, dq `[rows, heads · d]` and k, v, dk, dv `[rows, kvHeads · d]` are ranges of columns of
 * one tensor, the gradients of another; out, dout `[rows, heads · d]`; all f32 or all f16; lse
 * `[rows, heads]` f32; starts, ends, queryEnds `[rows]` u32, none decreasing (where queries exclude keys, queryEnds may). The
 * queries that attend to key j are those from j to queryEnds[j]. Scores are computed again tile by tile;
 * every gradient element is summed by one thread in a fixed order, so results repeat exactly.
 * Source: Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning",
 * 2023, algorithm 2, with the query gradient by workgroups of its own instead of atomic additions, and
 * delta formed where it is needed.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import { ALIGNMENT, roundUp, type Tensor } from "../../gpu/tensor.ts";
import {
  prefersUnstaged,
  UNSTAGED_THREADS,
  unstagedKeyGradient,
  unstagedQueryGradient,
} from "./unstaged.ts";
import { fuses, rope, type RowRotation } from "../rope/rope.ts";
import { gradientBindings, type GradientVariant, packRows } from "./row_index.ts";
import { gradientSource } from "./tiled/gradient.ts";
import { type Heads, headValues } from "./heads.ts";
import { gradientPlan, inWords, matrixKey } from "./matrix/plan.ts";
import { statisticsBytes, statisticsGroups, statisticsSource } from "./matrix/delta.ts";
import { matrixGradientSource } from "./matrix/gradient.ts";
import {
  type AttentionOptions,
  choosePlan,
  deviceWish,
  headBytes,
  keyedPlan,
  uniformValues,
} from "./tiled/plan.ts";

const gradients = programFamily("attention_backward", gradientSource);
const statisticsOf = programFamily("attention_statistics", statisticsSource);
const matrixGradients = programFamily("attention_backward_matrices", matrixGradientSource);

/**
 * Writes dq, dk and dv for `rows` queries and as many keys.
 *
 * Where the device binds fewer buffers than a program reads, the arrays of rows are packed into one before.
 *
 * @param rotation Undo RoPE in dq and dk, in the same launch where it {@linkcode fuses}. Left out where q and k were not
 *   rotated.
 * @throws {Error} where q, k and v, or their gradients, are not parts of one tensor.
 */
export function attentionBackward(
  gpu: Gpu,
  {
    q,
    k,
    v,
    out,
    dout,
    lse,
    starts,
    ends,
    queryEnds,
    excludedKeys,
    dq,
    dk,
    dv,
    rotation: given,
    ...options
  }:
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
      excludedKeys?: Tensor;
      dq: Heads;
      dk: Heads;
      dv: Heads;
      rotation?: RowRotation;
    },
): void {
  const { rows, heads, kvHeads, headDim, shape, pairs = rows * (rows + 1) / 2 } = options;
  const unstaged = options.unstaged ?? prefersUnstaged(gpu.software, headDim);
  const qkv = q.tensor, gradient = dq.tensor, { dtype } = qkv;
  if (k.tensor !== qkv || v.tensor !== qkv || dk.tensor !== gradient || dv.tensor !== gradient) {
    throw new Error("attention: q, k and v, or their gradients, are not parts of one tensor");
  }
  if (given !== undefined && headDim % 8 !== 0) {
    throw new Error(`attention: head_dim ${headDim} can't be rotated in pairs of vectors`);
  }
  const rotation = given !== undefined && fuses(given, headDim) ? given : undefined;
  const rotateBack = () => {
    if (given === undefined || rotation !== undefined) return;
    if (dq.from !== 0 || dk.from !== heads * headDim) {
      throw new Error("attention: gradients of k are not beside those of q");
    }
    rope(gpu, { x: gradient, rotation: given, rows, heads: heads + kvHeads, headDim, back: true });
  };
  const fields = {
    starts,
    ends,
    query_ends: queryEnds,
    ...excludedKeys && { excluded_keys: excludedKeys },
  };
  const variant: GradientVariant = {
    dtype,
    rotated: rotation?.rotary.pairs ?? "none",
    excludes: excludedKeys !== undefined,
    packed: false,
    softcap: (options.softcap ?? null) !== null,
  };
  variant.packed = gradientBindings(variant).length > gpu.maxBindings;
  const matrices = unstaged
    ? undefined
    : matrixKey(gpu, options, { halves: [q, k, v, out, dout, dq, dk, dv] });
  const statisticsMemory = matrices === undefined
    ? 0
    : roundUp(statisticsBytes(rows, heads), ALIGNMENT);
  const packed = variant.packed
    ? packRows(gpu, { ...fields, ...rotation && { positions: rotation.positions } }, {
      rows,
      after: statisticsMemory,
    })
    : undefined;
  /** What a program is bound to that reads these inputs and arrays of rows. */
  const tensorsOf = (inputs: Tensor[], ...arrays: Tensor[]) => {
    const table = rotation ? [rotation.table] : [];
    if (packed !== undefined) return [...inputs, packed, gradient, ...table];
    const positions = rotation ? [rotation.positions] : [];
    return [...inputs, ...arrays, gradient, ...table, ...positions];
  };
  const excluded = excludedKeys ? [excludedKeys] : [];
  const bytes = (queries: number, keyed: number) =>
    headBytes(dtype, rows, queries * heads + keyed * kvHeads, headDim) + 4 * rows * heads;
  const uniforms = {
    ...uniformValues(options),
    ...headValues({ q, k, v, out, dout, dq, dk, dv }),
  };
  const product = 2 * heads * headDim * pairs, inputs = [qkv, out, dout, lse];
  if (unstaged) {
    const groups = Math.ceil(rows / UNSTAGED_THREADS);
    const query = unstagedQueryGradient({ ...variant, headDim });
    const queryCost = { flops: 3 * product, bytes: bytes(4, 2) };
    const queryTensors = tensorsOf(inputs, starts, ends, ...excluded);
    gpu.run(query, queryTensors, uniforms, [groups, heads], queryCost);
    // What queries exclude they exclude from `query_ends` on: only records have it.
    const excludes = variant.excludes && variant.packed;
    const key = unstagedKeyGradient({ ...variant, excludes, headDim });
    const keyCost = { flops: 4 * product, bytes: bytes(3, 4) };
    gpu.run(key, tensorsOf(inputs, starts, queryEnds), uniforms, [groups, kvHeads], keyCost);
    return rotateBack();
  }
  const cost = { flops: 7 * product, bytes: bytes(4, 4) };
  const arrays = [starts, ends, queryEnds, ...excluded];
  if (matrices !== undefined) {
    const statistics = gpu.scratch(statisticsMemory).view([heads, 2 * rows]);
    const sizes = { ...uniforms, ...inWords(headValues({ q, k, v, out, dout })) };
    gpu.run(
      statisticsOf({ headDim }),
      [out, dout, lse, statistics],
      sizes,
      [statisticsGroups(rows, heads, headDim)],
      { flops: 2 * rows * heads * headDim, bytes: headBytes(dtype, rows, 2 * heads, headDim) },
    );
    const tiles = Math.ceil(rows / gradientPlan(matrices).rows);
    const { dtype: _, ...rest } = variant;
    const program = matrixGradients({ ...rest, ...matrices });
    const tensors = tensorsOf([qkv, dout, statistics], ...arrays);
    gpu.run(program, tensors, sizes, [heads, 2 * tiles], { ...cost, bytes: bytes(3, 4) });
    return rotateBack();
  }
  const key = choosePlan("backward", {
    keys: pairs / rows,
    headDim,
    dtypes: [dtype],
    shape,
    ...deviceWish(gpu, options),
  });
  const tiles = Math.ceil(rows / keyedPlan(key).rows);
  gpu.run(
    gradients({ ...variant, ...key }),
    tensorsOf(inputs, ...arrays),
    uniforms,
    [heads, 2 * tiles],
    cost,
  );
  rotateBack();
}
