/**
 * Results of attention over ranges of a query's keys, and how they are added up: by a launch, or by the
 * product that follows (matvec.ts).
 *
 * Each range leaves Σ exp2(s − top)·v in `sums` `[rows, ranges, heads, head_dim]`, and in `tops`
 * `[rows, ranges, heads, 2]` its highest score in powers of 2, top, and Σ exp2(s − top); all f32.
 *
 * @module
 */
import type { Gpu } from "../../../gpu/gpu.ts";
import { positionalFamily, reads, readsScalars, repeat, writes } from "../../../gpu/program.ts";
import type { Dtype, Tensor } from "../../../gpu/tensor.ts";

/** Results of the ranges of one query's keys `[heads · head_dim]`. */
export interface AttentionRanges {
  sums: Tensor;
  tops: Tensor;
  /** Ranges of each head. */
  ranges: number;
  headDim: number;
}

const THREADS = 64;

const combine = positionalFamily("attention_decode_sum", (out: Dtype) => ({
  bindings: [
    ...reads("f32", "sums"),
    ...readsScalars("f32", "tops"),
    ...writes(out, "out"),
  ],
  uniforms: { vectors: "u32", heads: "u32", lanes: "u32", ranges: "u32" },
  body: `
@compute @workgroup_size(${THREADS})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= u.vectors) { return; }
  let query = id.x / u.lanes;
  let lane = id.x % u.lanes;
  let first = query / u.heads * u.ranges * u.heads + query % u.heads;
  var top = tops[2u * first];
  for (var r = 1u; r < u.ranges; r++) { top = max(top, tops[2u * (first + r * u.heads)]); }
  var sum = vec4<f32>();
  var total = 0.0;
  for (var r = 0u; r < u.ranges; r++) {
    let at = first + r * u.heads;
    let factor = exp2(tops[2u * at] - top);
    sum += factor * load_sums(at * u.lanes + lane);
    total += factor * tops[2u * at + 1u];
  }
  store_out(id.x, sum / total);
}`,
}));

/** Adds the ranges of `rows` queries up into out `[rows, heads · head_dim]`. */
export function combineRanges(
  gpu: Gpu,
  { sums, tops, ranges, headDim, out, rows, heads }: AttentionRanges & {
    out: Tensor;
    rows: number;
    heads: number;
  },
): void {
  const vectors = rows * heads * headDim / 4;
  gpu.run(
    combine(out.dtype),
    [sums, tops, out],
    { vectors, heads, lanes: headDim / 4, ranges },
    [Math.ceil(vectors / THREADS)],
    { flops: 2 * vectors * 4 * ranges, bytes: 4 * vectors * 4 * ranges },
  );
}

/**
 * WGSL that declares neighbouring vectors of the result of one query, the bindings being `sums` and `tops`.
 * Written out, so that all loads are under way at once.
 *
 * @param result `columns`: heads · head_dim. `names`: of the vectors, which are the `load`-th of so many; they
 *   belong to one head.
 */
export function rangeSum(
  { ranges, headDim, columns, load, names }: {
    ranges: number;
    headDim: number;
    columns: number;
    load: string;
    names: readonly string[];
  },
): string {
  const heads = columns / headDim, count = names.length;
  const each = (line: (r: number) => string) => repeat(ranges, line);
  const sum = (term: (r: number) => string) =>
    Array.from({ length: ranges }, (_, r) => term(r)).join(" + ");
  return `${names.map((name) => `  var ${name}: vec4<f32>;`).join("\n")}
  {
    let head = ${load} / ${headDim / 4 / count}u;
    ${
    each((r) =>
      `let top${r} = tops[2u * (head + ${r * heads}u)];
    let weight${r} = tops[2u * (head + ${r * heads}u) + 1u];
    ${
        names.map((_, p) =>
          `let sum${r}_${p} = load_sums(${load} * ${count}u + ${r * columns / 4 + p}u);`
        ).join("\n    ")
      }`
    )
  }
    var top = top0;
    ${each((r) => `top = max(top, top${r});`)}
    ${each((r) => `let factor${r} = exp2(top${r} - top);`)}
    let scale = 1.0 / (${sum((r) => `factor${r} * weight${r}`)});
    ${
    names.map((name, p) => `${name} = scale * (${sum((r) => `factor${r} * sum${r}_${p}`)});`).join(
      "\n    ",
    )
  }
  }`;
}
