/**
 * The matrix product for software drivers: every thread reads the operands it needs where they are and
 * keeps its results in registers. There are no barriers: at a barrier such a driver switches the stack of every
 * thread. The threads of a SIMD group differ in n alone.
 *
 * @module
 */
import { programFamily, reads, writes } from "../../gpu/program.ts";
import { repeat } from "../../wgsl/repeat.ts";
import type { Dtype } from "../../gpu/tensor.ts";
import { loadFunction } from "../weights/kind.ts";
import { weightKind } from "../weights/kinds.ts";
import { type Orientation, UNIFORMS } from "./orientation.ts";

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

/** Adds the products of one step of k to the results `c{row}_{column/4}`. */
function step(orientation: Orientation, threadM: number, threadN: number): string {
  const vectors = threadN / 4;
  const fma = (row: number, a: string, b: (j: number) => string) =>
    repeat(vectors, (j) => `    c${row}_${j} = fma(vec4<f32>(${a}), ${b(j)}, c${row}_${j});`);
  if (orientation === "nt") {
    const dots = (j: number) => range(4).map((q) => `dot(a, b${j * 4 + q})`).join(", ");
    return repeat(threadN, (j) => `    let b${j} = load_b(bRow${j} + k / 4u);`) + "\n" +
      repeat(threadM, (i) =>
        `    { let a = load_a(aRow${i} + k / 4u);\n` +
        repeat(vectors, (j) => `    c${i}_${j} += vec4<f32>(${dots(j)});`) + " }");
  }
  const loadB = (q: number) =>
    repeat(
      vectors,
      (j) => `    let b${q}_${j} = load_b(bColumn + (k + ${q}u) * u.bStride + ${j}u);`,
    );
  if (orientation === "nn") {
    return repeat(4, loadB) + "\n" +
      repeat(threadM, (i) =>
        `    { let a = load_a(aRow${i} + k / 4u);\n` +
        repeat(4, (q) => fma(i, `a[${q}]`, (j) => `b${q}_${j}`)) + " }");
  }
  const loadA = (v: number) => `    let a${v} = load_a(aColumn + k * u.aStride + ${v}u);`;
  return loadB(0) + "\n" + repeat(Math.ceil(threadM / 4), loadA) + "\n" +
    repeat(threadM, (i) => fma(i, `a${i >> 2}[${i % 4}]`, (j) => `b0_${j}`));
}

/** What a program without staging depends on. */
type UnstagedProduct = {
  /** With `tn` m is a multiple of four. */
  orientation: Orientation;
  a: Dtype;
  /** The kind of B's weights. */
  b: string;
  c: Dtype;
  /** Adds to C. */
  accumulate: boolean;
  /** Results of a workgroup, and of a thread. */
  blockM: number;
  blockN: number;
  threadM: number;
  threadN: number;
};

/** The program of one kind of product and one tile. */
export const unstagedMatmul = programFamily(
  "matmul_unstaged",
  ({ orientation, accumulate, blockM, blockN, threadM, threadN, ...operands }: UnstagedProduct) => {
    const b = weightKind(operands.b);
    return {
      bindings: [...reads(operands.a, "a"), ...b.bindings("b", 4), ...writes(operands.c, "c")],
      uniforms: UNIFORMS,
      body: `${loadFunction(b, "b")}
@compute @workgroup_size(${blockN / threadN}, ${blockM / threadM})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let row = group.x * ${blockM}u + local.y * ${threadM}u;
  let column = group.y * ${blockN}u + local.x * ${threadN}u;
  if (row >= u.m || column >= u.n) { return; }
${
        orientation === "tn" ? "  let aColumn = u.aOffset + row / 4u;" : repeat(
          threadM,
          (i) => `  let aRow${i} = u.aOffset + min(row + ${i}u, u.m - 1u) * u.aStride;`,
        )
      }
${
        orientation === "nt"
          ? repeat(
            threadN,
            (j) => `  let bRow${j} = u.bOffset + min(column + ${j}u, u.n - 1u) * u.bStride;`,
          )
          : "  let bColumn = u.bOffset + column / 4u;"
      }
${repeat(threadM, (i) => repeat(threadN / 4, (j) => `  var c${i}_${j} = vec4<f32>();`))}
  for (var k = 0u; k < u.k; k += ${orientation === "tn" ? 1 : 4}u) {
${step(orientation, threadM, threadN)}
  }
${
        repeat(threadM, (i) =>
          repeat(threadN / 4, (j) =>
            `  if (row + ${i}u < u.m && column + ${4 * j}u < u.n) {
    let at = u.cOffset + (row + ${i}u) * u.cStride + column / 4u + ${j}u;
    store_c(at, c${i}_${j} * u.alpha${accumulate ? " + load_c(at)" : ""});
  }`))
      }
}`,
    };
  },
);
