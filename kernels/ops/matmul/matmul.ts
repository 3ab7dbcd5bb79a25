/**
 * Matrix products: C = α·op(A)·op(B), or C += α·op(A)·op(B), in the orientations training needs.
 *
 * With weights W `[N, K]` as Hugging Face stores them (y = x·Wᵀ):
 *  - `nt`: A `[M, K]`, B `[N, K]` — forward, y = x·Wᵀ
 *  - `nn`: A `[M, K]`, B `[K, N]` — gradient of the input, dx = dy·W
 *  - `tn`: A `[K, M]`, B `[K, N]` — gradient of the weight, dW = dyᵀ·x
 *
 * A and C are f32 or f16 in storage, B is a weight of any kind; sums are f32, or with f16 operands f16 over short
 * ranges. The last dimension of every operand is a multiple of 4, the others are free. B and C may exceed what one
 * binding covers. One to eight rows of A (decoding a token a sequence) are computed by matvec.ts.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Program } from "../../gpu/program.ts";
import { onTensorCores } from "../../gpu/subgroup_matrix.ts";
import { bytesOf, splitRows, type Tensor } from "../../gpu/tensor.ts";
import { matvec, productCost, takesMatvec } from "../matvec/matvec.ts";
import type { ProductUpdate } from "../lora/matrix/update.ts";
import type { Float } from "../numerics.ts";
import { operandOf, type WeightOperand } from "../weights/operand.ts";
import type { Orientation } from "./orientation.ts";
import { type SplitKPartials, sumSplitK } from "../split_k/split_k.ts";
import { sharesScales, subgroupFits, subgroupMatmul, updatedMatmul } from "./subgroup.ts";
import { type SubgroupGeometry, subgroupGeometry } from "./subgroup_geometry.ts";
import { tiledMatmul } from "./tiled.ts";
import { type MatmulGeometry, SPLIT_BYTES, splitK, splitKBytes } from "./tiled_geometry.ts";
import { tilesOf } from "./tuned.ts";
import { unstagedMatmul } from "./unstaged.ts";

export type { Orientation } from "./orientation.ts";

/** One product over bindable tensors; offsets and strides in elements. */
interface BoundProduct {
  orientation: Orientation;
  a: Tensor;
  b: WeightOperand;
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
  operands: Float;
  /** With the first of its columns, of all that the adapters' layers have. */
  update?: ProductUpdate & { firstColumn: number };
}

/** Tiles of any program. */
type Geometry = MatmulGeometry | SubgroupGeometry;

/** Whether tensor cores make a product. */
function takesTensorCores(gpu: Gpu, ranges: readonly BoundProduct[]): boolean {
  return onTensorCores(gpu.matrices) &&
    ranges.every((range) => range.operands === "f16" && subgroupFits(range.orientation, range));
}

/**
 * The tiles of one product, the same for all its ranges. `maxSplits`: the splits of K that there is room for, where
 * the next launch adds them up.
 */
function geometryOf(gpu: Gpu, ranges: readonly BoundProduct[], maxSplits?: number): Geometry {
  const [{ orientation, a, b, c, m, n, k, operands }] = ranges;
  if (takesTensorCores(gpu, ranges)) {
    const { processors } = gpu.profile;
    return subgroupGeometry(orientation, m, n, k, { maxSplits, processors });
  }
  return tilesOf(gpu).of({
    orientation,
    a: a.dtype,
    b: b.kind.name,
    c: c.dtype,
    m,
    n,
    k,
    operands,
    maxSplits,
  });
}

function programOf(
  { matrices }: Gpu,
  { orientation, a, b, c, k, bStride, accumulate, operands, update }: BoundProduct,
  geometry: Geometry,
): Program {
  const { blockM, blockN, blockK } = geometry;
  if ("subgroupsM" in geometry) {
    if (matrices === undefined) throw new Error("matmul: the device multiplies no matrices");
    const variant = {
      matrices,
      orientation,
      a: a.dtype,
      b: b.kind.name,
      c: c.dtype,
      accumulate,
      ragged: k % blockK !== 0,
      sharedScales: sharesScales(b.kind, bStride),
      blockM,
      blockN,
      blockK,
      subgroupsM: geometry.subgroupsM,
      subgroupsN: geometry.subgroupsN,
    };
    return update === undefined
      ? subgroupMatmul(variant)
      : updatedMatmul({ ...variant, updates: update.updates, up: update.up });
  }
  if (update !== undefined) throw new Error("matmul: only tensor cores add updates");
  const { threadM, threadN } = geometry;
  return geometry.unstaged
    ? unstagedMatmul({
      orientation,
      a: a.dtype,
      b: b.kind.name,
      c: c.dtype,
      accumulate,
      blockM,
      blockN,
      threadM,
      threadN,
    })
    : tiledMatmul({
      orientation,
      a: a.dtype,
      b: b.kind.name,
      c: c.dtype,
      accumulate,
      operands,
      blockM,
      blockN,
      blockK,
      threadM,
      threadN,
    });
}

/** One launch; split s of K makes rows s·m to (s + 1)·m of c, which has as many times m rows as K has splits. */
function launch(gpu: Gpu, product: BoundProduct, geometry: Geometry): void {
  const { a, b, c, m, n, k, alpha, update } = product, { blockM, blockN } = geometry;
  const { perSplit, splits } = splitK(k, geometry);
  const uniforms = {
    m,
    n,
    k,
    kPerSplit: perSplit,
    alpha,
    aOffset: product.aOffset / 4,
    aStride: product.aStride / 4,
    bOffset: 0,
    bStride: product.bStride / 4,
    cOffset: product.cOffset / 4,
    cStride: product.cStride / 4,
    ...update && { ...update.uniforms, firstColumn: update.firstColumn / 4 },
  };
  gpu.run(
    programOf(gpu, product, geometry),
    [a, ...b.tensors, ...update?.tensors ?? [], c],
    uniforms,
    [Math.ceil(m / blockM), Math.ceil(n / blockN), splits],
    productCost({ a, b, c }, m, n, k),
  );
}

/** One product; where K is split, its partial sums go through working memory. */
function multiply(gpu: Gpu, product: BoundProduct, geometry: Geometry): void {
  const { c, m, n, accumulate } = product;
  const { splits } = splitK(product.k, geometry);
  if (splits === 1) return launch(gpu, product, geometry);
  const tensor = gpu.scratch(SPLIT_BYTES);
  launch(gpu, { ...product, c: tensor, cOffset: 0, cStride: n, accumulate: false }, geometry);
  const d = { tensor, splits, rows: m, width: n };
  sumSplitK(gpu, { d, c, cFrom: product.cOffset, accumulate });
}

/** What {@linkcode matmul} and {@linkcode matmulSplitK} take alike. */
interface Product {
  a: Tensor;
  /** A weight; a tensor is a dense one. */
  b: Tensor | WeightOperand;
  /** Rows of tokens. */
  rows: number;
  alpha?: number;
  /** First column of A that takes part, a multiple of 4. Default 0. */
  aFrom?: number;
  /**
   * What operands may be rounded to, see {@linkcode Numerics}: with f16 sums over short ranges of K may be f16, too; on
   * tensor cores all sums are f32. Default f32, and f32 where the device has no f16.
   */
  operands?: Float;
  /** The adapters' update, which is not multiplied by alpha; see {@linkcode addsUpdate}. */
  update?: ProductUpdate;
  /** Tiles to use, for tests and measurements. */
  geometry?: Geometry;
}

/** A product with its result. */
type PlacedProduct = Product & {
  orientation: Orientation;
  c: Tensor;
  cFrom: number;
  cStride: number;
  accumulate: boolean;
};

/** Throws where programs can't read a weight-like operand four elements at a time. */
function checkSizes(name: string, shape: readonly number[], orientation: Orientation): void {
  const [height, width] = shape;
  if (width % 4 !== 0 || (orientation !== "nn" && height % 4 !== 0)) {
    throw new Error(`matmul: ${name} [${shape}] needs sizes that are multiples of 4`);
  }
}

/** Splits a product into products whose operands can be bound, over ranges of rows of the weight-like operand. */
function boundProducts(gpu: Gpu, product: PlacedProduct): BoundProduct[] {
  const { orientation, a, c, rows, alpha = 1, aFrom = 0, operands = "f32", accumulate } = product;
  const { cFrom, cStride, update } = product;
  const b = operandOf(product.b);
  const shared = {
    orientation,
    a,
    alpha,
    operands: gpu.extensions.has("f16") ? operands : "f32",
    accumulate,
    aStride: a.rowSize,
  } as const;
  if (orientation === "tn") {
    const [height, width] = c.shape;
    checkSizes(c.name, c.shape, orientation);
    const ranges = splitRows(height, width * bytesOf(c.dtype), gpu.maxBinding);
    return ranges.map(({ start, count }) => ({
      ...shared,
      b,
      c: ranges.length === 1 ? c : c.rows(start, count),
      m: count,
      n: width,
      k: rows,
      aOffset: aFrom + start,
      bStride: b.columns,
      cOffset: 0,
      cStride: width,
    }));
  }
  const [, width] = b.shape;
  checkSizes(b.name, b.shape, orientation);
  const ranges = b.ranges(gpu.maxBinding);
  return ranges.map(({ start, count }, index) => {
    const range = {
      ...shared,
      b: ranges.length === 1 ? b : b.rows(start, count),
      c,
      m: rows,
      bStride: width,
      cStride,
    };
    return orientation === "nt"
      ? {
        ...range,
        n: count,
        k: width,
        aOffset: aFrom,
        cOffset: cFrom + start,
        update: update && { ...update, firstColumn: cFrom + start },
      }
      : {
        ...range,
        n: width,
        k: count,
        aOffset: aFrom + start,
        cOffset: cFrom,
        accumulate: accumulate || index > 0,
      };
  });
}

/** Whether matvec.ts computes a product, which has few rows. */
function isMatvec(gpu: Gpu, { orientation, m }: BoundProduct, geometry?: Geometry): boolean {
  return orientation === "nt" && takesMatvec(gpu, m) && geometry === undefined;
}

/** Whether {@linkcode matmul} can add this update to a product `nt`: tensor cores make it, and bind enough buffers. */
export function addsUpdate(
  gpu: Gpu,
  { c, cFrom = 0, ...product }: Omit<Product, "geometry"> & { c: Tensor; cFrom?: number },
): boolean {
  if (!onTensorCores(gpu.matrices)) return false;
  const all = {
    ...product,
    orientation: "nt",
    c,
    cFrom,
    cStride: c.rowSize,
    accumulate: false,
  } as const;
  const ranges = boundProducts(gpu, all);
  const bindings = 2 + ranges[0].b.tensors.length + (product.update?.tensors.length ?? 0);
  return takesTensorCores(gpu, ranges) && !ranges.some((range) => isMatvec(gpu, range)) &&
    bindings <= gpu.maxBindings;
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
  for (const range of boundProducts(gpu, all)) {
    if (isMatvec(gpu, range, geometry)) matvec(gpu, range);
    else multiply(gpu, range, geometry ?? geometryOf(gpu, [range]));
  }
}

/**
 * alpha·A·op(B) as partial sums in working memory, for the next launch to add up.
 *
 * @param product `extraSplits`: splits to leave room for, which later launches append.
 */
export function matmulSplitK(
  gpu: Gpu,
  { extraSplits = 0, geometry, ...product }: Product & {
    orientation: "nt" | "nn";
    extraSplits?: number;
  },
): SplitKPartials {
  const { orientation, b, rows } = product;
  const width = b.shape[orientation === "nt" ? 0 : 1];
  const bytes = Math.min(splitKBytes(rows, width, extraSplits), gpu.maxBinding);
  const c = gpu.scratch(bytes);
  let splits = 1;
  if (rows > 0) {
    const all = { ...product, c, cFrom: 0, cStride: width, accumulate: false };
    const ranges = boundProducts(gpu, all);
    if (isMatvec(gpu, ranges[0], geometry)) {
      for (const range of ranges) matvec(gpu, range);
    } else {
      // The same splits of K for every range of columns; ranges of K add to the first one's splits.
      const maxSplits = Math.floor(bytes / (rows * width * 4)) - extraSplits;
      const tiles = geometry ?? geometryOf(gpu, ranges, maxSplits);
      for (const range of ranges) launch(gpu, range, tiles);
      ({ splits } = splitK(ranges[0].k, tiles));
    }
  }
  return { tensor: c, splits, rows, width };
}
