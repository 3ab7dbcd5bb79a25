/**
 * The WGSL of products of a few rows (matvec.ts): the threads of a workgroup share K, make 2 to 8 columns
 * of C, and add up at the end. Where one round of loads covers K (`whole`) all of them are under way at
 * once, and the norm of A's rows is made while the weights arrive; otherwise threads walk along K.
 *
 * @module
 */
import { type Binding, programFamily, type ProgramSource, reads, repeat } from "./program.ts";
import type { Dtype } from "./tensor.ts";

/** How a product is laid out over threads. */
export interface MatvecLayout {
  /** One round of loads covers K: threads · steps · wide ≥ K. */
  whole: boolean;
  threads: number;
  /** Loads of a row of B that a thread has under way at once. */
  steps: number;
  /** Columns of C of a workgroup: 2, 4 or 8. */
  outputs: number;
  /** Weights of one load: 4, or 8 of f16. */
  wide: number;
  /** Add up with subgroup functions. */
  subgroups: boolean;
}

/** What a product computes, as far as its program depends on it. */
interface MatvecKind {
  a: Dtype;
  b: Dtype;
  c: Dtype;
  /** The norm's weight; A's rows are multiplied as they are where there is none. */
  norm: Dtype | "none";
  /** A is rounded to f16. */
  round: boolean;
  /** Half of the columns are gates of the others. */
  swiglu: boolean;
  accumulate: boolean;
  rows: number;
  /** Loads of a row of B, and workgroups, of a `whole` product; of others these are uniforms. */
  vectors: number;
  groups: number;
}

/** Functions on weights as they are stored, and on A. */
function functions(b: Dtype, wide: number): string {
  const half = (words: string) =>
    `vec4<f32>(unpack2x16float(w.${words[0]}), unpack2x16float(w.${words[1]}))`;
  const type = b === "f32" ? "vec4<f32>" : wide === 8 ? "vec4<u32>" : "vec2<u32>";
  const x = wide === 8 ? "x0: vec4<f32>, x1: vec4<f32>" : "x0: vec4<f32>";
  const value = b === "f32"
    ? "dot(x0, w)"
    : `dot(x0, ${half("xy")})` + (wide === 8 ? ` + dot(x1, ${half("zw")})` : "");
  return `
fn multiplied(${x}, w: ${type}) -> f32 { return ${value}; }
fn rounded(x: vec4<f32>) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(pack2x16float(x.xy)), unpack2x16float(pack2x16float(x.zw)));
}
fn silu(g: vec2<f32>) -> vec2<f32> { return g / (1.0 + exp(-g)); }`;
}

/** WGSL that leaves the sums of `values` over the workgroup's threads as partial sums in `array`. */
function addUp(array: string, values: string[], { threads, subgroups }: MatvecLayout): string {
  const each = (line: (value: string, i: number) => string) => values.map(line).join("\n    ");
  if (subgroups) {
    return each((value, i) =>
      `let ${array}${i} = subgroupAdd(${value});
    if (lane == 0u) { ${array}[${i}][thread / size] = ${array}${i}; }`
    );
  }
  return `${each((value, i) => `${array}[${i}][thread] = ${value};`)}
  for (var stride = ${threads / 2}u; stride > 0u; stride /= 2u) {
    workgroupBarrier();
    if (thread < stride) {
    ${each((_, i) => `${array}[${i}][thread] += ${array}[${i}][thread + stride];`)}
    }
  }`;
}

function source(kind: MatvecKind, layout: MatvecLayout): ProgramSource {
  const { a, b, c, norm, round, swiglu, accumulate, rows } = kind;
  const { whole, threads, steps, outputs, wide, subgroups } = layout;
  /** Vectors of four that A is read in for one load of B. */
  const parts = wide / 4;
  /** Pairs of neighbouring columns that a workgroup stores of each row. */
  const pairs = swiglu ? outputs / 4 : outputs / 2;
  // A subgroup has four threads at least.
  const slots = subgroups ? Math.ceil(threads / 4) : threads;
  const bindings: Binding[] = [
    ...reads(a, "a"),
    { name: "b", dtype: b, access: "read", raw: wide === 8 },
    { name: "c", dtype: c, access: "write", scalar: true },
  ];
  if (norm !== "none") bindings.push(...reads(norm, "w"));
  const own = swiglu ? outputs / 2 : outputs;
  const row = (j: number) => {
    const column = `group * ${own}u + ${j % own}u`;
    return j < own ? column : `groups * ${own}u + ${column}`;
  };
  /** What a thread has of row i of A in step s. */
  const names = (i: number, s: number) =>
    Array.from({ length: parts }, (_, p) => `x${i}_${s}_${p}`);
  const eachX = (line: (x: string, i: number, s: number, p: number) => string, count = steps) =>
    repeat(
      rows,
      (i) => repeat(count, (s) => names(i, s).map((x, p) => line(x, i, s, p)).join("\n")),
    );
  const rounding = (count: number) => round ? eachX((x) => `  ${x} = rounded(${x});`, count) : "";
  const sums = Array.from({ length: rows * outputs }, (_, n) => n);
  const multiply = (count: number) =>
    repeat(
      count,
      (s) =>
        sums.map((n) =>
          `  sum${n} += multiplied(${names(Math.floor(n / outputs), s).join(", ")}, w${
            n % outputs
          }_${s});`
        ).join("\n"),
    );
  const loadA = (i: number, v: string, p: number) =>
    `load_a(u.aOffset + ${i}u * u.aStride + (${v}) * ${parts}u + ${p}u)`;

  const norming = norm === "none" ? "" : `
${repeat(rows, (i) => `  var square${i} = 0.0;`)}
${eachX((x, i) => `  square${i} += dot(${x}, ${x});`)}
  ${addUp("squares", Array.from({ length: rows }, (_, i) => `square${i}`), layout)}
  workgroupBarrier();
${
    repeat(rows, (i) =>
      `  var mean${i} = 0.0;
  for (var s = 0u; s < slots; s++) { mean${i} += squares[${i}][s]; }
  let scale${i} = inverseSqrt(mean${i} / f32(vectors * ${wide}u) + u.eps);`)
  }
${eachX((x, i, s, p) => `  ${x} *= scale${i} * load_w(v${s} * ${parts}u + ${p}u);`)}`;

  const pairAt = c === "f16" ? "unpack2x16float(c[at])" : "vec2<f32>(c[2u * at], c[2u * at + 1u])";
  // After the first weights: where it lies waits for the uniforms.
  const before = accumulate
    ? `  var before = vec2<f32>();
  if (i < ${rows}u) { before = ${pairAt}; }`
    : "";
  const wholeBody = `
${repeat(steps, (s) => `  let v${s} = min(thread + ${s * threads}u, vectors - 1u);`)}
${repeat(outputs, (j) => repeat(steps, (s) => `  let w${j}_${s} = b[b${j} + v${s}];`))}
${before}
${
    // Past the end: zeros times the last weight.
    eachX((x, i, s, p) =>
      `  var ${x} = select(vec4<f32>(), ${loadA(i, `v${s}`, p)}, thread + ${
        s * threads
      }u < vectors);`
    )}
${norming}
${rounding(steps)}
${multiply(steps)}`;
  const round1 = (count: number) => `
${
    repeat(count, (s) =>
      repeat(outputs, (j) => `  let w${j}_${s} = b[b${j} + v + ${s * threads}u];`))
  }
${eachX((x, i, s, p) => `  var ${x} = ${loadA(i, `v + ${s * threads}u`, p)};`, count)}
${rounding(count)}
${multiply(count)}`;
  const alongBody = `${before}
  var v = thread;
  for (; v + ${(steps - 1) * threads}u < vectors; v += ${steps * threads}u) {${round1(steps)}
  }
  ${
    steps === 1 ? "" : `for (; v < vectors; v += ${threads}u) {${round1(1)}
  }`
  }`;

  const entry = (j: string) => `total(i * ${outputs}u + ${j}, slots)`;
  const two = (j: string) => `vec2<f32>(${entry(j)}, ${entry(`${j} + 1u`)})`;
  const value = swiglu
    ? `silu(${two("2u * pair")}) * ${two(`${own}u + 2u * pair`)}`
    : `${two("2u * pair")} * u.alpha`;
  const store = c === "f16"
    ? "c[at] = pack2x16float(value);"
    : "c[2u * at] = value.x;\n  c[2u * at + 1u] = value.y;";
  return {
    bindings,
    uniforms: {
      ...{ vectors: "u32", groups: "u32", alpha: "f32", eps: "f32" },
      ...{ aOffset: "u32", aStride: "u32", cOffset: "u32", cStride: "u32" },
    },
    extensions: subgroups ? ["subgroups"] : [],
    body: `
var<workgroup> partial: array<array<f32, ${slots}>, ${rows * outputs}>;
${norm === "none" ? "" : `var<workgroup> squares: array<array<f32, ${slots}>, ${rows}>;`}
${functions(b, wide)}
fn total(n: u32, slots: u32) -> f32 {
  var sum = 0.0;
  for (var s = 0u; s < slots; s++) { sum += partial[n][s]; }
  return sum;
}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  ${
      subgroups
        ? "@builtin(subgroup_size) size: u32,\n  @builtin(subgroup_invocation_id) lane: u32,"
        : ""
    }
) {
  // Written out where all loads begin at once, so that they don't wait for the uniforms.
  let vectors = ${whole ? `${kind.vectors}u` : "u.vectors"};
  let groups = ${whole ? `${kind.groups}u` : "u.groups"};
  let group = id.y * grid.x + id.x;
  if (group >= groups) { return; }
  let slots = ${subgroups ? `(${threads - 1}u + size) / size` : "1u"};
  // The pair of C that this thread stores, if any.
  let i = thread / ${pairs}u;
  let pair = thread % ${pairs}u;
  let at = u.cOffset + i * u.cStride + group * ${pairs}u + pair;
${repeat(outputs, (j) => `  let b${j} = (${row(j)}) * vectors;`)}
${sums.map((n) => `  var sum${n} = 0.0;`).join("\n")}
${whole ? wholeBody : alongBody}
  ${addUp("partial", sums.map((n) => `sum${n}`), layout)}
  workgroupBarrier();
  if (i >= ${rows}u) { return; }
  let value = ${value}${accumulate ? " + before" : ""};
  ${store}
}`,
  };
}

/** The program of a kind of product in a layout. */
export const matvecProgram = programFamily("matvec", (
  ...[a, b, c, norm, round, swiglu, accumulate, rows, vectors, groups, ...layout]: [
    ...[a: Dtype, b: Dtype, c: Dtype, norm: Dtype | "none", round: boolean],
    ...[swiglu: boolean, accumulate: boolean, rows: number, vectors: number, groups: number],
    ...[whole: boolean, threads: number, steps: number, outputs: number],
    ...[wide: number, subgroups: boolean],
  ]
) => {
  const [whole, threads, steps, outputs, wide, subgroups] = layout;
  return source(
    { a, b, c, norm, round, swiglu, accumulate, rows, vectors, groups },
    { whole, threads, steps, outputs, wide, subgroups },
  );
});
