/**
 * Attention for software drivers: one thread a query and head (or a key and key head), which walks over
 * the other side with everything in registers. Without workgroup memory there are no barriers, which
 * such a driver pays for with a switch of every thread's stack, and no work on masked pairs.
 *
 * Contract and equations are those of attention.ts.
 *
 * @module
 */
import { positionalFamily, reads, readsScalars, writes, writesScalars } from "../../gpu/program.ts";
import type { Dtype } from "../../gpu/tensor.ts";
import { gradientBindings } from "./row_index.ts";
import { headStart, headUniforms } from "./heads.ts";
import { holeBindings } from "./excluded_keys.ts";

/** Longest head row that is worth it: longer ones take seconds to compile. */
const MOST_HEAD_DIM = 64;

/** Whether a device is to take these programs. */
export function prefersDirect(software: boolean, headDim: number): boolean {
  return software && headDim <= MOST_HEAD_DIM;
}

/** Threads of a workgroup: neighbouring rows of one head. */
export const DIRECT_THREADS = 32;

const uniforms = (...names: string[]): Record<string, "u32" | "f32"> => ({
  rows: "u32",
  heads: "u32",
  kv_heads: "u32",
  scale: "f32",
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

/** {@linkcode store} with RoPE's turn undone: elements i and i + d/2 of a head row are a pair. */
const storeTurned = (vectors: number, binding: string, base: string, name: string) =>
  `  let angle = positions[row] * ${vectors}u;\n` +
  each(vectors / 2, (e) => {
    const half = `${vectors / 2}u`;
    return `{
    let cos = load_table(angle + ${e});
    let sin = load_table(angle + ${half} + ${e});
    let a = ${name}[${e}];
    let b = ${name}[${half} + ${e}];
    store_${binding}(${base} + ${e}, a * cos + b * sin);
    store_${binding}(${base} + ${half} + ${e}, b * cos - a * sin);
  }`;
  });

/** The dot product of two head rows as the variable `result`. */
const product = (vectors: number, result: string, a: string, b: string) =>
  `  var ${result} = 0.0;\n${each(vectors, (e) => `${result} += dot(${a}[${e}], ${b}[${e}]);`)}`;

/** The weight of a query–key pair, and `ds`, the gradient of its score, from the rows of both. */
const pairGradient = (vectors: number) => `
${product(vectors, "score", "q", "k")}
${product(vectors, "dp", "g", "v")}
  let weight = exp(score * u.scale - lse[statistics]);
  let ds = weight * (dp - delta) * u.scale;`;

/** delta, the dot product of a query's out (from vector `base` on) and its gradient \`g\`. */
const rowDelta = (vectors: number, base: string) =>
  `  let own_out = ${base};
  var delta = 0.0;
${each(vectors, (e) => `delta += dot(load_out(own_out + ${e}), g[${e}]);`)}`;

const entry = (rows: string) => `
@compute @workgroup_size(${DIRECT_THREADS})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.x;
  let head = id.y;
  if (row >= ${rows}) { return; }`;

/** Goes on behind the query's hole. */
const skipHole = (holed: boolean) =>
  holed ? "if (j == holes[2u * row]) { j = holes[2u * row + 1u]; }" : "";

/** out and lse: a running maximum and sum over the keys. */
export const directForward = positionalFamily(
  "attention_direct",
  (dtype: Dtype, kv: Dtype, headDim: number, withLse: boolean, holed: boolean) => {
    const n = headDim / 4;
    const bindings = [
      ...reads(dtype, "q"),
      ...reads(kv, "k", "v"),
      ...readsScalars("u32", "starts", "ends"),
      ...holeBindings(holed),
      ...writes(dtype, "out"),
    ];
    if (withLse) bindings.push(...writesScalars("f32", "lse"));
    return {
      bindings,
      uniforms: uniforms("q", "k", "v", "out"),
      body: `${entry("u.rows")}
  let kv_head = head / (u.heads / u.kv_heads);
${load(n, "q", "q", headStart("q", "row", "head", n))}
${zero(n, "sum")}
  var highest = -3.4e38;
  var total = 0.0;
  let end = ends[row];
  for (var j = starts[row]; j < end; j++) {
    ${skipHole(holed)}
    let values = ${headStart("v", "j", "kv_head", n)};
${load(n, "k", "k", headStart("k", "j", "kv_head", n))}
${product(n, "dots", "q", "k")}
    let score = dots * u.scale;
    let next = max(highest, score);
    let keep = exp(highest - next);
    let weight = exp(score - next);
    highest = next;
    total = total * keep + weight;
${each(n, (e) => `sum[${e}] = sum[${e}] * keep + weight * load_v(values + ${e});`)}
  }
  let factor = select(0.0, 1.0 / total, total > 0.0);
${store(n, "out", headStart("out", "row", "head", n), "sum", "factor")}
  ${withLse ? "lse[row * u.heads + head] = highest + log(max(total, 1e-37));" : ""}
}`,
    };
  },
);

/** dq, one thread a query and head. */
export const directQueryGradient = positionalFamily(
  "attention_direct_query",
  (dtype: Dtype, headDim: number, turned: boolean, holed: boolean) => {
    const n = headDim / 4;
    return {
      bindings: gradientBindings(dtype, ["starts", "ends"], { turned, holed }),
      uniforms: uniforms("q", "k", "v", "out", "dout", "dq"),
      body: `${entry("u.rows")}
  let kv_head = head / (u.heads / u.kv_heads);
  let statistics = row * u.heads + head;
${load(n, "q", "qkv", headStart("q", "row", "head", n))}
${load(n, "g", "dout", headStart("dout", "row", "head", n))}
${rowDelta(n, headStart("out", "row", "head", n))}
${zero(n, "sum")}
  let end = ends[row];
  for (var j = starts[row]; j < end; j++) {
    ${skipHole(holed)}
${load(n, "k", "qkv", headStart("k", "j", "kv_head", n))}
${load(n, "v", "qkv", headStart("v", "j", "kv_head", n))}
${pairGradient(n)}
${each(n, (e) => `sum[${e}] += ds * k[${e}];`)}
  }
${(turned ? storeTurned : store)(n, "gradient", headStart("dq", "row", "head", n), "sum")}
}`,
    };
  },
);

/** dk and dv, one thread a key and key head, over the queries of every head that reads it. */
export const directKeyGradient = positionalFamily(
  "attention_direct_key",
  (dtype: Dtype, headDim: number, turned: boolean) => {
    const n = headDim / 4;
    return {
      bindings: gradientBindings(dtype, ["starts", "query_ends"], { turned, holed: false }),
      uniforms: uniforms("q", "k", "v", "out", "dout", "dk", "dv"),
      body: `${entry("u.rows")}
  let group = u.heads / u.kv_heads;
${load(n, "k", "qkv", headStart("k", "row", "head", n))}
${load(n, "v", "qkv", headStart("v", "row", "head", n))}
${zero(n, "dk")}
${zero(n, "dv")}
  let end = query_ends[row];
  for (var i = row; i < end; i++) {
    if (starts[i] > row) { continue; }
    for (var h = head * group; h < (head + 1u) * group; h++) {
      let statistics = i * u.heads + h;
${load(n, "q", "qkv", headStart("q", "i", "h", n))}
${load(n, "g", "dout", headStart("dout", "i", "h", n))}
${rowDelta(n, headStart("out", "i", "h", n))}
${pairGradient(n)}
${each(n, (e) => `dv[${e}] += weight * g[${e}]; dk[${e}] += ds * q[${e}];`)}
    }
  }
${(turned ? storeTurned : store)(n, "gradient", headStart("dk", "row", "head", n), "dk")}
${store(n, "gradient", headStart("dv", "row", "head", n), "dv")}
}`,
    };
  },
);
