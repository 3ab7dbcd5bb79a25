/**
 * Results of attention over splits of a query's keys (flash-decoding's num_splits), and how they are combined: by a
 * launch, or by the product that follows (matvec.ts).
 *
 * Each split leaves Σ exp2(s − m)·v in `partialOut` `[rows, splits, heads, head_dim]`, and in `softmaxStats`
 * `[rows, splits, heads, 2]` its highest score in powers of 2, the maximum m, and the denominator Σ exp2(s − m);
 * all f32.
 *
 * @module
 */
import type { Gpu } from "../../../gpu/gpu.ts";
import { type Binding, programFamily, reads, readsScalars, writes } from "../../../gpu/program.ts";
import { repeat } from "../../../wgsl/repeat.ts";
import type { Dtype, Tensor } from "../../../gpu/tensor.ts";
import { weightOf } from "../../../wgsl/online_softmax.ts";

/** Results of the splits of one query's keys `[heads · head_dim]`. */
export interface SplitAttention {
  partialOut: Tensor;
  softmaxStats: Tensor;
  /** Splits of each head. */
  splits: number;
  headDim: number;
}

/** Bindings of a program that reads such results: `partial_out` and `softmax_stats`. */
export function splitBindings(): Binding[] {
  return [...reads("f32", "partial_out"), ...readsScalars("f32", "softmax_stats")];
}

const THREADS = 64;

const combine = programFamily("attention_decode_combine", ({ out }: { out: Dtype }) => ({
  bindings: [...splitBindings(), ...writes(out, "out")],
  uniforms: { vectors: "u32", heads: "u32", lanes: "u32", splits: "u32" },
  body: `
@compute @workgroup_size(${THREADS})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= u.vectors) { return; }
  let query = id.x / u.lanes;
  let lane = id.x % u.lanes;
  let first = query / u.heads * u.splits * u.heads + query % u.heads;
  var maximum = softmax_stats[2u * first];
  for (var r = 1u; r < u.splits; r++) { maximum = max(maximum, softmax_stats[2u * (first + r * u.heads)]); }
  var sum = vec4<f32>();
  var denominator = 0.0;
  for (var r = 0u; r < u.splits; r++) {
    let at = first + r * u.heads;
    let factor = ${weightOf("softmax_stats[2u * at]", "maximum")};
    sum += factor * load_partial_out(at * u.lanes + lane);
    denominator += factor * softmax_stats[2u * at + 1u];
  }
  store_out(id.x, sum / denominator);
}`,
}));

/** Combines the splits of `rows` queries into out `[rows, heads · head_dim]`. */
export function combineSplits(
  gpu: Gpu,
  { partialOut, softmaxStats, splits, headDim, out, rows, heads }: SplitAttention & {
    out: Tensor;
    rows: number;
    heads: number;
  },
): void {
  const vectors = rows * heads * headDim / 4;
  gpu.run(
    combine({ out: out.dtype }),
    [partialOut, softmaxStats, out],
    { vectors, heads, lanes: headDim / 4, splits },
    [Math.ceil(vectors / THREADS)],
    { flops: 2 * vectors * 4 * splits, bytes: 4 * vectors * 4 * splits },
  );
}

/**
 * WGSL that declares neighbouring vectors of the result of one query, which has {@linkcode splitBindings}.
 * Written out, so that all loads are under way at once.
 *
 * @param result `columns`: heads · head_dim. `names`: of the vectors, which are the `load`-th of so many; they
 *   belong to one head.
 */
export function combinedSplits(
  { splits, headDim, columns, load, names }: {
    splits: number;
    headDim: number;
    columns: number;
    load: string;
    names: readonly string[];
  },
): string {
  const heads = columns / headDim, count = names.length;
  const each = (line: (r: number) => string) => repeat(splits, line);
  const sum = (term: (r: number) => string) =>
    Array.from({ length: splits }, (_, r) => term(r)).join(" + ");
  return `${names.map((name) => `  var ${name}: vec4<f32>;`).join("\n")}
  {
    let head = ${load} / ${headDim / 4 / count}u;
    ${
    each((r) =>
      `let maximum${r} = softmax_stats[2u * (head + ${r * heads}u)];
    let weight${r} = softmax_stats[2u * (head + ${r * heads}u) + 1u];
    ${
        names.map((_, p) =>
          `let sum${r}_${p} = load_partial_out(${load} * ${count}u + ${r * columns / 4 + p}u);`
        ).join("\n    ")
      }`
    )
  }
    var maximum = maximum0;
    ${each((r) => `maximum = max(maximum, maximum${r});`)}
    ${each((r) => `let factor${r} = ${weightOf(`maximum${r}`, "maximum")};`)}
    let scale = 1.0 / (${sum((r) => `factor${r} * weight${r}`)});
    ${
    names.map((name, p) => `${name} = scale * (${sum((r) => `factor${r} * sum${r}_${p}`)});`).join(
      "\n    ",
    )
  }
  }`;
}
