/**
 * Matrix-vector products (GEMV) and products of a few vectors (small M), y = x·Wᵀ, for up to {@linkcode MATVEC_ROWS}
 * rows: the time is that of reading W once, so every weight is read by one thread and nothing of W is staged.
 *
 * Shapes: A `[M, K]`, C `[M, N]`, each f32 or f16, B `[N, K]` a weight of any kind; K and N are multiples of 4. Sums
 * are f32. Two products, of one program (matvec/program.ts):
 *  - {@linkcode matvec}: C = α·A·Bᵀ, added to C where `accumulate`;
 *  - {@linkcode matvecSwiglu}: B is the gate's matrix above the up matrix, C = f(gate)·up, f an activation.
 * A may be replaced by its RMSNorm, rmsnorm.ts's equation, and a single row of it may be attention's
 * result as KV splits, so that decoding needs no launch to norm or to combine.
 *
 * @module
 */
import type { SplitAttention } from "../attention/decode/kv_splits.ts";
import { groupGrid } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { Cost } from "../../gpu/work.ts";
import { type MatvecGeometry, matvecLayout } from "./layout.ts";
import { matvecProgram, storedColumns } from "./program.ts";
import { rmsnorm } from "../norm/rmsnorm.ts";
import { bytesOf, type Tensor } from "../../gpu/tensor.ts";
import type { Activation } from "../../wgsl/activations.ts";
import type { NormOffset } from "../../wgsl/rms.ts";
import type { Float } from "../numerics.ts";
import { operandOf, type WeightOperand } from "../weights/operand.ts";

/** Most rows of A that are worth it: from here on tiles in workgroup memory win. */
export const MATVEC_ROWS = 8;

/** Whether so many rows go this way: a software driver pays more for a barrier than for reading B once a row. */
export function takesMatvec({ software }: Pick<Gpu, "software">, rows: number): boolean {
  return rows <= MATVEC_ROWS && !software;
}

/** Work of C `[m, n]` = A·Bᵀ with depth k, whatever the orientation. */
export function productCost(
  { a, b, c }: { a: Tensor; b: WeightOperand; c: Tensor },
  m: number,
  n: number,
  k: number,
): Cost {
  return {
    flops: 2 * m * n * k,
    bytes: m * k * bytesOf(a.dtype) + b.bytes * n * k / b.values + m * n * bytesOf(c.dtype),
  };
}

/** What A goes through before it is multiplied. */
interface Input {
  /** A, or attention's result as KV splits, which is its only row. */
  a: Tensor | SplitAttention;
  /** Take A's RMSNorm, times w `[K]`, instead of A. */
  norm?: { w: Tensor; offset: NormOffset; eps: number };
  /** What it is rounded to, as other products round their operands. Default f32. */
  operands?: Float;
}

/** A product of one to eight rows; offsets and strides in elements, multiples of 4. */
export interface Matvec extends Input {
  /** A weight; a tensor is a dense one. */
  b: Tensor | WeightOperand;
  c: Tensor;
  /** Rows of A: at most {@linkcode MATVEC_ROWS}. */
  m: number;
  n: number;
  k: number;
  aOffset: number;
  aStride: number;
  cOffset: number;
  cStride: number;
  alpha: number;
  accumulate: boolean;
  geometry?: MatvecGeometry;
}

/** A launch of either product. */
function launch(gpu: Gpu, activation: Activation | "none", product: Matvec): void {
  const { c, m, n, k, alpha, accumulate, norm, operands = "f32", geometry } = product;
  if (m === 0) return;
  const b = operandOf(product.b), { rowWidths, element, sharedBytes: tables } = b.kind;
  const headColumns = "splits" in product.a ? product.a.headDim : k;
  // A load is of one head.
  const widths = rowWidths.filter((width) => headColumns % width === 0);
  const coded = element === undefined,
    splitInput = "splits" in product.a,
    swiglu = activation !== "none";
  const layout = matvecLayout(
    gpu.profile,
    { m, n, k, widths, coded, tables, splitInput, swiglu, paired: c.dtype === "f16" },
    geometry,
  );
  let { a, aOffset, aStride } = product;
  let fused = norm;
  if ("splits" in a) {
    if (m !== 1 || !layout.whole || a.headDim % layout.wide !== 0) {
      throw new Error(`matvec: KV splits of ${m} rows by heads of ${a.headDim}`);
    }
  } else if (norm !== undefined && !layout.whole) {
    // Every workgroup would walk along the rows twice.
    a = normed(gpu, { ...product, a }, norm);
    [aOffset, aStride, fused] = [0, k, undefined];
  }
  const { whole, threads, steps, outputs, wide, grid, ahead, subgroup } = layout;
  const vectors = k / wide, groups = n / outputs, stored = storedColumns(c.dtype);
  const { cOffset, cStride } = product, width = swiglu ? n / 2 : n;
  const compact = whole && aOffset === 0 && aStride === k && cOffset === 0 && cStride === width;
  const { tensors, dtype, kvSplits, headDim } = "splits" in a
    ? { ...a, kvSplits: a.splits, tensors: [a.partialOut, a.softmaxStats], dtype: "f32" as const }
    : { tensors: [a], dtype: a.dtype, kvSplits: 0, headDim: 0 };
  const uniforms = {
    vectors,
    groups,
    alpha,
    eps: fused?.eps ?? 0,
    aOffset: aOffset / 4,
    aStride: aStride / 4,
    cOffset: cOffset / stored,
    cStride: cStride / stored,
    zero: 0,
  };
  const program = matvecProgram({
    a: dtype,
    b: b.kind.name,
    c: c.dtype,
    norm: fused?.w.dtype ?? "none",
    normOffset: fused?.offset ?? 0,
    operands,
    activation,
    accumulate,
    rows: m,
    vectors: whole ? vectors : 0,
    groups: whole ? groups : 0,
    compact,
    kvSplits,
    headDim,
    whole,
    threads,
    steps,
    outputs,
    wide,
    grid,
    ahead,
    subgroup,
  });
  gpu.run(
    program,
    fused === undefined ? [...tensors, ...b.tensors, c] : [...tensors, ...b.tensors, c, fused.w],
    uniforms,
    grid > 0 ? [grid] : groupGrid(groups),
    productCost({ a: tensors[0], b, c }, m, n, k),
  );
}

/** A's norm, in working memory. */
function normed(
  gpu: Gpu,
  { a, aOffset, aStride, m, k }: Matvec & { a: Tensor },
  norm: NonNullable<Input["norm"]>,
): Tensor {
  if (aStride !== k) throw new Error(`matvec: the rows of ${a.name} to norm lie apart`);
  const x = aOffset === 0 ? a : a.view([m, k], aOffset);
  const y = gpu.scratch(m * k * 4).view([m, k]);
  rmsnorm(gpu, { x, y, rows: m, ...norm });
  return y;
}

/** C = alpha·A·Bᵀ, added to C where `accumulate`. */
export function matvec(gpu: Gpu, product: Matvec): void {
  launch(gpu, "none", product);
}

/** c `[rows, N]` = f(A·Gateᵀ) · (A·Upᵀ), f the activation, where B `[2N, K]` is Gate above Up. */
export function matvecSwiglu(
  gpu: Gpu,
  { activation, rows, geometry, ...product }: Input & {
    activation: Activation;
    b: Tensor | WeightOperand;
    c: Tensor;
    rows: number;
    geometry?: MatvecGeometry;
  },
): void {
  const [n, k] = product.b.shape;
  launch(gpu, activation, {
    ...product,
    m: rows,
    n,
    k,
    alpha: 1,
    accumulate: false,
    aOffset: 0,
    aStride: k,
    cOffset: 0,
    cStride: n / 2,
    geometry,
  });
}
