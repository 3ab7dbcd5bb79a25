/**
 * RMSNorm: y = x · w / rms(x), rms(x) = √(mean(x²) + ε) over the last dimension; alone, and after the residual
 * connection, whose addend may still be a product's partial sums. With an `offset` of 1, w is one more than the
 * tensor says (rms.ts).
 *
 * Shapes: x `[T, H]` f32, w `[H]`, y `[T, H]`, rstd = 1/rms `[T]` f32. H is a multiple of 4.
 * Backward, with g = dy · w: dx = rstd · (g − x · rstd² · mean(g · x)), dw = Σ_t dy · x · rstd.
 * Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { SplitKPartials } from "../split_k/split_k.ts";
import { programFamily, reads, readsScalars, writes, writesScalars } from "../../gpu/program.ts";
import { rowMain, rowShare } from "./row_passes.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";
import { type NormOffset, normWeight, rmsScale } from "../../wgsl/rms.ts";

export type { NormKind } from "../../wgsl/rms.ts";

const rstdBinding = (withRstd: boolean) => withRstd ? writesScalars("f32", "rstd") : [];
const storeRstd = (withRstd: boolean) =>
  withRstd ? "if (thread == 0u) { rstd[group.x] = scale; }" : "";
const SCALE = `let scale = ${rmsScale("sum", "f32(u.width)")};`;

const forward = programFamily(
  "rmsnorm",
  (
    { w, offset, y, rstd, threads, perThread }: {
      w: Dtype;
      offset: NormOffset;
      y: Dtype;
      rstd: boolean;
      threads: number;
      perThread: number;
    },
  ) => ({
    bindings: [...reads("f32", "x"), ...reads(w, "w"), ...writes(y, "y"), ...rstdBinding(rstd)],
    uniforms: { width: "u32", eps: "f32" },
    body: rowMain({ threads, perThread }, {
      values: { v: "load_x(at)", weight: normWeight("load_w(i)", offset) },
      addSplits: false,
      first: "partial += dot(v, v);",
      between: `${SCALE}\n  ${storeRstd(rstd)}`,
      second: "store_y(at, v * scale * weight);",
    }),
  }),
);

/** Writes y and, where given, rstd for `rows` rows of x. */
export function rmsnorm(
  gpu: Gpu,
  { x, w, offset, y, rstd, rows, eps }: {
    x: Tensor;
    w: Tensor;
    offset: NormOffset;
    y: Tensor;
    rstd?: Tensor;
    rows: number;
    eps: number;
  },
): void {
  const width = w.shape[0], { threads, perThread } = rowShare(gpu, width);
  gpu.run(
    forward({ w: w.dtype, offset, y: y.dtype, rstd: rstd !== undefined, threads, perThread }),
    [x, w, y, ...rstd === undefined ? [] : [rstd]],
    { width, eps },
    [rows],
    { flops: 4 * rows * width, bytes: rows * width * (4 + bytesOf(y.dtype)) },
  );
}

const addForward = programFamily(
  "add_split_k",
  (
    { inPlace, w, offset, n, rstd, threads, perThread }: {
      inPlace: boolean;
      w: Dtype | "none";
      offset: NormOffset;
      n: Dtype;
      rstd: boolean;
      threads: number;
      perThread: number;
    },
  ) => {
    const x = inPlace ? "load_y(at)" : "load_x(at)";
    const storeY = "store_y(at, v);";
    const bindings = [
      ...reads("f32", "d"),
      ...writes("f32", "y"),
      ...inPlace ? [] : reads("f32", "x"),
      ...w === "none" ? [] : [...reads(w, "w"), ...writes(n, "n"), ...rstdBinding(rstd)],
    ];
    const uniforms = { width: "u32", splits: "u32", splitStride: "u32", eps: "f32" } as const;
    if (w === "none") {
      const program = { values: { v: x }, addSplits: true, first: storeY };
      return { bindings, uniforms, body: rowMain({ threads, perThread }, program) };
    }
    const body = rowMain({ threads, perThread }, {
      values: { v: x, weight: normWeight("load_w(i)", offset) },
      addSplits: true,
      again: { v: "load_y(at)" },
      first: `${storeY} partial += dot(v, v);`,
      between: `${SCALE}\n  ${storeRstd(rstd)}`,
      second: "store_n(at, v * scale * weight);",
    });
    return { bindings, uniforms, body };
  },
);

/**
 * The residual connection y = x + Σ d and, where `norm` is given, n = rmsnorm(y) · w and rstd of it.
 *
 * @param d Partial sums of `rows` rows. y may be x, which is then updated in place.
 */
export function addSplitK(
  gpu: Gpu,
  { x, d, y, rows, norm }: {
    x: Tensor;
    d: SplitKPartials;
    y: Tensor;
    rows: number;
    norm?: { w: Tensor; offset: NormOffset; n: Tensor; rstd?: Tensor; eps: number };
  },
): void {
  const { splits, width } = d, inPlace = x === y, { threads, perThread } = rowShare(gpu, width);
  const { w, offset = 0, n, rstd, eps = 0 } = norm ?? {};
  const program = addForward({
    inPlace,
    w: w?.dtype ?? "none",
    offset,
    n: n?.dtype ?? "f32",
    rstd: rstd !== undefined,
    threads,
    perThread,
  });
  const tensors = [d.tensor, y, ...inPlace ? [] : [x], w, n, rstd].filter((t) => t !== undefined);
  const uniforms = { width, splits, splitStride: splitStride(d), eps };
  gpu.run(program, tensors, uniforms, [rows], {
    flops: rows * width * (splits + (norm === undefined ? 0 : 4)),
    bytes: rows * width * (8 + 4 * splits + (n === undefined ? 0 : bytesOf(n.dtype))),
  });
}

/** Vectors from one split to the next. */
const splitStride = ({ rows, width }: SplitKPartials) => rows * width / 4;

/** What a program that takes a tensor or partial sums calls the binding `d`. */
type Source = Dtype | "split_k";
const sourceBinding = (source: Source) => reads(source === "split_k" ? "f32" : source, "d");

const backward = programFamily(
  "rmsnorm_backward",
  (
    { source, w, offset, rounded, threads, perThread }: {
      source: Source;
      w: Dtype;
      offset: NormOffset;
      rounded: boolean;
      threads: number;
      perThread: number;
    },
  ) => ({
    bindings: [
      ...sourceBinding(source),
      ...reads("f32", "x"),
      ...reads(w, "w"),
      ...readsScalars("f32", "rstd"),
      ...writes("f32", "dx"),
      ...rounded ? writes("f16", "rounded") : [],
    ],
    uniforms: { width: "u32", splits: "u32", splitStride: "u32" },
    body: rowMain({ threads, perThread }, {
      values: {
        dy: source === "split_k" ? "vec4<f32>()" : "load_d(at)",
        weight: normWeight("load_w(i)", offset),
        v: "load_x(at)",
        before: "load_dx(at)",
      },
      addSplits: source === "split_k",
      first: "partial += dot(dy * weight, v);",
      between: `let scale = rstd[group.x];
  let mean = sum / f32(u.width) * scale * scale;`,
      second: `
    let sum_at = before + scale * (dy * weight - v * mean);
    store_dx(at, sum_at);
    ${rounded ? "store_rounded(at, sum_at);" : ""}`,
    }),
  }),
);

const weightBackward = programFamily(
  "rmsnorm_backward_weight",
  ({ source }: { source: Source }) => ({
    bindings: [
      ...sourceBinding(source),
      ...reads("f32", "x"),
      ...readsScalars("f32", "rstd"),
      ...writes("f32", "dw"),
    ],
    uniforms: { width: "u32", rows: "u32", splits: "u32", splitStride: "u32" },
    body: `
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let vectors = u.width / 4u;
  if (id.x >= vectors) { return; }
  var sum = vec4<f32>();
  for (var row = 0u; row < u.rows; row++) {
    let at = row * vectors + id.x;
    var dy = load_d(at);
    ${
      source === "split_k"
        ? "for (var s = 1u; s < u.splits; s++) { dy += load_d(s * u.splitStride + at); }"
        : ""
    }
    sum += dy * load_x(at) * rstd[row];
  }
  store_dw(id.x, load_dw(id.x) + sum);
}`,
  }),
);

/**
 * Adds the input's gradient to dx and, where it is trained, the weight's to dw (f32).
 *
 * @param dy The output's gradient or its partial sums.
 * @param rounded Where dx is to be written in f16 too, for products that would round it.
 */
export function rmsnormBackward(
  gpu: Gpu,
  { dy, x, w, offset, rstd, dx, rounded, dw, rows }: {
    dy: Tensor | SplitKPartials;
    x: Tensor;
    w: Tensor;
    offset: NormOffset;
    rstd: Tensor;
    dx: Tensor;
    rounded?: Tensor;
    dw?: Tensor;
    rows: number;
  },
): void {
  const width = w.shape[0], { threads, perThread } = rowShare(gpu, width);
  const isSplit = "splits" in dy, d = isSplit ? dy.tensor : dy;
  const source = isSplit ? "split_k" : dy.dtype;
  const split = isSplit
    ? { splits: dy.splits, splitStride: splitStride(dy) }
    : { splits: 1, splitStride: 0 };
  const bytes = rows * width * (12 + bytesOf(d.dtype) * split.splits);
  const backwardProgram = backward({
    source,
    w: w.dtype,
    offset,
    rounded: rounded !== undefined,
    threads,
    perThread,
  });
  const written = rounded === undefined ? [dx] : [dx, rounded];
  gpu.run(backwardProgram, [d, x, w, rstd, ...written], { width, ...split }, [rows], {
    flops: (7 + split.splits) * rows * width,
    bytes: bytes + (rounded === undefined ? 0 : 2 * rows * width),
  });
  if (dw === undefined) return;
  const workgroups = Math.ceil(width / 256);
  gpu.run(weightBackward({ source }), [d, x, rstd, dw], { width, rows, ...split }, [workgroups], {
    flops: (2 + split.splits) * rows * width,
    bytes,
  });
}
