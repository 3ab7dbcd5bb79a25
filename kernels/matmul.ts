/**
 * Matrix products: C = α·op(A)·op(B), or C += α·op(A)·op(B), in the orientations training needs.
 *
 * With weights W `[N, K]` as Hugging Face stores them (y = x·Wᵀ):
 *  - `nt`: A `[M, K]`, B `[N, K]` — forward, y = x·Wᵀ
 *  - `nn`: A `[M, K]`, B `[K, N]` — gradient of the input, dx = dy·W
 *  - `tn`: A `[K, M]`, B `[K, N]` — gradient of the weight, dW = dyᵀ·x
 *
 * Every operand is f32 or f16 in storage; sums are f32. The last dimension of every operand is a
 * multiple of 4, the others are free. B and C may exceed what one binding covers. A few rows of A
 * (decoding a token a sequence) go another way: see matvec.ts.
 *
 * @module
 */
import type { Gpu } from "./gpu.ts";
import { directMatmul } from "./matmul_direct.ts";
import { type MatmulGeometry, matmulGeometry, SPLIT_BYTES } from "./matmul_geometry.ts";
import type { Orientation } from "./matmul_orientation.ts";
import { stagedMatmul } from "./matmul_staged.ts";
import { matvec, MATVEC_ROWS, productCost } from "./matvec.ts";
import { programFamily } from "./program.ts";
import { bytesOf, type Dtype, splitRows, type Tensor } from "./tensor.ts";

const sumSplits = programFamily("matmul_splits", (c: Dtype, accumulate: boolean) => ({
  bindings: [
    { name: "partials", dtype: "f32", access: "read" },
    { name: "c", dtype: c, access: "write" },
  ],
  uniforms: {
    vectors: "u32",
    perRow: "u32",
    splits: "u32",
    cOffset: "u32",
    cStride: "u32",
    alpha: "f32",
  },
  body: `
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= u.vectors) { return; }
  var sum = vec4<f32>();
  for (var s = 0u; s < u.splits; s++) { sum += load_partials(s * u.vectors + id.x); }
  let at = u.cOffset + (id.x / u.perRow) * u.cStride + id.x % u.perRow;
  store_c(at, sum * u.alpha${accumulate ? " + load_c(at)" : ""});
}`,
}));

export type { Orientation } from "./matmul_orientation.ts";

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
}

function launch(gpu: Gpu, piece: Piece, geometry: MatmulGeometry): void {
  const { orientation, a, b, c, m, n, k, alpha, accumulate } = piece;
  const { blockM, blockN, blockK, threadM, threadN } = geometry;
  const splits = geometry.direct ? 1 : geometry.splits;
  const perSplit = Math.ceil(Math.ceil(k / splits) / blockK) * blockK;
  const parts = Math.ceil(k / perSplit);
  const partial = parts > 1;
  const target = partial ? gpu.scratch(SPLIT_BYTES) : c;
  const add = accumulate && !partial;
  const tile = [blockM, blockN, blockK, threadM, threadN] as const;
  const kind = [orientation, a.dtype, b.dtype, target.dtype, add] as const;
  const program = geometry.direct
    ? directMatmul(...kind, blockM, blockN, threadM, threadN)
    : stagedMatmul(...kind, ...tile, partial);
  const uniforms = {
    m,
    n,
    k,
    aOffset: piece.aOffset / 4,
    aStride: piece.aStride / 4,
    bOffset: 0,
    bStride: piece.bStride / 4,
    cOffset: piece.cOffset / 4,
    cStride: piece.cStride / 4,
    kPerSplit: perSplit,
    alpha,
  };
  gpu.run(program, [a, b, target], uniforms, [
    Math.ceil(m / blockM),
    Math.ceil(n / blockN),
    parts,
  ], productCost({ a, b, c }, m, n, k));
  if (!partial) return;
  const vectors = m * n / 4;
  const { cOffset, cStride } = uniforms;
  gpu.run(
    sumSplits(c.dtype, accumulate),
    [target, c],
    { vectors, perRow: n / 4, splits: parts, cOffset, cStride, alpha },
    [Math.ceil(vectors / 64)],
    { flops: m * n * parts, bytes: m * n * 4 * (parts + 1) },
  );
}

/**
 * C = alpha·op(A)·op(B), added to C where `accumulate`.
 *
 * `rows` is the number of tokens: M for `nt` and `nn`, K for `tn`. The other sizes are those of the
 * weight-like operand: B for `nt` and `nn`, C `[M, N]` for `tn`.
 */
export function matmul(
  gpu: Gpu,
  { orientation, a, b, c, rows, alpha = 1, accumulate = false, geometry }: {
    orientation: Orientation;
    a: Tensor;
    b: Tensor;
    c: Tensor;
    rows: number;
    alpha?: number;
    accumulate?: boolean;
    geometry?: MatmulGeometry;
  },
): void {
  if (rows === 0) return;
  const weight = orientation === "tn" ? c : b;
  const [height, width] = weight.shape;
  if (width % 4 !== 0 || (orientation !== "nn" && height % 4 !== 0)) {
    throw new Error(`matmul: ${weight.name} [${weight.shape}] needs sizes that are multiples of 4`);
  }
  const parts = splitRows(height, width * bytesOf(weight.dtype), gpu.maxBinding);
  const whole = parts.length === 1;
  parts.forEach(({ start, count }, index) => {
    const part = whole ? weight : weight.rows(start, count);
    const shared = { orientation, a, alpha };
    const piece: Piece = orientation === "nt"
      ? {
        ...{ ...shared, b: part, c, m: rows, n: count, k: width, accumulate },
        ...{ aOffset: 0, aStride: width, bStride: width, cOffset: start, cStride: height },
      }
      : orientation === "nn"
      ? {
        ...{ ...shared, b: part, c, m: rows, n: width, k: count },
        accumulate: accumulate || index > 0,
        ...{ aOffset: start, aStride: height, bStride: width, cOffset: 0, cStride: width },
      }
      : {
        ...{ ...shared, b, c: part, m: count, n: width, k: rows, accumulate },
        ...{ aOffset: start, aStride: height, bStride: width, cOffset: 0, cStride: width },
      };
    // A software driver pays more for a barrier than for reading B once a row.
    const few = orientation === "nt" && rows <= MATVEC_ROWS && !gpu.software;
    if (few && geometry === undefined) return matvec(gpu, piece);
    launch(gpu, piece, geometry ?? matmulGeometry(piece.m, piece.n, piece.k, gpu));
  });
}
