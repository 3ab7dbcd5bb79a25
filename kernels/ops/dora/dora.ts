/**
 * Weight-decomposed low-rank adapters (DoRA) of linear layers, as PEFT computes them: W + s·B·A gives the direction
 * of a weight's row, and a parameter of its own, the magnitude m, gives its length.
 *
 * Shapes: W `[out, in]` f32 or f16, A `[r, in]`, B `[out, r]`, m, n, g `[out]` f32, x `[T, in]`, y, z and dy
 * `[T, …]` f32 or f16 with a layer's columns from `from` on. r and every width are multiples of 4. With
 * s = α/r, x' = dropout(x) and loraHidden = x'·Aᵀ (lora.ts):
 *
 *     n_i = ‖W_i + s·B_i·A‖      g = m / n      z = x'·Wᵀ + s·loraHidden·Bᵀ
 *     y   = (x − x')·Wᵀ + g ∘ z + bias, which without dropout is g ∘ (x·Wᵀ + s·loraHidden·Bᵀ) + bias
 *
 * n counts as a constant in backward, so that with dy' = g ∘ dy
 *
 *     dm_i += Σ_t dy_ti·z_ti / n_i               A and B: those of a LoRA adapter whose output's gradient is dy'
 *     dx   = dy·W + mask ⊙ (((g − 1) ∘ dy)·W) / (1 − p) + LoRA's part, without dropout dy'·W + LoRA's part
 *
 * A row of zeros (the padding of a vocabulary) has g = 0 and no gradient.
 *
 * How the steps make up a layer (model/transformer/linear.ts):
 *  - {@linkcode doraFactors} after every change of A, B or m: n and g;
 *  - forward without dropout: y as of a LoRA layer without bias, {@linkcode scaleColumns} in place, the bias. Rows
 *    that are decoded go the same way: g can't be folded into W, which stays as it is. Where y is added to
 *    something, z is made in working memory and added with `accumulate`;
 *  - forward with dropout: `dropoutCopy` (dropout_copy.ts) of x, z = copy·Wᵀ, `loraUp` into z; the copy of the
 *    rest of x, y = copy·Wᵀ; `scaleColumns` of z, added to y; the bias;
 *  - backward: z once more, as it is not kept; {@linkcode magnitudeGradient}; dy' into z's memory with `scaleColumns`,
 *    for `loraBackward` and, without dropout, for the input's gradient. With dropout that is dy·W and, from
 *    (g − 1) ∘ dy (`less: 1`) times W, `addDropped`. The bias's gradient is dy's own.
 *
 * Source: Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024, sections 4.1 and 4.3.
 *
 * @module
 */
import { columnSums } from "../../wgsl/column_sums.ts";
import { elementGrid, elementMain, groupGrid } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, readsScalars, writes, writesScalars } from "../../gpu/program.ts";
import { repeat } from "../../wgsl/repeat.ts";
import { sumOfThreads } from "../../wgsl/reduce.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";
import { loadFunction } from "../weights/kind.ts";
import { weightKind } from "../weights/kinds.ts";
import { operandOf, type WeightOperand } from "../weights/operand.ts";

/** Threads of a workgroup, and rows of W in it, which read A together. */
interface NormTiles {
  threads: number;
  rows: number;
}

/** A software driver's barriers are expensive, and eight threads are one SIMD group. */
const normTiles = ({ software }: Gpu): NormTiles =>
  software ? { threads: 8, rows: 4 } : { threads: 256, rows: 8 };

/**
 * ‖W_i + s·B_i·A‖ directly: the rows of W + s·B·A exist in registers, four elements at a time. The form of three
 * products that never makes them, ‖W_i‖² + 2s·B_i·A·W_iᵀ + s²·B_i·A·Aᵀ·B_iᵀ, cancels where B·A turns W_i back.
 */
const factors = programFamily(
  "dora_factors",
  ({ w, threads, rows: R }: { w: string; threads: number; rows: number }) => ({
    bindings: [
      ...weightKind(w).bindings("w", 4),
      ...reads("f32", "a", "b"),
      ...readsScalars("f32", "magnitude"),
      ...writesScalars("f32", "norm", "factor"),
    ],
    // `rows` of this slice of W, the first of which is row `first` of B; `rank` and `width` in vectors.
    uniforms: { rows: "u32", first: "u32", rank: "u32", width: "u32", scale: "f32" },
    body: `${loadFunction(weightKind(w), "w")}${sumOfThreads(threads)}
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let firstRow = (group.y * groups.x + group.x) * ${R}u;
  if (firstRow >= u.rows) { return; }
${
      repeat(R, (r) => `
  let row${r} = min(firstRow + ${r}u, u.rows - 1u);
  var square${r} = 0.0;`)
    }
  for (var i = thread; i < u.width; i += ${threads}u) {
${repeat(R, (r) => `    var v${r} = load_w(row${r} * u.width + i);`)}
    for (var j = 0u; j < u.rank; j++) {
${repeat(4, (l) => `      let a${l} = load_a((j * 4u + ${l}u) * u.width + i);`)}
${
      repeat(R, (r) =>
        `      let b${r} = u.scale * load_b((u.first + row${r}) * u.rank + j);
      v${r} += b${r}.x * a0 + b${r}.y * a1 + b${r}.z * a2 + b${r}.w * a3;`)
    }
    }
${repeat(R, (r) => `    square${r} += dot(v${r}, v${r});`)}
  }
${
      repeat(R, (r) => `
  {
    ${r === 0 ? "" : "workgroupBarrier();"}
    let n = sqrt(sumOfThreads(thread, square${r}));
    let at = u.first + row${r};
    if (thread == 0u && firstRow + ${r}u < u.rows) {
      norm[at] = n;
      if (n > 0.0) { factor[at] = magnitude[at] / n; } else { factor[at] = 0.0; }
    }
  }`)
    }
}`,
  }),
);

/** A DoRA adapter of one layer, and what its passes read. */
export interface DoraModule {
  /** A weight; a tensor is a dense one. */
  weight: Tensor | WeightOperand;
  a: Tensor;
  b: Tensor;
  /** α/r. */
  scale: number;
  magnitude: Tensor;
  /** Lengths n of the rows of W + s·B·A, and the factors g = m/n. */
  norm: Tensor;
  factor: Tensor;
}

/** Writes `norm` and `factor`. */
export function doraFactors(
  gpu: Gpu,
  { a, b, scale, magnitude, norm, factor, ...module }: DoraModule,
): void {
  const weight = operandOf(module.weight), [outputs, inputs] = weight.shape, rank = a.shape[0];
  const fits = a.shape[1] === inputs && b.shape[0] === outputs && b.shape[1] === rank &&
    [magnitude, norm, factor].every(({ size }) => size === outputs) && (rank | inputs) % 4 === 0;
  if (!fits) {
    const shapes = [weight, a, b, magnitude].map(({ name, shape }) => `${name} [${shape}]`);
    throw new Error(`${shapes.join(", ")} do not fit`);
  }
  const { threads, rows: tileRows } = normTiles(gpu);
  const slices = weight.ranges(gpu.maxBinding);
  for (const { start: first, count: rows } of slices) {
    const slice = slices.length === 1 ? weight : weight.rows(first, rows);
    gpu.run(
      factors({ w: weight.kind.name, threads, rows: tileRows }),
      [...slice.tensors, a, b, magnitude, norm, factor],
      { rows, first, rank: rank / 4, width: inputs / 4, scale },
      groupGrid(Math.ceil(rows / tileRows)),
      {
        flops: 2 * rows * inputs * (rank + 1),
        bytes: slice.bytes + 4 * (rank * (rows + inputs) + 3 * rows),
      },
    );
  }
}

const scaling = programFamily(
  "scale_columns",
  ({ x, y, accumulate }: { x: Dtype | "in place"; y: Dtype; accumulate: boolean }) => ({
    bindings: [
      ...reads("f32", "factor"),
      ...x === "in place" ? [] : reads(x, "x"),
      ...writes(y, "y"),
    ],
    uniforms: {
      vectors: "u32",
      width: "u32",
      first: "u32",
      xStride: "u32",
      yStride: "u32",
      less: "f32",
    },
    body: elementMain(`
  let column = u.first + i % u.width;
  let at = i / u.width * u.yStride + column;
  let x = ${x === "in place" ? "load_y(at)" : "load_x(i / u.width * u.xStride + column)"};
  let scaled = (load_factor(i % u.width) - u.less) * x;
  store_y(at, ${accumulate ? "load_y(at) + scaled" : "scaled"});`),
  }),
);

/**
 * y = (factor − less) ∘ x for `rows` rows of the columns from `from` on, as many as there are factors.
 *
 * @param operands `x`: may be y. `accumulate`: adds to y, which then is not x. `less`: default 0.
 */
export function scaleColumns(
  gpu: Gpu,
  { x, factor, y, from, rows, less = 0, accumulate = false }: {
    x: Tensor;
    factor: Tensor;
    y: Tensor;
    from: number;
    rows: number;
    less?: number;
    accumulate?: boolean;
  },
): void {
  const width = factor.size / 4, vectors = rows * width, inPlace = x === y;
  const [xStride, yStride] = [x, y].map(({ rowSize }) => rowSize / 4);
  if (inPlace && accumulate) throw new Error(`${y.name} can't be added to itself`);
  gpu.run(
    scaling({ x: inPlace ? "in place" : x.dtype, y: y.dtype, accumulate }),
    [factor, ...inPlace ? [] : [x], y],
    { vectors, width, first: from / 4, xStride, yStride, less },
    elementGrid(vectors),
    {
      flops: (accumulate ? 8 : 4) * vectors,
      bytes: 4 * vectors * (bytesOf(x.dtype) + (accumulate ? 2 : 1) * bytesOf(y.dtype)),
    },
  );
}

/** Neighbouring vectors of a row that a workgroup sums. */
const COLUMNS = 16;
/** Threads that share a column, each with every so many rows; a software driver has none to spare. */
const lanesOn = ({ software }: Gpu) => software ? 1 : 16;

const gradient = programFamily(
  "dora_magnitude_gradient",
  ({ dy, z, lanes }: { dy: Dtype; z: Dtype; lanes: number }) => ({
    bindings: [
      ...reads(dy, "dy"),
      ...reads(z, "z"),
      ...reads("f32", "norm"),
      ...writes("f32", "grad"),
    ],
    uniforms: { rows: "u32", width: "u32", first: "u32", dyStride: "u32", zStride: "u32" },
    body: columnSums({
      columns: COLUMNS,
      lanes,
      add: `sum += load_dy(row * u.dyStride + u.first + column) *
        load_z(row * u.zStride + u.first + column);`,
      store: `let n = load_norm(column);
  let own = select(vec4<f32>(), sum / n, n > vec4<f32>());
  store_grad(column, load_grad(column) + own);`,
    }),
  }),
);

/**
 * Adds Σ_t dy_t ∘ z_t / n to the magnitude's gradient (f32), in the same order every time.
 *
 * @param operands `z`: what the factors multiply in forward, in the same columns as dy. `lanes`: threads that
 * share a column.
 */
export function magnitudeGradient(
  gpu: Gpu,
  { dy, z, norm, grad, from, rows, lanes = lanesOn(gpu) }: {
    dy: Tensor;
    z: Tensor;
    norm: Tensor;
    grad: Tensor;
    from: number;
    rows: number;
    lanes?: number;
  },
): void {
  const width = norm.size / 4;
  gpu.run(
    gradient({ dy: dy.dtype, z: z.dtype, lanes }),
    [dy, z, norm, grad],
    { rows, width, first: from / 4, dyStride: dy.rowSize / 4, zStride: z.rowSize / 4 },
    [Math.ceil(width / COLUMNS)],
    {
      flops: 2 * rows * norm.size,
      bytes: norm.size * (rows * (bytesOf(dy.dtype) + bytesOf(z.dtype)) + 12),
    },
  );
}
