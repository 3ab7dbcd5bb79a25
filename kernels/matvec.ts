/**
 * Products of a few rows with a matrix, y = x·Wᵀ, for up to {@linkcode MATVEC_ROWS} rows: the time is
 * that of reading W once, so every weight is read by one thread and nothing of W is staged.
 *
 * Shapes: A `[M, K]`, B `[N, K]`, C `[M, N]`, each f32 or f16; K and N are multiples of 4. Sums are f32. Two
 * programs, both in matvec_program.ts:
 *  - {@linkcode matvec}: C = α·A·Bᵀ, added to C where `accumulate`;
 *  - {@linkcode matvecSwiglu}: B is the gate's matrix above the up matrix, C = silu(gate)·up.
 * A may be replaced by its RMSNorm, rmsnorm.ts's equation, so that decoding needs no launch for it.
 *
 * @module
 */
import { groupGrid } from "./elementwise.ts";
import type { Cost, Gpu } from "./gpu.ts";
import { type MatvecLayout, matvecProgram } from "./matvec_program.ts";
import { rmsnorm } from "./rmsnorm.ts";
import { bytesOf, roundUp, type Tensor } from "./tensor.ts";

/** Most rows of A that are worth it: from here on tiles in workgroup memory win. */
export const MATVEC_ROWS = 8;

/** Whether so many rows go this way: a software driver pays more for a barrier than for reading B once a row. */
export function takesFewRows({ software }: Pick<Gpu, "software">, rows: number): boolean {
  return rows <= MATVEC_ROWS && !software;
}

/** How a product is laid out over threads; what is left out is chosen by size. */
export type MatvecGeometry = Partial<Omit<MatvecLayout, "wide">>;

/** A device as far as layouts depend on it. */
type Device = Pick<Gpu, "extensions"> & {
  device: { limits: Pick<GPUSupportedLimits, "maxComputeInvocationsPerWorkgroup"> };
};

/** Most rows of A whose parts a thread keeps in registers: more cost what they save. */
const WHOLE_ROWS = 2;
/** From so many columns on workgroups of four are enough to fill a GPU. */
const MANY_COLUMNS = 8192;

/**
 * What was fastest on an H100.
 *
 * @param size `half`: B is f16.
 * @param given What is decided already.
 */
export function matvecLayout(
  { extensions, device }: Device,
  { m, n, k, half }: { m: number; n: number; k: number; half: boolean },
  given: MatvecGeometry = {},
): MatvecLayout {
  const { subgroups = extensions.has("subgroups"), whole = m <= WHOLE_ROWS } = given;
  const wide = half && k % 8 === 0 ? 8 : 4, vectors = k / wide;
  if (!whole) {
    return { whole, threads: 128, steps: 2, outputs: 4, ...given, wide, subgroups };
  }
  const { outputs = n < MANY_COLUMNS ? 2 : 4 } = given;
  const most = device.limits.maxComputeInvocationsPerWorkgroup;
  const wanted = Math.max(given.steps ?? 4, Math.ceil(vectors / most));
  // Without subgroups sums go by halves, over a power of two.
  const rounded = (count: number) =>
    subgroups ? roundUp(count, 32) : Math.max(32, 2 ** Math.ceil(Math.log2(count)));
  const threads = Math.min(most, rounded(Math.ceil(vectors / wanted)));
  return { whole, threads, steps: Math.ceil(vectors / threads), outputs, wide, subgroups };
}

/** Work of C `[m, n]` = A·Bᵀ with depth k, whatever the orientation. */
export function productCost(
  { a, b, c }: { a: Tensor; b: Tensor; c: Tensor },
  m: number,
  n: number,
  k: number,
): Cost {
  return {
    flops: 2 * m * n * k,
    bytes: m * k * bytesOf(a.dtype) + n * k * bytesOf(b.dtype) + m * n * bytesOf(c.dtype),
  };
}

/** What A goes through before it is multiplied. */
interface Input {
  a: Tensor;
  /** Take A's RMSNorm, times w `[K]`, instead of A. */
  norm?: { w: Tensor; eps: number };
  /** Round it to f16, as products of f16 operands do. */
  roundHalf?: boolean;
}

/** A product of a few rows; offsets and strides in elements, multiples of 4. */
export interface Matvec extends Input {
  b: Tensor;
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

/** A launch of either program. */
function launch(gpu: Gpu, swiglu: boolean, product: Matvec): void {
  const { b, c, m, n, k, alpha, accumulate, norm, roundHalf = false, geometry } = product;
  const layout = matvecLayout(gpu, { m, n, k, half: b.dtype === "f16" }, geometry);
  let { a, aOffset, aStride } = product;
  let fused = norm;
  if (norm !== undefined && !layout.whole) {
    // Every workgroup would walk along the rows twice.
    a = normed(gpu, product, norm);
    [aOffset, aStride, fused] = [0, k, undefined];
  }
  const { whole, threads, steps, outputs, wide, subgroups } = layout;
  const vectors = k / wide, groups = n / outputs;
  const uniforms = {
    ...{ vectors, groups, alpha, eps: fused?.eps ?? 0 },
    ...{ aOffset: aOffset / 4, aStride: aStride / 4 },
    ...{ cOffset: product.cOffset / 2, cStride: product.cStride / 2 },
  };
  const program = matvecProgram(
    ...[a.dtype, b.dtype, c.dtype, fused?.w.dtype ?? "none", roundHalf] as const,
    ...[swiglu, accumulate, m, whole ? vectors : 0, whole ? groups : 0] as const,
    ...[whole, threads, steps, outputs, wide, subgroups] as const,
  );
  const tensors = fused === undefined ? [a, b, c] : [a, b, c, fused.w];
  gpu.run(program, tensors, uniforms, groupGrid(groups), productCost({ a, b, c }, m, n, k));
}

/** A's norm, in working memory. */
function normed(
  gpu: Gpu,
  { a, aOffset, aStride, m, k }: Matvec,
  { w, eps }: NonNullable<Input["norm"]>,
): Tensor {
  if (aStride !== k) throw new Error(`matvec: the rows of ${a.name} to norm lie apart`);
  const x = aOffset === 0 ? a : a.view([m, k], aOffset);
  const y = gpu.scratch(m * k * 4).view([m, k]);
  rmsnorm(gpu, { x, w, y, rows: m, eps });
  return y;
}

/** C = alpha·A·Bᵀ, added to C where `accumulate`. */
export function matvec(gpu: Gpu, product: Matvec): void {
  launch(gpu, false, product);
}

/** c `[rows, N]` = silu(A·Gateᵀ) · (A·Upᵀ), where B `[2N, K]` is Gate above Up. */
export function matvecSwiglu(
  gpu: Gpu,
  { rows, geometry, ...product }: Input & {
    b: Tensor;
    c: Tensor;
    rows: number;
    geometry?: MatvecGeometry;
  },
): void {
  const [n, k] = product.b.shape;
  launch(gpu, true, {
    ...{ ...product, m: rows, n, k, alpha: 1, accumulate: false },
    ...{ aOffset: 0, aStride: k, cOffset: 0, cStride: n / 2 },
    geometry: { outputs: 4, ...geometry },
  });
}
