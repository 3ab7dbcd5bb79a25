/**
 * What attention's gradients on subgroup matrices read of each query besides its rows: delta, the product of its output
 * and the output's gradient, and its lse. Every tile of keys needs both again, so they are made before, once.
 *
 * @module
 */
import { type Binding, type ProgramSource, readsScalars } from "../../../gpu/program.ts";
import { repeat } from "../../../wgsl/repeat.ts";
import { headUniforms } from "../heads.ts";
import { readsWords } from "./tiles.ts";

const THREADS = 256;

/** Bytes of delta and lse of all queries. */
export const statisticsBytes = (rows: number, heads: number): number => 8 * rows * heads;

/** The binding `statistics` `[heads, rows]`: of each query delta and lse · log₂ e, as the words of f32. */
export function statisticsBinding(access: Binding["access"]): Binding {
  return { name: "statistics", dtype: "f32", access, words: 2 };
}

/** Threads that share a head row. */
const threadsOf = (headDim: number) => Math.min(8, headDim / 8);

/** Workgroups that make them. */
export function statisticsGroups(rows: number, heads: number, headDim: number): number {
  return Math.ceil(rows * heads * threadsOf(headDim) / THREADS);
}

/** The source for heads of a size. */
export function statisticsSource({ headDim }: { headDim: number }): ProgramSource {
  const words = headDim / 8, shared = threadsOf(headDim);
  const word = (name: string, i: number) =>
    `${name}[row * u.${name}_stride + u.${name}_from + head * ${words}u + part + ${i * shared}u]`;
  return {
    bindings: [
      ...readsWords("out", "dout"),
      ...readsScalars("f32", "lse"),
      statisticsBinding("write"),
    ],
    uniforms: { rows: "u32", heads: "u32", ...headUniforms("out", "dout") },
    extensions: ["subgroups"],
    body: `
fn word_dot(a: vec4<u32>, b: vec4<u32>) -> f32 {
  return dot(unpack2x16float(a.x), unpack2x16float(b.x)) + dot(unpack2x16float(a.y), unpack2x16float(b.y)) +
    dot(unpack2x16float(a.z), unpack2x16float(b.z)) + dot(unpack2x16float(a.w), unpack2x16float(b.w));
}

@compute @workgroup_size(${THREADS})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let query = group.x * ${THREADS / shared}u + thread / ${shared}u;
  let part = thread % ${shared}u;
  let row = query / u.heads;
  let head = query % u.heads;
  var delta = 0.0;
  if (row < u.rows) {
    ${repeat(words / shared, (i) => `delta += word_dot(${word("out", i)}, ${word("dout", i)});`)}
  }
  ${repeat(Math.log2(shared), (x) => `delta += subgroupShuffleXor(delta, ${1 << x}u);`)}
  if (part == 0u && row < u.rows) {
    statistics[head * u.rows + row] =
      vec2<u32>(bitcast<u32>(delta), bitcast<u32>(lse[query] * ${Math.LOG2E}));
  }
}`,
  };
}
