/**
 * Matrix products: C = α·op(A)·op(B), or C += α·op(A)·op(B), in the orientations training needs.
 *
 * With weights W `[N, K]` as Hugging Face stores them (y = x·Wᵀ):
 *  - `nt`: A `[M, K]`, B `[N, K]` — forward, y = x·Wᵀ
 *  - `nn`: A `[M, K]`, B `[K, N]` — gradient of the input, dx = dy·W
 *  - `tn`: A `[K, M]`, B `[K, N]` — gradient of the weight, dW = dyᵀ·x
 *
 * Every operand is f32 or f16 in storage; sums are f32, or with `half` f16 over short ranges. The last
 * dimension of every operand is a multiple of 4, the others are free. B and C may exceed what one
 * binding covers. A few rows of A (decoding a token a sequence) go another way: see matvec.ts.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { directMatmul } from "./direct.ts";
import { cut, type MatmulGeometry, SPLIT_BYTES } from "./geometry.ts";
import type { Orientation } from "./orientation.ts";
import { stagedMatmul } from "./staged.ts";
import { subgroupFits, subgroupMatmul } from "./subgroup.ts";
import { type SubgroupGeometry, subgroupGeometry } from "./subgroup_geometry.ts";
import { matvec, productCost, takesFewRows } from "../matvec/matvec.ts";
import { type Partials, partialsBytes, sumPartials } from "./partials.ts";
import { bytesOf, splitRows, type Tensor } from "../../gpu/tensor.ts";

export type { Orientation } from "./orientation.ts";

/** One product over bindable tensors; offsets and strides in elements. */
interface Piece {
  orientation: Orientation;
  a: Tensor;
  b: Tensor;
  c: Tensor;
  m: number;
  n: number;
  k: number;
  aOffset: number;
  aStride: number;
  bStride: number;
  cOffset: number;
  cStride: number;
  alpha: number;
  accumulate: boolean;
  half: boolean;
}

/** Tiles of any program. */
type Geometry = MatmulGeometry | SubgroupGeometry;

/**
 * The tiles for ranges of one product, the same for all. `slots`: the parts of K that there is room for, where
 * the next launch adds them up.
 */
function geometryOf(gpu: Gpu, ranges: readonly Piece[], slots?: number): Geometry {
  const [{ orientation, a, b, c, m, n, k, half }] = ranges;
  const tensorCores = half && gpu.matrices === "tensor_cores" &&
    ranges.every((range) => subgroupFits(orientation, range));
  if (tensorCores) return subgroupGeometry(orientation, m, n, k, slots);
  const dtypes = { a: a.dtype, b: b.dtype, c: c.dtype };
  return gpu.tiles.of({ orientation, ...dtypes, m, n, k, half, slots });
}

function programOf({ orientation, a, b, c, k, accumulate, half }: Piece, geometry: Geometry) {
  const kind = [orientation, a.dtype, b.dtype, c.dtype, accumulate] as const;
  const { blockM, blockN, blockK } = geometry;
  if ("subgroupsM" in geometry) {
    const { subgroupsM, subgroupsN } = geometry, ragged = k % blockK !== 0;
    const sizes = [blockM, blockN, blockK, subgroupsM, subgroupsN] as const;
    return subgroupMatmul("tensor_cores", ...kind, ragged, ...sizes);
  }
  const { threadM, threadN } = geometry;
  return geometry.direct
    ? directMatmul(...kind, blockM, blockN, threadM, threadN)
    : stagedMatmul(...kind, half, blockM, blockN, blockK, threadM, threadN);
}

/** One launch; part s of K makes rows s·m to (s + 1)·m of c, which has as many parts as K is cut into. */
function launch(gpu: Gpu, piece: Piece, geometry: Geometry): void {
  const { a, b, c, m, n, k, alpha } = piece, { blockM, blockN } = geometry;
  const { perSplit, parts } = cut(k, geometry);
  const uniforms = {
    m,
    n,
    k,
    kPerSplit: perSplit,
    alpha,
    aOffset: piece.aOffset / 4,
    aStride: piece.aStride / 4,
    bOffset: 0,
    bStride: piece.bStride / 4,
    cOffset: piece.cOffset / 4,
    cStride: piece.cStride / 4,
  };
  const grid = [Math.ceil(m / blockM), Math.ceil(n / blockN), parts] as const;
  gpu.run(programOf(piece, geometry), [a, b, c], uniforms, grid, productCost({ a, b, c }, m, n, k));
}

/** One product, by way of working memory where K is cut. */
function multiply(gpu: Gpu, piece: Piece, geometry: Geometry): void {
  const { c, m, n, accumulate } = piece;
  const { parts } = cut(piece.k, geometry);
  if (parts === 1) return launch(gpu, piece, geometry);
  const tensor = gpu.scratch(SPLIT_BYTES);
  launch(gpu, { ...piece, c: tensor, cOffset: 0, cStride: n, accumulate: false }, geometry);
  const d = { tensor, splits: parts, rows: m, width: n };
  sumPartials(gpu, { d, c, cFrom: piece.cOffset, accumulate });
}

/** A product of a few rows, rounded as more of them would be. */
function multiplyFew(gpu: Gpu, piece: Piece): void {
  matvec(gpu, { ...piece, roundHalf: piece.half });
}

/** What {@linkcode matmul} and {@linkcode matmulPartials} take alike. */
interface Product {
  a: Tensor;
  b: Tensor;
  /** Rows of tokens. */
  rows: number;
  alpha?: number;
  /** First column of A that takes part, a multiple of 4. Default 0. */
  aFrom?: number;
  /**
   * Operands may be rounded to f16, and sums over short ranges of K may be f16; on tensor cores all sums are
   * f32. Ignored where the device has no f16.
   */
  half?: boolean;
  /** Tiles to use, for tests and measurements. */
  geometry?: MatmulGeometry;
}

/** A product as pieces that can be bound, over ranges of the weight-like operand's rows. */
function pieces(
  gpu: Gpu,
  product: Product & {
    orientation: Orientation;
    c: Tensor;
    cFrom: number;
    cStride: number;
    accumulate: boolean;
  },
): Piece[] {
  const { orientation, a, b, c, rows, alpha = 1, aFrom = 0, half = false, accumulate } = product;
  const { cFrom, cStride } = product;
  const weight = orientation === "tn" ? c : b;
  const [height, width] = weight.shape;
  if (width % 4 !== 0 || (orientation !== "nn" && height % 4 !== 0)) {
    throw new Error(`matmul: ${weight.name} [${weight.shape}] needs sizes that are multiples of 4`);
  }
  const halves = half && gpu.extensions.has("f16");
  const shared = { orientation, a, alpha, half: halves, accumulate, aStride: a.rowSize };
  const parts = splitRows(height, width * bytesOf(weight.dtype), gpu.maxBinding);
  return parts.map(({ start, count }, index) => {
    const part = parts.length === 1 ? weight : weight.rows(start, count);
    if (orientation === "tn") {
      return {
        ...shared,
        b,
        c: part,
        m: count,
        n: width,
        k: rows,
        aOffset: aFrom + start,
        bStride: b.rowSize,
        cOffset: 0,
        cStride: width,
      };
    }
    const rest = { ...shared, b: part, c, m: rows, bStride: width, cStride };
    return orientation === "nt"
      ? { ...rest, n: count, k: width, aOffset: aFrom, cOffset: cFrom + start }
      : {
        ...rest,
        n: width,
        k: count,
        aOffset: aFrom + start,
        cOffset: cFrom,
        accumulate: accumulate || index > 0,
      };
  });
}

/** Whether a product goes the way of a few rows. */
function few(gpu: Gpu, { orientation, m }: Piece, geometry?: MatmulGeometry): boolean {
  return orientation === "nt" && takesFewRows(gpu, m) && geometry === undefined;
}

/**
 * C = alpha·op(A)·op(B), added to C where `accumulate`.
 *
 * `rows` is the number of tokens: M for `nt` and `nn`, K for `tn`. The other sizes are those of the
 * weight-like operand: B for `nt` and `nn`, C `[M, N]` for `tn`. A and the C of `nt` and `nn` may have
 * more columns: those from `aFrom` and `cFrom` on, multiples of 4, take part.
 */
export function matmul(
  gpu: Gpu,
  { c, accumulate = false, cFrom = 0, geometry, ...product }: Product & {
    orientation: Orientation;
    c: Tensor;
    accumulate?: boolean;
    cFrom?: number;
  },
): void {
  if (product.rows === 0) return;
  const all = { ...product, c, cFrom, cStride: c.rowSize, accumulate };
  for (const piece of pieces(gpu, all)) {
    if (few(gpu, piece, geometry)) multiplyFew(gpu, piece);
    else multiply(gpu, piece, geometry ?? geometryOf(gpu, [piece]));
  }
}

/**
 * alpha·A·op(B) as partial results in working memory, for the next launch to add up.
 *
 * @param product `spare`: slots to leave room for, which others append.
 */
export function matmulPartials(
  gpu: Gpu,
  { spare = 0, geometry, ...product }: Product & { orientation: "nt" | "nn"; spare?: number },
): Partials {
  const { orientation, b, rows } = product;
  const width = b.shape[orientation === "nt" ? 0 : 1];
  const bytes = Math.min(partialsBytes(rows, width, spare), gpu.maxBinding);
  const c = gpu.scratch(bytes);
  let splits = 1;
  if (rows > 0) {
    const all = { ...product, c, cFrom: 0, cStride: width, accumulate: false };
    const ranges = pieces(gpu, all);
    if (few(gpu, ranges[0], geometry)) {
      for (const range of ranges) multiplyFew(gpu, range);
    } else {
      // The same parts of K for every range of columns; ranges of K add to the first one's parts.
      const slots = Math.floor(bytes / (rows * width * 4)) - spare;
      const tiles = geometry ?? geometryOf(gpu, ranges, slots);
      for (const range of ranges) launch(gpu, range, tiles);
      splits = cut(ranges[0].k, tiles).parts;
    }
  }
  return { tensor: c, splits, rows, width };
}
