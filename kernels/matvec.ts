/**
 * Products of a few rows with a matrix, y = x·Wᵀ, for up to {@linkcode MATVEC_ROWS} rows: the time is
 * that of reading W once, so every weight is read by one thread and nothing of W is staged.
 *
 * Shapes: A `[M, K]`, B `[N, K]`, C `[M, N]`, each f32 or f16; K and N are multiples of 4. A workgroup
 * makes a few columns of C: its threads share K among them and add up in f32. Three programs:
 *  - {@linkcode matvec}: C = α·A·Bᵀ, added to C where `accumulate`;
 *  - {@linkcode matvecJoined}: B is several matrices one below the other, and each has a C of its own;
 *  - {@linkcode matvecSwiglu}: B is the gate's matrix above the up matrix, C = silu(gate)·up.
 *
 * @module
 */
import type { Cost, Gpu } from "./gpu.ts";
import { type Binding, programFamily, type ProgramSource, reads, repeat } from "./program.ts";
import { bytesOf, type Dtype, type Tensor } from "./tensor.ts";

/** Most rows of A that are worth it: from here on tiles in workgroup memory win. */
export const MATVEC_ROWS = 8;
/** WebGPU's limit for one dimension of a dispatch. */
const MAX_GROUPS = 65535;

/** How a workgroup goes about it. */
export interface MatvecGeometry {
  threads: number;
  /** Rows of B that a workgroup multiplies: 2 or 4. */
  outputs: number;
  /** Steps along K whose loads are under way at once. */
  unroll: number;
}

/** What was fastest on an H100: more rows take registers, so that fewer threads reach further. */
function geometryFor(m: number, k: number): MatvecGeometry {
  if (m > 1 || k <= 512) return { threads: 32, outputs: 4, unroll: m <= 4 ? 2 : 1 };
  return { threads: 128, outputs: 2, unroll: 2 };
}

/** `unroll` steps, each a vector of every row of B and A, from vector `v` on. */
function steps(rows: number, { threads, outputs }: MatvecGeometry, unroll: number): string {
  return repeat(unroll, (s) => {
    const at = `v + ${s * threads}u`;
    return `${repeat(outputs, (j) => `    let b${j}_${s} = load_b(b${j} + ${at});`)}
${repeat(rows, (i) => `    let a${i}_${s} = load_a(u.aOffset + ${i}u * u.aStride + ${at});`)}`;
  }) + "\n" + repeat(unroll, (s) =>
    repeat(rows, (i) =>
      repeat(outputs, (j) =>
        `    sum${i}_${j} += dot(a${i}_${s}, b${j}_${s});`)));
}

/** What differs between the programs. */
interface Ending {
  /** C's bindings, one element at a time: words of two where it is f16. */
  results: Binding[];
  uniforms: ProgramSource["uniforms"];
  /** WGSL: the row of B that makes output j of workgroup `group`. */
  row: (j: number) => string;
  /** WGSL: stores what belongs to row i of A, whose sums are `sum(i, j)`. */
  store: (i: number, sum: (i: number, j: number) => string) => string;
}

/** Functions that ending WGSL may use. */
const SILU = "fn silu(g: vec2<f32>) -> vec2<f32> { return g / (1.0 + exp(-g)); }";

/** The program up to the sums, which thread 0 then stores. */
function source(
  [a, b]: [Dtype, Dtype],
  rows: number,
  geometry: MatvecGeometry,
  { results, uniforms, row, store }: Ending,
): ProgramSource {
  const { threads, outputs, unroll } = geometry;
  const sums = rows * outputs;
  const each = (line: (i: number, j: number) => string) =>
    repeat(rows, (i) => repeat(outputs, (j) => line(i, j)));
  return {
    bindings: [...reads(a, "a"), ...reads(b, "b"), ...results],
    uniforms: { vectors: "u32", groups: "u32", aOffset: "u32", aStride: "u32", ...uniforms },
    body: `
var<workgroup> partial: array<array<f32, ${threads}>, ${sums}>;
${SILU}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let group = id.y * groups.x + id.x;
  if (group >= u.groups) { return; }
${repeat(outputs, (j) => `  let b${j} = (${row(j)}) * u.vectors;`)}
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
${repeat(sums, (s) => `      partial[${s}][thread] += partial[${s}][thread + stride];`)}
    }
  }
  if (thread != 0u) { return; }
${repeat(rows, (i) => store(i, (i, j) => `partial[${i * outputs + j}][0]`))}
}`,
  };
}

const result = (name: string, dtype: Dtype): Binding => ({
  ...{ name, dtype, access: "write", scalar: true },
});

/** WGSL that stores two neighbouring values, of which the first is at pair `at`. */
function storePair(
  [name, dtype]: [string, Dtype],
  at: string,
  value: string,
  accumulate = false,
): string {
  if (dtype === "f16") {
    const before = accumulate ? ` + unpack2x16float(${name}[${at}])` : "";
    return `${name}[${at}] = pack2x16float(${value}${before});`;
  }
  const first = `${name}[2u * (${at})]`, second = `${name}[2u * (${at}) + 1u]`;
  const before = accumulate ? ` + vec2<f32>(${first}, ${second})` : "";
  return `{ let pair = ${value}${before}; ${first} = pair.x; ${second} = pair.y; }`;
}

const plain = programFamily(
  "matvec",
  (
    ...[a, b, c, rows, accumulate, threads, outputs, unroll]: [
      ...[a: Dtype, b: Dtype, c: Dtype, rows: number, accumulate: boolean],
      ...[threads: number, outputs: number, unroll: number],
    ]
  ) =>
    source([a, b], rows, { threads, outputs, unroll }, {
      results: [result("c", c)],
      uniforms: { cOffset: "u32", cStride: "u32", alpha: "f32" },
      row: (j) => `group * ${outputs}u + ${j}u`,
      store: (i, sum) =>
        repeat(outputs / 2, (pair) =>
          storePair(
            ["c", c],
            `u.cOffset + ${i}u * u.cStride + group * ${outputs / 2}u + ${pair}u`,
            `vec2<f32>(${sum(i, 2 * pair)}, ${sum(i, 2 * pair + 1)}) * u.alpha`,
            accumulate,
          )),
    }),
);

const joined = programFamily(
  "matvec_joined",
  (a: Dtype, b: Dtype, first: Dtype, rest: Dtype, rows: number, threads: number, unroll: number) =>
    source([a, b], rows, { threads, outputs: 2, unroll }, {
      results: [result("c0", first), result("c1", rest), result("c2", rest)],
      uniforms: { pairs0: "u32", pairs1: "u32", pairs2: "u32" },
      row: (j) => `group * 2u + ${j}u`,
      store: (i, sum) => {
        const value = `vec2<f32>(${sum(i, 0)}, ${sum(i, 1)})`;
        return `  if (group < u.pairs0) { ${
          storePair(["c0", first], `${i}u * u.pairs0 + group`, value)
        } }
  else if (group < u.pairs0 + u.pairs1) {
    ${storePair(["c1", rest], `${i}u * u.pairs1 + group - u.pairs0`, value)}
  } else {
    ${storePair(["c2", rest], `${i}u * u.pairs2 + group - u.pairs0 - u.pairs1`, value)}
  }`;
      },
    }),
);

const swiglu = programFamily(
  "matvec_swiglu",
  (a: Dtype, b: Dtype, c: Dtype, rows: number, threads: number, unroll: number) =>
    source([a, b], rows, { threads, outputs: 4, unroll }, {
      results: [result("c", c)],
      uniforms: {},
      row: (j) => `${j < 2 ? "" : "2u * u.groups + "}group * 2u + ${j % 2}u`,
      store: (i, sum) =>
        storePair(
          ["c", c],
          `${i}u * u.groups + group`,
          `silu(vec2<f32>(${sum(i, 0)}, ${sum(i, 1)})) * vec2<f32>(${sum(i, 2)}, ${sum(i, 3)})`,
        ),
    }),
);

/** Workgroups in as many dimensions as they need. */
function grid(groups: number): [number, number] {
  const y = Math.ceil(groups / MAX_GROUPS);
  return [Math.ceil(groups / y), y];
}

/** Work of C `[m, n]` = A·Bᵀ with depth k, whatever the orientation. */
export function productCost(
  { a, b, c }: { a: Tensor; b: Tensor; c: Tensor },
  m: number,
  n: number,
  k: number,
): Cost {
  return {
    flops: 2 * m * n * k,
    bytes: m * k * bytesOf(a.dtype) + n * k * bytesOf(b.dtype) + m * n * bytesOf(c.dtype),
  };
}

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

/** C = alpha·A·Bᵀ, added to C where `accumulate`. */
export function matvec(
  gpu: Gpu,
  { a, b, c, m, n, k, alpha, accumulate, geometry, ...places }: Matvec,
): void {
  const { threads, outputs, unroll } = geometry ?? geometryFor(m, k);
  const groups = n / outputs;
  const uniforms = {
    ...{ vectors: k / 4, groups, alpha },
    ...{ aOffset: places.aOffset / 4, aStride: places.aStride / 4 },
    ...{ cOffset: places.cOffset / 2, cStride: places.cStride / 2 },
  };
  const program = plain(a.dtype, b.dtype, c.dtype, m, accumulate, threads, outputs, unroll);
  gpu.run(program, [a, b, c], uniforms, grid(groups), productCost({ a, b, c }, m, n, k));
}

/**
 * Three products of the same rows: the rows of B belong to c[0], then to c[1], then to c[2], of which
 * the last two have the same dtype.
 */
export function matvecJoined(
  gpu: Gpu,
  { a, b, c, rows }: { a: Tensor; b: Tensor; c: readonly [Tensor, Tensor, Tensor]; rows: number },
): void {
  const [n, k] = b.shape;
  const { threads, unroll } = geometryFor(rows, k);
  const [pairs0, pairs1, pairs2] = c.map(({ rowSize }) => rowSize / 2);
  const groups = n / 2;
  const uniforms = {
    ...{ vectors: k / 4, groups, aOffset: 0, aStride: k / 4 },
    ...{ pairs0, pairs1, pairs2 },
  };
  const program = joined(a.dtype, b.dtype, c[0].dtype, c[1].dtype, rows, threads, unroll);
  gpu.run(
    program,
    [a, b, ...c],
    uniforms,
    grid(groups),
    productCost({ a, b, c: c[0] }, rows, n, k),
  );
}

/** c `[rows, N]` = silu(A·Gateᵀ) · (A·Upᵀ), where B `[2N, K]` is Gate above Up. */
export function matvecSwiglu(
  gpu: Gpu,
  { a, b, c, rows }: { a: Tensor; b: Tensor; c: Tensor; rows: number },
): void {
  const [n, k] = b.shape;
  const { threads, unroll } = geometryFor(rows, k);
  const groups = n / 4;
  const uniforms = { vectors: k / 4, groups, aOffset: 0, aStride: k / 4 };
  const program = swiglu(a.dtype, b.dtype, c.dtype, rows, threads, unroll);
  gpu.run(program, [a, b, c], uniforms, grid(groups), productCost({ a, b, c }, rows, n, k));
}
