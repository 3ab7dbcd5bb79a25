/**
 * The WGSL of products of one to eight rows (matvec.ts): the threads of a workgroup share K, make a group of 2 to 8
 * columns of C, and add up at the end. Where one round of loads covers K (`whole`) all of them are under way
 * at once, and A's rows are made (input.ts) while the weights arrive; with a grid a workgroup then goes on to
 * further groups, whose weights are under way while it adds up. Otherwise threads walk along K.
 *
 * @module
 */
import { type Binding, programFamily, type ProgramSource, reads } from "../../gpu/program.ts";
import { repeat } from "../../wgsl/repeat.ts";
import type { Dtype } from "../../gpu/tensor.ts";
import type { ActivationWgsl } from "../../wgsl/activation.ts";
import { type Activation, ACTIVATIONS } from "../../wgsl/activations.ts";
import { weightKind } from "../weights/kinds.ts";
import type { RowLoad, RowLoadWidth } from "../weights/kind.ts";
import {
  inputBindings,
  type InputKind,
  loadedInput,
  registersOf,
  roundedInput,
  wholeInput,
} from "./input.ts";
import type { MatvecLayout } from "./layout.ts";
import { SharedScales, sharingLanes } from "./scales.ts";
import { partialCount, partialSums, sumOverWorkgroup } from "./sums.ts";

/** What a product computes, as far as its program depends on it. */
export type MatvecKind = InputKind & {
  /** The kind of B's weights. */
  b: string;
  c: Dtype;
  /** Half of the columns are gates of the others, by this activation. */
  activation: Activation | "none";
  accumulate: boolean;
  /** Groups of columns of a `whole` product; of others these and `vectors` are uniforms. */
  groups: number;
};

/** Columns of C that a thread stores: of f16 a pair. */
export function storedColumns(c: Dtype): number {
  return c === "f16" ? 2 : 1;
}

/** The WGSL of a product's activation; undefined where it has none. */
function activationOf({ activation }: MatvecKind): ActivationWgsl | undefined {
  return activation === "none" ? undefined : ACTIVATIONS[activation];
}

/** Functions on a load of weights, and on A. */
function functions({ functions, type, product }: RowLoad, wide: RowLoadWidth): string {
  const x = Array.from({ length: wide / 4 }, (_, p) => `x${p}`);
  const parameters = x.map((name) => `${name}: vec4<f32>`).join(", ");
  return `${functions}
fn multiplied(${parameters}, w: ${type}) -> f32 { ${product(x, "w")} }
// What f16 makes of x. NVIDIA's compiler leaves x as it was where it is packed and unpacked, unless there is something
// between that it does not know: the uniform is zero.
fn rounded(x: vec4<f32>) -> vec4<f32> {
  let packed = vec2<u32>(pack2x16float(x.xy), pack2x16float(x.zw)) ^ vec2<u32>(u.zero);
  return vec4<f32>(unpack2x16float(packed.x), unpack2x16float(packed.y));
}`;
}

/** Sections of the body that each way of walking puts in its own order. */
interface Sections {
  /** Values that the other sections use. */
  declared: string;
  /** A thread's weights of `group`, the loads at these places, into names that begin with `to`. */
  weights(declare: string, to: string, group: string, loads: readonly string[]): string;
  /** Puts the weights of so many steps whose names begin with `from` into those that begin with `to`. */
  advance(to: string, from: string, steps: number): string;
  /** What C holds, where it is added to. */
  before: string;
  /** Adds products of the input and weights of `steps` steps to the sums. */
  multiply(steps: number): string;
  /** From the threads' sums to C; `first`: of the partial sums that are used. */
  finish(first: string): string;
  sums: string;
}

function sections(kind: MatvecKind, layout: MatvecLayout): Sections {
  const { c, accumulate, rows, compact, groups } = kind, { outputs, wide } = layout;
  const b = weightKind(kind.b).rowLoad("b", wide), activation = activationOf(kind);
  const { scale } = b, lanes = sharingLanes(b, layout, kind.vectors);
  const shared = lanes > 1 ? new SharedScales(lanes, outputs) : undefined;
  const scaled = scale === undefined ? 0 : shared?.columns ?? outputs;
  const own = activation ? outputs / 2 : outputs, stored = storedColumns(c), width = own / stored;
  const names = Array.from({ length: rows * outputs }, (_, n) => `sum${n}`);
  const rowOfB = (group: string, j: number) =>
    `${j < own ? "" : `groups * ${own}u + `}${group} * ${own}u + ${j % own}u`;
  /** The row of B of one of the columns that a lane has the scales of. */
  const rowOfScale = (group: string, j: number) => {
    if (shared === undefined) return rowOfB(group, j);
    const column = `(sharedColumn + ${j}u)`, first = `${group} * ${own}u + ${column}`;
    return activation ? `${column} / ${own}u * groups * ${own}u + ${first} % ${own}u` : first;
  };
  const scaleName = (to: string, j: number, s: number) => `${to}Scale${j}_${s}`;
  const valueOf = (j: number, s: number) => scale?.value(scaleName("w", j, s)) ?? "1.0";
  const product = (n: number, s: number) => {
    const registers = registersOf(Math.floor(n / outputs), s, layout);
    return `multiplied(${registers.join(", ")}, w${n % outputs}_${s})`;
  };
  const at = (group: string) => {
    const start = compact ? `i * ${groups * width}u` : "u.cOffset + i * u.cStride";
    return `let at = ${start} + ${group} * ${width}u + column;`;
  };
  const total = (j: string) => `total_partial(first + i * ${outputs}u + ${j}, count)`;
  const value = (j: string) =>
    activation
      ? `${activation.name}(${total(j)}) * ${total(`${own}u + ${j}`)}`
      : `${total(j)} * u.alpha`;
  const values = stored === 2
    ? `vec2<f32>(${value("2u * column")}, ${value("2u * column + 1u")})`
    : value("column");
  const added = `${values}${accumulate ? " + before" : ""}`;
  const sumsOf = ({ columns }: SharedScales, i: number) =>
    names.slice(i * outputs, i * outputs + columns);
  const sharedStep = (shared: SharedScales, s: number) => {
    const scales = Array.from({ length: scaled }, (_, j) => `scale${j}`);
    return [
      ...scales.map((name, j) => `  let ${name} = ${valueOf(j, s)};`),
      ...names.map((sum, n) => `  let of_${sum} = ${product(n, s)};`),
      ...Array.from({ length: rows }, (_, i) => {
        const products = names.slice(i * outputs, (i + 1) * outputs).map((sum) => `of_${sum}`);
        return shared.add(products, scales, sumsOf(shared, i));
      }),
    ].join("\n");
  };
  return {
    declared: shared?.declared ?? "",
    weights: (declare, to, group, loads) =>
      repeat(outputs + scaled, (n) =>
        loads.map((v, s) => {
          if (n < outputs) {
            return `  ${declare}${to}${n}_${s} = ${
              b.load(`(${rowOfB(group, n)}) * vectors + ${v}`)
            };`;
          }
          const j = n - outputs, index = `(${rowOfScale(group, j)}) * vectors + ${v}`;
          return `  ${declare}${scaleName(to, j, s)} = ${scale?.load(index)};`;
        }).join("\n")),
    advance: (to, from, steps) =>
      repeat(outputs + scaled, (n) =>
        repeat(steps, (s) => {
          const name = (of: string) =>
            n < outputs ? `${of}${n}_${s}` : scaleName(of, n - outputs, s);
          return `  ${name(to)} = ${name(from)};`;
        })),
    before: accumulate
      ? `  var before = ${stored === 2 ? "vec2<f32>()" : "0.0"};
  if (i < ${rows}u) {
    ${at("group")}
    before = ${stored === 2 ? "unpack2x16float(c[at])" : "c[at]"};
  }`
      : "",
    multiply: (count) =>
      repeat(count, (s) => {
        if (shared !== undefined) return `  {\n${sharedStep(shared, s)}\n  }`;
        return names.map((sum, n) =>
          `  ${sum} += ${product(n, s)}${scale ? ` * ${valueOf(n % outputs, s)}` : ""};`
        ).join("\n");
      }),
    finish: (first) => `
  let first = ${first};
  ${
      shared === undefined
        ? sumOverWorkgroup("partial", names, (i) => `first + ${i}u`, layout)
        : repeat(rows, (i) => shared.addUp(sumsOf(shared, i), `first + ${i * outputs}u`))
    }
  workgroupBarrier();
  if (i < ${rows}u) {
    ${at("group")}
    c[at] = ${stored === 2 ? `pack2x16float(${added})` : added};
  }`,
    sums: names.filter((_, n) => n % outputs < (shared?.columns ?? outputs))
      .map((sum) => `  var ${sum} = 0.0;`).join("\n"),
  };
}

/** One round of loads, for one group or for every grid-th. */
function wholeBody(kind: MatvecKind, layout: MatvecLayout): string {
  const { threads, steps, outputs, grid, ahead } = layout, { rows, vectors, groups } = kind;
  const { declared, weights, advance, before, multiply, finish, sums } = sections(kind, layout);
  const setup = weightKind(kind.b).setup?.("b", layout.threads) ?? "";
  const each = (line: (s: number) => string) => Array.from({ length: steps }, (_, s) => line(s));
  const loads = each((s) => `v${s}`);
  const places = each((s) => {
    const place = `thread + ${s * threads}u`;
    return `  let v${s} = ${
      threads * steps === vectors ? place : `min(${place}, ${vectors - 1}u)`
    };`;
  }).join("\n");
  if (grid === 0) {
    // C after the first weights: where it lies may wait for the uniforms.
    return `
  let group = id.y * grid.x + id.x;
  if (group >= groups) { return; }
${places}${declared}
${weights("let ", "w", "group", loads)}
${setup}${before}
${wholeInput(kind, layout, false)}
${sums}
${multiply(steps)}
${finish("0u")}`;
  }
  return `
${places}${declared}
${weights("var ", "w", "id.x", loads)}
${setup}${wholeInput(kind, layout, true)}
  // Partial sums of successive groups lie in two buffers, so that a barrier a group is enough.
  var buffer = 0u;
  for (var group = id.x; group < groups; group += ${grid}u) {
${before}
    ${
    ahead ? `let after = min(group + ${grid}u, ${groups - 1}u);` : `let after = group + ${grid}u;`
  }
${ahead ? weights("let ", "next", "after", loads) : ""}
${sums}
${multiply(steps)}
${
    ahead
      ? advance("w", "next", steps)
      : `if (after < groups) {\n${weights("", "w", "after", loads)}\n}`
  }
${finish("buffer")}
    buffer = ${rows * outputs}u - buffer;
  }`;
}

/** Rounds of loads along K. */
function alongBody(kind: MatvecKind, layout: MatvecLayout): string {
  const { threads, steps } = layout;
  const { weights, before, multiply, finish, sums } = sections(kind, layout);
  const round = (count: number) => {
    const loads = Array.from({ length: count }, (_, s) => `v + ${s * threads}u`);
    return `
${weights("let ", "w", "group", loads)}
${loadedInput(kind, layout, { loads })}
${roundedInput(kind, layout, count)}
${multiply(count)}`;
  };
  const rest = `for (; v < vectors; v += ${threads}u) {${round(1)}
  }`;
  return `
  let group = id.y * grid.x + id.x;
  if (group >= groups) { return; }
${weightKind(kind.b).setup?.("b", layout.threads) ?? ""}${before}
${sums}
  var v = thread;
  for (; v + ${(steps - 1) * threads}u < vectors; v += ${steps * threads}u) {${round(steps)}
  }
  ${steps > 1 ? rest : ""}
${finish("0u")}`;
}

function source(kind: MatvecKind, layout: MatvecLayout): ProgramSource {
  const { c, norm, rows, vectors, groups } = kind, activation = activationOf(kind);
  const { whole, threads, outputs, wide, grid, subgroup } = layout, b = weightKind(kind.b);
  const bindings: Binding[] = [
    ...inputBindings(kind),
    ...b.bindings("b", wide),
    { name: "c", dtype: c, access: "write", scalar: true },
  ];
  if (norm !== "none") bindings.push(...reads(norm, "w"));
  const width = (activation ? outputs / 2 : outputs) / storedColumns(c);
  const subgroupIds =
    "@builtin(subgroup_size) size: u32,\n  @builtin(subgroup_invocation_id) lane: u32,";
  return {
    bindings,
    uniforms: {
      vectors: "u32",
      groups: "u32",
      alpha: "f32",
      eps: "f32",
      aOffset: "u32",
      aStride: "u32",
      cOffset: "u32",
      cStride: "u32",
      zero: "u32",
    },
    extensions: subgroup > 0 ? ["subgroups"] : [],
    body: `${partialSums("partial", (grid > 0 ? 2 : 1) * rows * outputs, layout)}
${norm === "none" ? "" : partialSums("squares", rows, layout)}
${functions(b.rowLoad("b", wide), wide)}${activation?.declareFunction("f32") ?? ""}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  ${subgroup > 0 ? subgroupIds : ""}
) {
  // Written out where all loads begin at once, so that they don't wait for the uniforms.
  let vectors = ${whole ? `${vectors}u` : "u.vectors"};
  let groups = ${whole ? `${groups}u` : "u.groups"};
  let count = ${partialCount(layout)};
  // What this thread stores of a group, if anything: in C's row i.
  let i = thread / ${width}u;
  let column = thread % ${width}u;
${whole ? wholeBody(kind, layout) : alongBody(kind, layout)}
}`,
  };
}

/** The program of a kind of product in a layout. */
export const matvecProgram = programFamily(
  "matvec",
  (variant: MatvecKind & MatvecLayout) => source(variant, variant),
);
