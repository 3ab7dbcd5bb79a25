/**
 * The WGSL of products of a few rows (matvec.ts).
 *
 * The threads of a workgroup share K. They make a unit of 2 or 4 columns of C at a time, and add up at
 * its end. Where A's rows are `held`, every thread keeps its part of them in registers, from unit to unit, and
 * loads the next unit's weights before it adds up; otherwise it reads A again for every unit.
 *
 * @module
 */
import { type Binding, programFamily, reads, repeat } from "./program.ts";
import type { Dtype } from "./tensor.ts";

/** How a product is laid out over threads. */
export interface MatvecLayout {
  /** Threads keep their part of A; K is then at most threads · steps · wide. */
  held: boolean;
  threads: number;
  /** Loads of a row of B that a thread has under way at once. */
  steps: number;
  /** Columns of C that make a unit: 2, or 4. */
  outputs: number;
  /** Units of a workgroup; above 1 only with subgroups, and no more than make a pair of C a thread. */
  units: number;
  /** Weights of one load: 4, or 8 of f16. */
  wide: number;
  /** Add up with subgroup functions. */
  subgroups: boolean;
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

/** WGSL that stores two neighbouring values at pair `at`. */
const store = (c: Dtype) =>
  c === "f16"
    ? "c[at] = pack2x16float(value);"
    : "c[2u * at] = value.x; c[2u * at + 1u] = value.y;";

/** WGSL of the two values at pair `at`. */
const loaded = (c: Dtype) =>
  c === "f16" ? "unpack2x16float(c[at])" : "vec2<f32>(c[2u * at], c[2u * at + 1u])";

export const matvecProgram = programFamily("matvec", (
  ...[a, b, c, norm, round, swiglu, accumulate, rows, ...layout]: [
    ...[a: Dtype, b: Dtype, c: Dtype, norm: Dtype | "none", round: boolean],
    ...[swiglu: boolean, accumulate: boolean, rows: number],
    ...[held: boolean, threads: number, steps: number, outputs: number, units: number],
    ...[wide: number, subgroups: boolean],
  ]
) => {
  const [held, threads, steps, outputs, units, wide, subgroups] = layout;
  /** Vectors of four that A is read in for one load of B. */
  const parts = wide / 4;
  const sums = rows * outputs;
  /** Pairs of C that a unit makes, and rows of C's part of it. */
  const across = swiglu ? 1 : outputs / 2, pairs = across * rows;
  // A subgroup has at least four threads.
  const slots = subgroups ? threads / 4 : threads;
  const bindings: Binding[] = [
    ...reads(a, "a"),
    { name: "b", dtype: b, access: "read", raw: wide === 8 },
    { name: "c", dtype: c, access: "write", scalar: true },
  ];
  if (norm !== "none") bindings.push(...reads(norm, "w"));
  const each = (line: (i: number, j: number) => string) =>
    repeat(rows, (i) => repeat(outputs, (j) => line(i, j)));
  const row = (unit: string, j: number) =>
    swiglu && j >= 2
      ? `2u * (u.units + ${unit}) + ${j - 2}u`
      : `${unit} * ${swiglu ? 2 : outputs}u + ${j}u`;
  const names = (i: number, s: number | string) =>
    Array.from({ length: parts }, (_, p) => `x${i}_${s}_${p}`);

  /** Sums of `count` values of each thread, ready for \`total\`. */
  const addUp = (array: string, entries: [entry: string, value: string][]) =>
    subgroups
      ? entries.map(([entry, value], n) =>
        `let added${n} = subgroupAdd(${value});
    if (lane == 0u) { ${array}[${entry}][thread / size] = added${n}; }`
      ).join("\n")
      : `${entries.map(([entry, value]) => `${array}[${entry}][thread] = ${value};`).join("\n")}
    for (var stride = ${threads / 2}u; stride > 0u; stride /= 2u) {
      workgroupBarrier();
      if (thread < stride) {
        ${
        entries.map(([e]) => `${array}[${e}][thread] += ${array}[${e}][thread + stride];`).join(
          "\n",
        )
      }
      }
    }`;

  const norming = norm === "none" ? "" : `
${
    repeat(rows, (i) =>
      `  var squares${i} = 0.0;
${repeat(steps, (s) => names(i, s).map((x) => `  squares${i} += dot(${x}, ${x});`).join("\n"))}`)
  }
  ${addUp("squares", Array.from({ length: rows }, (_, i) => [`${i}`, `squares${i}`]))}
  workgroupBarrier();
${
    repeat(rows, (i) =>
      `  var sum${i} = 0.0;
  for (var s = 0u; s < slots; s++) { sum${i} += squares[${i}][s]; }
  let scale${i} = inverseSqrt(sum${i} / f32(u.vectors * ${wide}u) + u.eps);
${
        repeat(steps, (s) =>
          names(i, s).map((x, p) => `  ${x} *= scale${i} * load_w(v${s} * ${parts}u + ${p}u);`)
            .join("\n"))
      }`)
  }`;

  const rounding = (i: number, s: number | string) =>
    round ? names(i, s).map((x) => `${x} = rounded(${x});`).join(" ") : "";

  const heldBody = `
${repeat(steps, (s) => `  let v${s} = min(thread + ${s * threads}u, u.vectors - 1u);`)}
  var unit = group;
${repeat(outputs, (j) => `  var b${j} = (${row("unit", j)}) * u.vectors;`)}
${repeat(outputs, (j) => repeat(steps, (s) => `  var w${j}_${s} = b[b${j} + v${s}];`))}
${
    repeat(rows, (i) =>
      repeat(steps, (s) =>
        names(i, s).map((x, p) =>
          `  var ${x} = select(vec4<f32>(), load_a(u.aOffset + ${i}u * u.aStride + v${s} * ${parts}u + ${p}u), thread + ${
            s * threads
          }u < u.vectors);`
        ).join("\n")))
  }
${norming}
${repeat(rows, (i) => repeat(steps, (s) => rounding(i, s)))}
  for (var n = 0u; n < ${units}u; n++) {
    if (unit >= u.units) { break; }
${
    each((i, j) =>
      `    let sum${i}_${j} = ${
        Array.from({ length: steps }, (_, s) => `multiplied(${names(i, s).join(", ")}, w${j}_${s})`)
          .join(" + ")
      };`
    )
  }
    ${
    units === 1 ? "" : `unit += u.groups;
    let next = min(unit, u.units - 1u);
${repeat(outputs, (j) => `    b${j} = (${row("next", j)}) * u.vectors;`)}
${repeat(outputs, (j) => repeat(steps, (s) => `    w${j}_${s} = b[b${j} + v${s}];`))}`
  }
    ${
    addUp(
      "partial",
      Array.from(
        { length: sums },
        (_, n) => [`n * ${sums}u + ${n}u`, `sum${Math.floor(n / outputs)}_${n % outputs}`],
      ),
    )
  }
    ${units === 1 ? "break;" : ""}
  }`;

  const step = (count: number) => `
${
    repeat(count, (s) =>
      repeat(outputs, (j) => `    let w${j}_${s} = b[b${j} + v + ${s * threads}u];`))
  }
${
    repeat(count, (s) =>
      repeat(rows, (i) =>
        names(i, s).map((x, p) =>
          `    var ${x} = load_a(u.aOffset + ${i}u * u.aStride + (v + ${
            s * threads
          }u) * ${parts}u + ${p}u);`
        ).join("\n") + rounding(i, s)))
  }
${
    repeat(count, (s) =>
      each((i, j) => `    sum${i}_${j} += multiplied(${names(i, s).join(", ")}, w${j}_${s});`))
  }`;

  const streamedBody = `
${repeat(outputs, (j) => `  let b${j} = (${row("group", j)}) * u.vectors;`)}
${each((i, j) => `  var sum${i}_${j} = 0.0;`)}
  var v = thread;
  for (; v + ${(steps - 1) * threads}u < u.vectors; v += ${steps * threads}u) {${step(steps)}
  }
  ${
    steps === 1 ? "" : `for (; v < u.vectors; v += ${threads}u) {${step(1)}
  }`
  }
  ${
    addUp(
      "partial",
      Array.from(
        { length: sums },
        (_, n) => [`${n}`, `sum${Math.floor(n / outputs)}_${n % outputs}`],
      ),
    )
  }`;

  const entry = (j: string) => `total(first + ${j}, slots)`;
  const value = swiglu
    ? `silu(vec2<f32>(${entry("0u")}, ${entry("1u")})) * vec2<f32>(${entry("2u")}, ${entry("3u")})`
    : `vec2<f32>(${entry("2u * pair")}, ${entry("2u * pair + 1u")}) * u.alpha`;
  return {
    bindings,
    uniforms: {
      ...{ vectors: "u32", units: "u32", groups: "u32", alpha: "f32", eps: "f32" },
      ...{ aOffset: "u32", aStride: "u32", cOffset: "u32", cStride: "u32" },
    },
    extensions: subgroups ? ["subgroups"] : [],
    body: `
var<workgroup> partial: array<array<f32, ${slots}>, ${units * sums}>;
${norm === "none" ? "" : `var<workgroup> squares: array<array<f32, ${slots}>, ${rows}>;`}
${functions(b, wide)}
fn total(entry: u32, slots: u32) -> f32 {
  var sum = 0.0;
  for (var s = 0u; s < slots; s++) { sum += partial[entry][s]; }
  return sum;
}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  ${
      subgroups
        ? "@builtin(subgroup_size) size: u32, @builtin(subgroup_invocation_id) lane: u32,"
        : ""
    }
) {
  let group = id.y * groups.x + id.x;
  if (group >= u.groups) { return; }
  let slots = ${subgroups ? `(${threads - 1}u + size) / size` : "1u"};
  // The pair of C that this thread stores: of unit \`mine\`, row i.
  let mine = thread / ${pairs}u;
  let i = thread / ${across}u % ${rows}u;
  let pair = thread % ${across}u;
  let column = (group + mine * u.groups) * ${across}u + pair;
  let at = u.cOffset + i * u.cStride + column;
  let stores = mine < ${units}u && group + mine * u.groups < u.units;
  ${
      accumulate
        ? `var before = vec2<f32>();
  if (stores) { before = ${loaded(c)}; }`
        : ""
    }
${held ? heldBody : streamedBody}
  workgroupBarrier();
  if (!stores) { return; }
  let first = mine * ${sums}u + i * ${outputs}u;
  let value = ${value}${accumulate ? " + before" : ""};
  ${store(c)}
}`,
  };
});
