/**
 * RMSNorm in place: rmsnorm.ts's equation over groups of neighbouring columns, each group (a head of queries or keys,
 * or a whole row) on its own, all with the same weight. Backward reads the input, which forward copies before it
 * overwrites it.
 *
 * Shapes: x, dx `[T, ≥ from + groups·W]` f32 or f16, the columns from `from` on; w `[W]`; input `[T, …]` of
 * x's dtype and rstd = 1/rms `[T, …]` f32, their columns from `inputFrom` and `rstdFrom` on. W is a multiple of 4.
 * Source: Henry et al., "Query-Key Normalization for Transformers", 2020.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, readsScalars, writes, writesScalars } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";
import { sumOfThreads } from "../../wgsl/reduce.ts";
import { type NormOffset, normWeight, rmsScale } from "../../wgsl/rms.ts";

/** Threads of a group; of a software driver one SIMD group. */
const threadsOf = ({ software }: Gpu): number => software ? 8 : 32;
/** Threads that add up the gradient of one vector of the weight. */
const WEIGHT_THREADS = 64;

/** Columns that are normed. */
export interface NormColumns {
  from: number;
  groups: number;
}

/** What forward leaves for backward. */
export interface NormInputs {
  input: Tensor;
  inputFrom: number;
  rstd: Tensor;
  rstdFrom: number;
}

const UNIFORMS = {
  vectors: "u32",
  column: "u32",
  stride: "u32",
  eps: "f32",
  input_from: "u32",
  input_stride: "u32",
  rstd_from: "u32",
  rstd_stride: "u32",
} as const;

const main = (threads: number, body: string) =>
  `${sumOfThreads(threads)}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first = group.y * u.stride + u.column + group.x * u.vectors;
  let input_first = group.y * u.input_stride + u.input_from + group.x * u.vectors;
  let rstd_at = group.y * u.rstd_stride + u.rstd_from + group.x;
  var partial = 0.0;
${body}
}`;

const forward = programFamily(
  "norm_in_place",
  ({ x, w, offset, keep, threads }: {
    x: Dtype;
    w: Dtype;
    offset: NormOffset;
    keep: boolean;
    threads: number;
  }) => ({
    bindings: [
      ...writes(x, "x"),
      ...reads(w, "w"),
      ...keep ? [...writes(x, "input"), ...writesScalars("f32", "rstd")] : [],
    ],
    uniforms: UNIFORMS,
    body: main(
      threads,
      `
  for (var i = thread; i < u.vectors; i += ${threads}u) {
    let v = load_x(first + i);
    partial += dot(v, v);
  }
  let scale = ${rmsScale("sumOfThreads(thread, partial)", "f32(4u * u.vectors)")};
  ${keep ? "if (thread == 0u) { rstd[rstd_at] = scale; }" : ""}
  for (var i = thread; i < u.vectors; i += ${threads}u) {
    let v = load_x(first + i);
    ${keep ? "store_input(input_first + i, v);" : ""}
    store_x(first + i, v * scale * ${normWeight("load_w(i)", offset)});
  }`,
    ),
  }),
);

/** Norms `rows` rows of x; `keep`: where backward follows. */
export function normInPlace(
  gpu: Gpu,
  { x, w, offset, columns, rows, eps, keep }: {
    x: Tensor;
    w: Tensor;
    offset: NormOffset;
    columns: NormColumns;
    rows: number;
    eps: number;
    keep?: NormInputs;
  },
): void {
  const threads = threadsOf(gpu), width = w.shape[0], { groups } = columns;
  const program = forward({ x: x.dtype, w: w.dtype, offset, keep: keep !== undefined, threads });
  const elements = rows * groups * width;
  gpu.run(
    program,
    keep === undefined ? [x, w] : [x, w, keep.input, keep.rstd],
    { ...places(x, columns, width, keep), eps },
    [groups, rows],
    { flops: 4 * elements, bytes: (keep === undefined ? 2 : 3) * elements * bytesOf(x.dtype) },
  );
}

const backward = programFamily(
  "norm_in_place_backward",
  ({ x, w, offset, threads }: { x: Dtype; w: Dtype; offset: NormOffset; threads: number }) => ({
    bindings: [
      ...writes(x, "x"),
      ...reads(w, "w"),
      ...reads(x, "input"),
      ...readsScalars("f32", "rstd"),
    ],
    uniforms: UNIFORMS,
    body: main(
      threads,
      `
  for (var i = thread; i < u.vectors; i += ${threads}u) {
    partial += dot(load_x(first + i) * ${
        normWeight("load_w(i)", offset)
      }, load_input(input_first + i));
  }
  let scale = rstd[rstd_at];
  let mean = sumOfThreads(thread, partial) / f32(4u * u.vectors) * scale * scale;
  for (var i = thread; i < u.vectors; i += ${threads}u) {
    let gradient = load_x(first + i) * ${normWeight("load_w(i)", offset)};
    store_x(first + i, scale * (gradient - load_input(input_first + i) * mean));
  }`,
    ),
  }),
);

const weightBackward = programFamily("norm_in_place_backward_weight", ({ x }: { x: Dtype }) => ({
  bindings: [
    ...reads(x, "x"),
    ...reads(x, "input"),
    ...readsScalars("f32", "rstd"),
    ...writes("f32", "dw"),
  ],
  uniforms: { ...UNIFORMS, rows: "u32", groups: "u32" },
  body: `
var<workgroup> sums: array<vec4<f32>, ${WEIGHT_THREADS}>;
@compute @workgroup_size(${WEIGHT_THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let i = group.x;
  var own = vec4<f32>();
  for (var n = thread; n < u.rows * u.groups; n += ${WEIGHT_THREADS}u) {
    let row = n / u.groups;
    let head = n % u.groups;
    let dy = load_x(row * u.stride + u.column + head * u.vectors + i);
    let v = load_input(row * u.input_stride + u.input_from + head * u.vectors + i);
    own += dy * v * rstd[row * u.rstd_stride + u.rstd_from + head];
  }
  sums[thread] = own;
  workgroupBarrier();
  if (thread > 0u) { return; }
  var sum = load_dw(i);
  for (var n = 0u; n < ${WEIGHT_THREADS}u; n++) { sum += sums[n]; }
  store_dw(i, sum);
}`,
}));

/**
 * Turns the output's gradient, in dx's columns, into the input's, and adds the weight's to dw (f32) where it is
 * trained.
 */
export function normInPlaceBackward(
  gpu: Gpu,
  { dx, w, offset, dw, columns, rows, inputs }: {
    dx: Tensor;
    w: Tensor;
    offset: NormOffset;
    dw?: Tensor;
    columns: NormColumns;
    rows: number;
    inputs: NormInputs;
  },
): void {
  const width = w.shape[0], { groups } = columns, elements = rows * groups * width;
  const uniforms = { ...places(dx, columns, width, inputs), eps: 0 };
  const { input, rstd } = inputs, bytes = elements * bytesOf(dx.dtype);
  if (dw !== undefined) {
    gpu.run(
      weightBackward({ x: dx.dtype }),
      [dx, input, rstd, dw],
      { ...uniforms, rows, groups },
      [width / 4],
      { flops: 3 * elements, bytes: 2 * bytes },
    );
  }
  gpu.run(
    backward({ x: dx.dtype, w: w.dtype, offset, threads: threadsOf(gpu) }),
    [dx, w, input, rstd],
    uniforms,
    [groups, rows],
    { flops: 7 * elements, bytes: 3 * bytes },
  );
}

/** Where the columns and what is stored of them lie, in vectors. */
function places(x: Tensor, columns: NormColumns, width: number, inputs?: NormInputs) {
  return {
    vectors: width / 4,
    column: columns.from / 4,
    stride: x.rowSize / 4,
    input_from: (inputs?.inputFrom ?? 0) / 4,
    input_stride: (inputs?.input.rowSize ?? 0) / 4,
    rstd_from: inputs?.rstdFrom ?? 0,
    rstd_stride: inputs?.rstd.rowSize ?? 0,
  };
}
