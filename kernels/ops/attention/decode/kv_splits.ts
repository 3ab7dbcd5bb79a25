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
import { corrected, DECLARE_MASKED, maskedWeight, weightOf } from "../../../wgsl/online_softmax.ts";

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

/** Threads of a workgroup, which combines one head of one query: a vector of four and some of the splits each. */
const THREADS = 256;
/** Splits that a thread loads at once. */
const SPLITS_AT_ONCE = 4;

/** Threads that share a vector, each with every so-many-th split: a power of two. */
function sharingSplits(vectors: number): number {
  return 2 ** Math.floor(Math.log2(Math.max(1, THREADS / vectors)));
}

const combine = programFamily(
  "attention_decode_combine",
  ({ out, headDim }: { out: Dtype; headDim: number }) => {
    const vectors = headDim / 4, sharing = sharingSplits(vectors);
    const each = (line: (i: number) => string) => repeat(SPLITS_AT_ONCE, line);
    return {
      bindings: [...splitBindings(), ...writes(out, "out")],
      uniforms: { heads: "u32", splits: "u32" },
      body: `
${DECLARE_MASKED}
var<workgroup> sums: array<array<vec4<f32>, ${vectors}>, ${sharing}>;
var<workgroup> stats: array<vec2<f32>, ${sharing}>;

@compute @workgroup_size(${vectors * sharing})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let column = thread % ${vectors}u;
  let share = thread / ${vectors}u;
  let first = group.y * u.splits * u.heads + group.x;
  var maximum = MASKED;
  var sum = vec4<f32>();
  var denominator = 0.0;
  for (var split = share; split < u.splits; split += ${sharing * SPLITS_AT_ONCE}u) {
    // Splits past the end are those of the last one, without weight.
    ${
        each((i) =>
          `let is_split${i} = split + ${i * sharing}u < u.splits;
    let at${i} = first + min(split + ${i * sharing}u, u.splits - 1u) * u.heads;
    let sum${i} = load_partial_out(at${i} * ${vectors}u + column);
    let maximum${i} = select(MASKED, softmax_stats[2u * at${i}], is_split${i});
    let denominator${i} = softmax_stats[2u * at${i} + 1u];`
        )
      }
    let before = maximum;
    ${each((i) => `maximum = max(maximum, maximum${i});`)}
    let correction = ${weightOf("before", "maximum")};
    ${each((i) => `let factor${i} = ${maskedWeight(`maximum${i}`, "maximum")};`)}
    sum = ${corrected("sum", "correction", terms((i) => `factor${i} * sum${i}`))};
    denominator = ${
        corrected("denominator", "correction", terms((i) => `factor${i} * denominator${i}`))
      };
  }
  sums[share][column] = sum;
  if (column == 0u) { stats[share] = vec2<f32>(maximum, denominator); }
  workgroupBarrier();
  if (share > 0u) { return; }
  ${repeat(sharing, (i) => `maximum = max(maximum, stats[${i}].x);`)}
  sum = vec4<f32>();
  denominator = 0.0;
  ${
        repeat(sharing, (i) =>
          `{
    let factor = ${maskedWeight(`stats[${i}].x`, "maximum")};
    sum += factor * sums[${i}][column];
    denominator += factor * stats[${i}].y;
  }`)
      }
  store_out((group.y * u.heads + group.x) * ${vectors}u + column, sum / denominator);
}`,
    };
  },
);

/** A sum of terms, one a split that is loaded at once. */
function terms(term: (i: number) => string): string {
  return Array.from({ length: SPLITS_AT_ONCE }, (_, i) => term(i)).join(" + ");
}

/** Combines the splits of `rows` queries into out `[rows, heads · head_dim]`. */
export function combineSplits(
  gpu: Gpu,
  { partialOut, softmaxStats, splits, headDim, out, rows, heads }: SplitAttention & {
    out: Tensor;
    rows: number;
    heads: number;
  },
): void {
  const elements = rows * heads * headDim;
  gpu.run(
    combine({ out: out.dtype, headDim }),
    [partialOut, softmaxStats, out],
    { heads, splits },
    [heads, rows],
    { flops: 2 * elements * splits, bytes: 4 * elements * splits },
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
