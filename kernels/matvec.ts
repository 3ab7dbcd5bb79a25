/**
 * Products of a few rows with a matrix, C `[M, N]` = α·A·Bᵀ (added to C where `accumulate`), for M up
 * to {@linkcode MATVEC_ROWS}: the time is that of reading B once, so every thread reads B and nothing
 * of it is staged.
 *
 * Shapes: A `[M, K]`, B `[N, K]`, C `[M, N]`, each f32 or f16; K and N are multiples of 4. A workgroup
 * makes {@linkcode OUTPUTS} columns of C: its threads share K among them and add up in f32.
 *
 * @module
 */
import type { Gpu } from "./gpu.ts";
import { programFamily } from "./program.ts";
import { bytesOf, type Dtype, type Tensor } from "./tensor.ts";

/** Most rows of A that are worth it: from here on tiles in workgroup memory win. */
export const MATVEC_ROWS = 8;
/** Columns of C that a workgroup makes. */
const OUTPUTS = 4;
/** WebGPU's limit for one dimension of a dispatch. */
const MAX_GROUPS = 65535;

const lines = (count: number, line: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => line(i)).join("\n");

/** How a workgroup goes about it. */
export interface MatvecGeometry {
  threads: number;
  /** Steps along K whose loads are under way at once. */
  unroll: number;
}

/** `unroll` steps, each a vector of every row of B and A, from vector `v` on. */
function steps(rows: number, { threads }: MatvecGeometry, unroll: number): string {
  return lines(unroll, (s) => {
    const at = `v + ${s * threads}u`;
    return `${lines(OUTPUTS, (j) => `    let b${j}_${s} = load_b(b${j} + ${at});`)}
${lines(rows, (i) => `    let a${i}_${s} = load_a(u.aOffset + ${i}u * u.aStride + ${at});`)}`;
  }) + "\n" + lines(unroll, (s) =>
    lines(rows, (i) =>
      lines(OUTPUTS, (j) =>
        `    sum${i}_${j} += dot(a${i}_${s}, b${j}_${s});`)));
}

const matvecProgram = programFamily(
  "matvec",
  (
    a: Dtype,
    b: Dtype,
    c: Dtype,
    rows: number,
    accumulate: boolean,
    threads: number,
    unroll: number,
  ) => {
    const geometry = { threads, unroll };
    const sums = rows * OUTPUTS;
    const each = (line: (i: number, j: number) => string) =>
      lines(rows, (i) => lines(OUTPUTS, (j) => line(i, j)));
    const vector = (i: number, at = "") =>
      `vec4<f32>(${[0, 1, 2, 3].map((j) => `partial[${i * OUTPUTS + j}]${at}`).join(", ")})`;
    return {
      bindings: [
        { name: "a", dtype: a, access: "read" },
        { name: "b", dtype: b, access: "read" },
        { name: "c", dtype: c, access: "write" },
      ],
      uniforms: {
        vectors: "u32",
        columns: "u32",
        aOffset: "u32",
        aStride: "u32",
        cOffset: "u32",
        cStride: "u32",
        alpha: "f32",
      },
      body: `
var<workgroup> partial: array<array<f32, ${threads}>, ${sums}>;

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let column = group.y * groups.x + group.x;
  if (column >= u.columns) { return; }
${lines(OUTPUTS, (j) => `  let b${j} = (column * ${OUTPUTS}u + ${j}u) * u.vectors;`)}
${each((i, j) => `  var sum${i}_${j} = 0.0;`)}
  var v = thread;
  for (; v + ${(unroll - 1) * threads}u < u.vectors; v += ${unroll * threads}u) {
${steps(rows, geometry, unroll)}
  }
  for (; v < u.vectors; v += ${threads}u) {
${steps(rows, geometry, 1)}
  }
${each((i, j) => `  partial[${i * OUTPUTS + j}][thread] = sum${i}_${j};`)}
  for (var stride = ${threads / 2}u; stride > 0u; stride /= 2u) {
    workgroupBarrier();
    if (thread < stride) {
${lines(sums, (s) => `      partial[${s}][thread] += partial[${s}][thread + stride];`)}
    }
  }
  if (thread != 0u) { return; }
${
        lines(rows, (i) =>
          `  store_c(u.cOffset + ${i}u * u.cStride + column, ${vector(i, "[0]")} * u.alpha${
            accumulate ? ` + load_c(u.cOffset + ${i}u * u.cStride + column)` : ""
          });`)
      }
}`,
    };
  },
);

/** A product of a few rows; offsets and strides in elements. */
export interface Matvec {
  a: Tensor;
  b: Tensor;
  c: Tensor;
  /** Rows of A: at most {@linkcode MATVEC_ROWS}. */
  m: number;
  n: number;
  k: number;
  aOffset: number;
  aStride: number;
  cOffset: number;
  cStride: number;
  alpha: number;
  accumulate: boolean;
  geometry?: MatvecGeometry;
}

/** What was fastest on an H100: more rows take registers, so that fewer threads reach further. */
function matvecGeometry(m: number, k: number): MatvecGeometry {
  if (m > 1 || k <= 512) return { threads: 32, unroll: m <= 4 ? 2 : 1 };
  return { threads: 128, unroll: 2 };
}

/** C = alpha·A·Bᵀ, added to C where `accumulate`. */
export function matvec(
  gpu: Gpu,
  { a, b, c, m, n, k, alpha, accumulate, geometry, ...places }: Matvec,
): void {
  const { threads, unroll } = geometry ?? matvecGeometry(m, k);
  const columns = n / OUTPUTS;
  const y = Math.ceil(columns / MAX_GROUPS);
  const uniforms = {
    vectors: k / 4,
    columns,
    aOffset: places.aOffset / 4,
    aStride: places.aStride / 4,
    cOffset: places.cOffset / 4,
    cStride: places.cStride / 4,
    alpha,
  };
  const program = matvecProgram(
    a.dtype,
    b.dtype,
    c.dtype,
    m,
    accumulate,
    threads,
    unroll,
  );
  gpu.run(program, [a, b, c], uniforms, [Math.ceil(columns / y), y], {
    flops: 2 * m * n * k,
    bytes: m * k * bytesOf(a.dtype) + n * k * bytesOf(b.dtype) + m * n * bytesOf(c.dtype),
  });
}
