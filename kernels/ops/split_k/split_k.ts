/**
 * Partial sums of a matrix product whose depth K is split (split-K), for the next launch to add up while it reads them.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, writes } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";

/**
 * Partial sums of a product `[splits, rows, width]` f32, in working memory, to be consumed by the
 * next launch: split s of row t begins at element (s·rows + t)·width.
 */
export interface SplitKPartials {
  readonly tensor: Tensor;
  /** Splits to add up; a launch between the product and its consumer may append one. */
  splits: number;
  readonly rows: number;
  readonly width: number;
}

/** A whole result `[≥ rows, width]` f32 as partial sums: the only split. */
export function singleSplit(tensor: Tensor, rows: number): SplitKPartials {
  return { tensor, splits: 1, rows, width: tensor.rowSize };
}

const sum = programFamily(
  "sum_split_k",
  ({ c, accumulate }: { c: Dtype; accumulate: boolean }) => ({
    bindings: [...reads("f32", "d"), ...writes(c, "c")],
    uniforms: { vectors: "u32", width: "u32", splits: "u32", cFrom: "u32", cStride: "u32" },
    body: elementMain(`
  var sum = vec4<f32>();
  for (var s = 0u; s < u.splits; s++) { sum += load_d(s * u.vectors + i); }
  let at = u.cFrom + i / u.width * u.cStride + i % u.width;
  store_c(at, sum${accumulate ? " + load_c(at)" : ""});`),
  }),
);

/**
 * Writes c = Σ d, or adds it to c where `accumulate`.
 *
 * @param sums `cFrom`: the first column of c to take part, a multiple of 4.
 */
export function sumSplitK(
  gpu: Gpu,
  { d, c, cFrom = 0, accumulate = false }: {
    d: SplitKPartials;
    c: Tensor;
    cFrom?: number;
    accumulate?: boolean;
  },
): void {
  const { splits, rows } = d, width = d.width / 4, vectors = rows * width;
  const uniforms = { vectors, width, splits, cFrom: cFrom / 4, cStride: c.rowSize / 4 };
  gpu.run(sum({ c: c.dtype, accumulate }), [d.tensor, c], uniforms, elementGrid(vectors), {
    flops: 4 * vectors * splits,
    bytes: 4 * vectors * (4 * splits + bytesOf(c.dtype)),
  });
}
