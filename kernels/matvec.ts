/**
 * Products of a few rows with a matrix, C `[M, N]` = α·A·Bᵀ (added to C where `accumulate`), for M up
 * to {@linkcode MATVEC_ROWS}: the time is that of reading B once, so every thread reads B and nothing
 * of it is staged.
 *
 * Shapes: A `[M, K]`, B `[N, K]`, C `[M, N]`, each f32 or f16; K and N are multiples of 4. A workgroup
 * makes a few columns of C: its threads share K among them and add up in f32.
 *
 * @module
 */
import type { Gpu } from "./gpu.ts";
import { programFamily } from "./program.ts";
import { bytesOf, type Dtype, type Tensor } from "./tensor.ts";

/** Most rows of A that are worth it: from here on tiles in workgroup memory win. */
export const MATVEC_ROWS = 8;
/** WebGPU's limit for one dimension of a dispatch. */
const MAX_GROUPS = 65535;

const lines = (count: number, line: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => line(i)).join("\n");

/** How a workgroup goes about it. */
export interface MatvecGeometry {
  threads: number;
  /** Columns of C that a workgroup makes: 2 or 4. */
  outputs: number;
  /** Steps along K whose loads are under way at once. */
  unroll: number;
}

/** `unroll` steps, each a vector of every row of B and A, from vector `v` on. */
function steps(rows: number, { threads, outputs }: MatvecGeometry, unroll: number): string {
  return lines(unroll, (s) => {
    const at = `v + ${s * threads}u`;
    return `${lines(outputs, (j) => `    let b${j}_${s} = load_b(b${j} + ${at});`)}
${lines(rows, (i) => `    let a${i}_${s} = load_a(u.aOffset + ${i}u * u.aStride + ${at});`)}`;
  }) + "\n" + lines(unroll, (s) =>
    lines(rows, (i) =>
      lines(outputs, (j) =>
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
    outputs: number,
    unroll: number,
  ) => {
    const geometry = { threads, outputs, unroll };
    const sums = rows * outputs;
    const each = (line: (i: number, j: number) => string) =>
      lines(rows, (i) => lines(outputs, (j) => line(i, j)));
    // Two columns at a time: that is a word of f16.
    const store = (i: number, pair: number) => {
      const [x, y] = [0, 1].map((j) => `partial[${i * outputs + 2 * pair + j}][0] * u.alpha`);
      const at = `(u.cOffset + ${i}u * u.cStride + group${
        outputs === 2 ? "" : ` * 2u + ${pair}u`
      })`;
      if (c === "f16") {
        const before = accumulate ? ` + unpack2x16float(c[${at}])` : "";
        return `  c[${at}] = pack2x16float(vec2<f32>(${x}, ${y})${before});`;
      }
      const add = (j: number) => accumulate ? ` + c[2u * ${at} + ${j}u]` : "";
      return `  c[2u * ${at}] = ${x}${add(0)};\n  c[2u * ${at} + 1u] = ${y}${add(1)};`;
    };
    return {
      bindings: [
        { name: "a", dtype: a, access: "read" },
        { name: "b", dtype: b, access: "read" },
        { name: "c", dtype: c, access: "write", scalar: true },
      ],
      uniforms: {
        vectors: "u32",
        groups: "u32",
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
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let group = id.y * groups.x + id.x;
  if (group >= u.groups) { return; }
${lines(outputs, (j) => `  let b${j} = (group * ${outputs}u + ${j}u) * u.vectors;`)}
${each((i, j) => `  var sum${i}_${j} = 0.0;`)}
  var v = thread;
  for (; v + ${(unroll - 1) * threads}u < u.vectors; v += ${unroll * threads}u) {
${steps(rows, geometry, unroll)}
  }
  for (; v < u.vectors; v += ${threads}u) {
${steps(rows, geometry, 1)}
  }
${each((i, j) => `  partial[${i * outputs + j}][thread] = sum${i}_${j};`)}
  for (var stride = ${threads / 2}u; stride > 0u; stride /= 2u) {
    workgroupBarrier();
    if (thread < stride) {
${lines(sums, (s) => `      partial[${s}][thread] += partial[${s}][thread + stride];`)}
    }
  }
  if (thread != 0u) { return; }
${lines(rows, (i) => lines(outputs / 2, (pair) => store(i, pair)))}
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
  if (m > 1 || k <= 512) return { threads: 32, outputs: 4, unroll: m <= 4 ? 2 : 1 };
  return { threads: 128, outputs: 2, unroll: 2 };
}

/** C = alpha·A·Bᵀ, added to C where `accumulate`. */
export function matvec(
  gpu: Gpu,
  { a, b, c, m, n, k, alpha, accumulate, geometry, ...places }: Matvec,
): void {
  const { threads, outputs, unroll } = geometry ?? matvecGeometry(m, k);
  const groups = n / outputs;
  const y = Math.ceil(groups / MAX_GROUPS);
  const uniforms = {
    vectors: k / 4,
    groups,
    aOffset: places.aOffset / 4,
    aStride: places.aStride / 4,
    cOffset: places.cOffset / 2,
    cStride: places.cStride / 2,
    alpha,
  };
  const program = matvecProgram(
    a.dtype,
    b.dtype,
    c.dtype,
    m,
    accumulate,
    threads,
    outputs,
    unroll,
  );
  gpu.run(program, [a, b, c], uniforms, [Math.ceil(groups / y), y], {
    flops: 2 * m * n * k,
    bytes: m * k * bytesOf(a.dtype) + n * k * bytesOf(b.dtype) + m * n * bytesOf(c.dtype),
  });
}
