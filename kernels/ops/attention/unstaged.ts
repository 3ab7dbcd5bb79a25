/**
 * Attention for software drivers: one thread a query and head (or a key and key head), which walks over
 * the other side with everything in registers. Without workgroup memory there are no barriers, which
 * such a driver pays for with a switch of every thread's stack, and no work on masked pairs.
 *
 * Contract and equations are those of attention.ts.
 *
 * @module
 */
import { programFamily, reads, readsScalars, writes, writesScalars } from "../../gpu/program.ts";
import type { Dtype } from "../../gpu/tensor.ts";
import { corrected, DECLARE_MASKED, weightOf } from "../../wgsl/online_softmax.ts";
import { type RotaryPairs, rotateBack } from "../../wgsl/rotate.ts";
import { declareSoftcap, softcapUniform } from "../../wgsl/softcap.ts";
import { excludedBindings } from "./excluded_keys.ts";
import { headStart, headUniforms } from "./heads.ts";
import {
  type GradientBindings,
  gradientBindings,
  gradientFields,
  type GradientVariant,
  type RowWord,
  rowWords,
} from "./row_index.ts";
import { scoreAndSlope, scoreOf } from "./score.ts";

/** Longest head row that is worth it: longer ones take seconds to compile. */
const MOST_HEAD_DIM = 64;

/** Whether a device is to take these programs. */
export function prefersUnstaged(software: boolean, headDim: number): boolean {
  return software && headDim <= MOST_HEAD_DIM;
}

/** Threads of a workgroup: neighbouring rows of one head. */
export const UNSTAGED_THREADS = 32;

const uniforms = (softcap: boolean, ...names: string[]): Record<string, "u32" | "f32"> => ({
  rows: "u32",
  heads: "u32",
  kv_heads: "u32",
  scale: "f32",
  ...softcapUniform(softcap),
  ...headUniforms(...names),
});

/** WGSL that runs `line` for each vector of a head row. */
function each(vectors: number, line: (e: string) => string): string {
  return Array.from({ length: vectors }, (_, e) => `  ${line(`${e}u`)}`).join("\n");
}

/** A head row of zeros in registers. */
const zero = (vectors: number, name: string) => `  var ${name}: array<vec4<f32>, ${vectors}>;`;

/** A head row in registers, loaded from `base`. */
const load = (vectors: number, name: string, binding: string, base: string) =>
  `${zero(vectors, name)}\n${
    each(vectors, (e) => `${name}[${e}] = load_${binding}(${base} + ${e});`)
  }`;

const store = (vectors: number, binding: string, base: string, name: string, factor = "1.0") =>
  each(vectors, (e) => `store_${binding}(${base} + ${e}, ${name}[${e}] * ${factor});`);

/** {@linkcode store} with RoPE's rotation undone. */
const storeRotatedBack = (
  vectors: number,
  binding: string,
  base: string,
  { name, word, pairs }: { name: string; word: RowWord; pairs: RotaryPairs },
) =>
  `  let angle = ${word("positions", "row")} * ${vectors}u;\n` +
  each(vectors / 2, (e) => {
    const half = `${vectors / 2}u`;
    const pair = rotateBack({ first: "a", second: "b", cos: "cos", sin: "sin" }, pairs);
    return `{
    let cos = load_table(angle + ${e});
    let sin = load_table(angle + ${half} + ${e});
    let a = ${name}[${e}];
    let b = ${name}[${half} + ${e}];
    store_${binding}(${base} + ${e}, ${pair.first});
    store_${binding}(${base} + ${half} + ${e}, ${pair.second});
  }`;
  });

/** The dot product of two head rows as the variable `result`. */
const product = (vectors: number, result: string, a: string, b: string) =>
  `  var ${result} = 0.0;\n${each(vectors, (e) => `${result} += dot(${a}[${e}], ${b}[${e}]);`)}`;

/** The weight of a query–key pair, and `ds`, the gradient of its score, from the rows of both. */
const pairGradient = (vectors: number, softcap: boolean) => {
  const { declare, score, slope } = scoreAndSlope("score", softcap);
  return `
${product(vectors, "score", "q", "k")}
${product(vectors, "dp", "g", "v")}
  ${declare}let weight = exp(${score} - lse[statistics]);
  let ds = weight * (dp - delta)${slope} * u.scale;`;
};

/** delta, the dot product of a query's out (from vector `base` on) and its gradient \`g\`. */
const rowDelta = (vectors: number, base: string) =>
  `  let own_out = ${base};
  var delta = 0.0;
${each(vectors, (e) => `delta += dot(load_out(own_out + ${e}), g[${e}]);`)}`;

const entry = (rows: string) => `
@compute @workgroup_size(${UNSTAGED_THREADS})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.x;
  let head = id.y;
  if (row >= ${rows}) { return; }`;

/** Goes on behind the keys that the query excludes. */
const skipExcluded = (excludes: boolean, word: RowWord) =>
  excludes
    ? `if (j == ${word("excluded_keys", "row", 0)}) { j = ${word("excluded_keys", "row", 1)}; }`
    : "";

/** What the gradients differ in. */
type UnstagedGradient = GradientVariant & { headDim: number };

/** How a gradient reads rows' words. */
const gradientWords = (variant: GradientBindings): RowWord =>
  rowWords(variant.packed ? gradientFields(variant) : undefined);

/** out and lse: a running maximum and denominator over the keys. */
export const unstagedForward = programFamily(
  "attention_unstaged",
  (
    { dtype, kv, headDim, withLse, excludes, softcap }: {
      dtype: Dtype;
      kv: Dtype;
      headDim: number;
      withLse: boolean;
      excludes: boolean;
      softcap: boolean;
    },
  ) => {
    const n = headDim / 4;
    const bindings = [
      ...reads(dtype, "q"),
      ...reads(kv, "k", "v"),
      ...readsScalars("u32", "starts", "ends"),
      ...excludedBindings(excludes),
      ...writes(dtype, "out"),
    ];
    if (withLse) bindings.push(...writesScalars("f32", "lse"));
    return {
      bindings,
      uniforms: uniforms(softcap, "q", "k", "v", "out"),
      body: `${DECLARE_MASKED}${declareSoftcap(softcap, "f32")}
${entry("u.rows")}
  let kv_head = head / (u.heads / u.kv_heads);
${load(n, "q", "q", headStart("q", "row", "head", n))}
${zero(n, "sum")}
  var maximum = MASKED;
  var denominator = 0.0;
  let end = ends[row];
  for (var j = starts[row]; j < end; j++) {
    ${skipExcluded(excludes, rowWords())}
    let values = ${headStart("v", "j", "kv_head", n)};
${load(n, "k", "k", headStart("k", "j", "kv_head", n))}
${product(n, "dots", "q", "k")}
    let score = ${scoreOf("dots", softcap)};
    let next = max(maximum, score);
    let correction = ${weightOf("maximum", "next", "exp")};
    let weight = ${weightOf("score", "next", "exp")};
    maximum = next;
    denominator = ${corrected("denominator", "correction", "weight")};
${
        each(n, (e) => {
          const added = `weight * load_v(values + ${e})`;
          return `sum[${e}] = ${corrected(`sum[${e}]`, "correction", added)};`;
        })
      }
  }
  let factor = select(0.0, 1.0 / denominator, denominator > 0.0);
${store(n, "out", headStart("out", "row", "head", n), "sum", "factor")}
  ${withLse ? "lse[row * u.heads + head] = maximum + log(max(denominator, 1e-37));" : ""}
}`,
    };
  },
);

/** dq, one thread a query and head. */
export const unstagedQueryGradient = programFamily(
  "attention_unstaged_query",
  (variant: UnstagedGradient) => {
    const n = variant.headDim / 4, word = gradientWords(variant);
    const stored = headStart("dq", "row", "head", n);
    return {
      bindings: gradientBindings(variant, ["starts", "ends"]),
      uniforms: uniforms(variant.softcap, "q", "k", "v", "out", "dout", "dq"),
      body: `${declareSoftcap(variant.softcap, "f32")}${entry("u.rows")}
  let kv_head = head / (u.heads / u.kv_heads);
  let statistics = row * u.heads + head;
${load(n, "q", "qkv", headStart("q", "row", "head", n))}
${load(n, "g", "dout", headStart("dout", "row", "head", n))}
${rowDelta(n, headStart("out", "row", "head", n))}
${zero(n, "sum")}
  let end = ${word("ends", "row")};
  for (var j = ${word("starts", "row")}; j < end; j++) {
    ${skipExcluded(variant.excludes, word)}
${load(n, "k", "qkv", headStart("k", "j", "kv_head", n))}
${load(n, "v", "qkv", headStart("v", "j", "kv_head", n))}
${pairGradient(n, variant.softcap)}
${each(n, (e) => `sum[${e}] += ds * k[${e}];`)}
  }
${
        variant.rotated === "none"
          ? store(n, "gradient", stored, "sum")
          : storeRotatedBack(n, "gradient", stored, { name: "sum", word, pairs: variant.rotated })
      }
}`,
    };
  },
);

/** dk and dv, one thread a key and key head, over the queries of every head that reads it. */
export const unstagedKeyGradient = programFamily(
  "attention_unstaged_key",
  (variant: UnstagedGradient) => {
    const n = variant.headDim / 4, word = gradientWords(variant);
    const stored = headStart("dk", "row", "head", n);
    return {
      bindings: gradientBindings(variant, ["starts", "query_ends"]),
      uniforms: uniforms(variant.softcap, "q", "k", "v", "out", "dout", "dk", "dv"),
      body: `${declareSoftcap(variant.softcap, "f32")}${entry("u.rows")}
  let group = u.heads / u.kv_heads;
${load(n, "k", "qkv", headStart("k", "row", "head", n))}
${load(n, "v", "qkv", headStart("v", "row", "head", n))}
${zero(n, "dk")}
${zero(n, "dv")}
  let end = ${word("query_ends", "row")};
  for (var i = row; i < end; i++) {
    if (${word("starts", "i")} > row) { continue; }
    for (var h = head * group; h < (head + 1u) * group; h++) {
      let statistics = i * u.heads + h;
${load(n, "q", "qkv", headStart("q", "i", "h", n))}
${load(n, "g", "dout", headStart("dout", "i", "h", n))}
${rowDelta(n, headStart("out", "i", "h", n))}
${pairGradient(n, variant.softcap)}
${each(n, (e) => `dv[${e}] += weight * g[${e}]; dk[${e}] += ds * q[${e}];`)}
    }
  }
${
        variant.rotated === "none"
          ? store(n, "gradient", stored, "dk")
          : storeRotatedBack(n, "gradient", stored, { name: "dk", word, pairs: variant.rotated })
      }
${store(n, "gradient", headStart("dv", "row", "head", n), "dv")}
}`,
    };
  },
);
