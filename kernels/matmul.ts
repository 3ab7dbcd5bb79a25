/**
 * Matrix products: C = α·op(A)·op(B), or C += α·op(A)·op(B), in the orientations training needs.
 *
 * With weights W `[N, K]` as Hugging Face stores them (y = x·Wᵀ):
 *  - `nt`: A `[M, K]`, B `[N, K]` — forward, y = x·Wᵀ
 *  - `nn`: A `[M, K]`, B `[K, N]` — gradient of the input, dx = dy·W
 *  - `tn`: A `[K, M]`, B `[K, N]` — gradient of the weight, dW = dyᵀ·x
 *
 * Every operand is f32 or f16 in storage; sums are f32. The last dimension of every operand is a
 * multiple of 4, the others are free. B and C may exceed what one binding covers.
 *
 * Workgroups stage tiles of A and B in workgroup memory as f32; each thread keeps its results in
 * registers. The inner loop is unrolled, since wgpu guards every loop and every index.
 *
 * @module
 */
import type { Gpu } from "./gpu.ts";
import {
  type MatmulGeometry,
  matmulGeometry,
  SPLIT_BYTES,
  workgroupThreads,
} from "./matmul_geometry.ts";
import { programFamily } from "./program.ts";
import { bytesOf, type Dtype, splitRows, type Tensor } from "./tensor.ts";

/** Orientation of A and B: `n` as it is, `t` transposed. */
export type Orientation = "nt" | "nn" | "tn";

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

/**
 * Code that loads this thread's share of a `blockK`×`width` tile into registers, and code that puts it
 * into workgroup memory as rows of k. A share is a number of 4×4 squares, transposed on the way in
 * where memory runs along k.
 */
function staging(
  name: "a" | "b",
  alongK: boolean,
  width: number,
  blockK: number,
  threads: number,
  firstThread: number,
) {
  const squares = (width / 4) * (blockK / 4);
  const count = Math.ceil(squares / threads);
  const stride = width / 4 + 1;
  const [rows, limit, base] = name === "a"
    ? ["u.m", "u.m", "rowBase"]
    : ["u.n", "u.n", "columnBase"];
  let load = "", store = "", declare = "";
  for (const s of range(count)) {
    const reg = (r: number) => `${name}${s}_${r}`;
    declare += range(4).map((r) => `  var ${reg(r)} = vec4<f32>();\n`).join("");
    const id = `${name}Square${s}`;
    const inner = alongK ? blockK / 4 : width / 4;
    const offset = (s * threads - firstThread + squares * 8) % squares;
    // Neighbouring threads read neighbouring memory: k runs fastest where memory runs along k.
    declare += `  let ${id} = (thread + ${offset}u) % ${squares}u;\n`;
    declare += alongK
      ? `  let ${id}K = (${id} % ${inner}u) * 4u; let ${id}X = (${id} / ${inner}u) * 4u;\n`
      : `  let ${id}K = (${id} / ${inner}u) * 4u; let ${id}X = (${id} % ${inner}u) * 4u;\n`;
    // Where the squares run out before the threads do, the rest of the threads would repeat them.
    const guard = squares % threads === 0 ? "" : `thread + ${s * threads}u >= ${firstThread}u && ` +
      `thread + ${s * threads}u < ${firstThread + squares}u`;
    const wrap = (code: string) => guard === "" ? code : `    if (${guard}) {\n${code}    }\n`;
    let code = `    { let kk = k0 + ${id}K; let x = ${base} + ${id}X;\n`;
    for (const r of range(4)) {
      const [inside, index] = alongK
        ? [`x + ${r}u < ${rows} && kk < kEnd`, `(x + ${r}u) * u.${name}Stride + kk / 4u`]
        : [`kk + ${r}u < kEnd && x < ${limit}`, `(kk + ${r}u) * u.${name}Stride + x / 4u`];
      code += `      ${reg(r)} = vec4<f32>();\n` +
        `      if (${inside}) { ${reg(r)} = load_${name}(u.${name}Offset + ${index}); }\n`;
    }
    load += wrap(code + "    }\n");
    const out = (r: number) =>
      alongK ? `vec4<f32>(${range(4).map((q) => `${reg(q)}[${r}]`).join(", ")})` : reg(r);
    store += wrap(
      range(4).map((r) =>
        `    ${name}Tile[(${id}K + ${r}u) * ${stride}u + ${id}X / 4u] = ${out(r)};\n`
      ).join(""),
    );
  }
  return { declare, load, store, stride, squares };
}

const tiled = programFamily(
  "matmul",
  (
    orientation: Orientation,
    a: Dtype,
    b: Dtype,
    c: Dtype,
    accumulate: boolean,
    blockM: number,
    blockN: number,
    blockK: number,
    threadM: number,
    threadN: number,
    partial: boolean,
  ) => {
    const threads = workgroupThreads({ blockM, blockN, blockK, threadM, threadN });
    const across = blockN / threadN, down = blockM / threadM;
    const A = staging("a", orientation !== "tn", blockM, blockK, threads, 0);
    const firstOfB = A.squares % threads;
    const B = staging("b", orientation === "nt", blockN, blockK, threads, firstOfB);
    const [rows, columns] = [range(threadM / 4), range(threadN / 4)];
    let inner = "";
    for (const k of range(blockK)) {
      inner += "    {\n";
      for (const i of rows) {
        inner += `      let a${i} = aTile[${k * A.stride}u + aFirst + ${i * down}u];\n`;
      }
      for (const j of columns) {
        inner += `      let b${j} = bTile[${k * B.stride}u + bFirst + ${j * across}u];\n`;
      }
      for (const i of rows) {
        for (const r of range(4)) {
          for (const j of columns) {
            const name = `c${i * 4 + r}_${j}`;
            inner += `      ${name} = fma(vec4<f32>(a${i}[${r}]), b${j}, ${name});\n`;
          }
        }
      }
      inner += "    }\n";
    }
    let results = "", epilogue = "";
    for (const i of rows) {
      for (const r of range(4)) {
        epilogue += `  { let row = rowBase + (ty + ${i * down}u) * 4u + ${r}u;\n` +
          `    if (row < u.m) {\n`;
        for (const j of columns) {
          const name = `c${i * 4 + r}_${j}`;
          results += `  var ${name} = vec4<f32>();\n`;
          const at = partial
            ? "(group.z * u.m + row) * (u.n / 4u) + column / 4u"
            : "u.cOffset + row * u.cStride + column / 4u";
          const value = partial ? name : `${name} * u.alpha`;
          epilogue += `      { let column = columnBase + (tx + ${j * across}u) * 4u;\n` +
            `        if (column < u.n) {\n          let at = ${at};\n` +
            `          store_c(at, ${value}${accumulate ? " + load_c(at)" : ""});\n        } }\n`;
        }
        epilogue += "    }\n  }\n";
      }
    }
    return {
      bindings: [
        { name: "a", dtype: a, access: "read" },
        { name: "b", dtype: b, access: "read" },
        { name: "c", dtype: c, access: "write" },
      ],
      uniforms: {
        m: "u32",
        n: "u32",
        k: "u32",
        aOffset: "u32",
        aStride: "u32",
        bOffset: "u32",
        bStride: "u32",
        cOffset: "u32",
        cStride: "u32",
        kPerSplit: "u32",
        alpha: "f32",
      },
      body: `
var<workgroup> aTile: array<vec4<f32>, ${blockK * A.stride}>;
var<workgroup> bTile: array<vec4<f32>, ${blockK * B.stride}>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let rowBase = group.x * ${blockM}u;
  let columnBase = group.y * ${blockN}u;
  let tx = thread % ${across}u;
  let ty = thread / ${across}u;
  let aFirst = ty;
  let bFirst = tx;
  let kBegin = group.z * u.kPerSplit;
  let kEnd = min(u.k, kBegin + u.kPerSplit);
${A.declare}${B.declare}${results}
  var k0 = kBegin;
${A.load}${B.load}
  loop {
    if (k0 >= kEnd) { break; }
${A.store}${B.store}
    workgroupBarrier();
    k0 += ${blockK}u;
    // The next tiles are on their way while these are used.
${A.load}${B.load}
${inner}
    workgroupBarrier();
  }
${epilogue}
}`,
    };
  },
);

const sumSplits = programFamily("matmul_splits", (c: Dtype, accumulate: boolean) => ({
  bindings: [
    { name: "partials", dtype: "f32", access: "read" },
    { name: "c", dtype: c, access: "write" },
  ],
  uniforms: {
    vectors: "u32",
    perRow: "u32",
    splits: "u32",
    cOffset: "u32",
    cStride: "u32",
    alpha: "f32",
  },
  body: `
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= u.vectors) { return; }
  var sum = vec4<f32>();
  for (var s = 0u; s < u.splits; s++) { sum += load_partials(s * u.vectors + id.x); }
  let at = u.cOffset + (id.x / u.perRow) * u.cStride + id.x % u.perRow;
  store_c(at, sum * u.alpha${accumulate ? " + load_c(at)" : ""});
}`,
}));

/** One product over bindable tensors; offsets and strides in elements. */
interface Piece {
  orientation: Orientation;
  a: Tensor;
  b: Tensor;
  c: Tensor;
  m: number;
  n: number;
  k: number;
  aOffset: number;
  aStride: number;
  bStride: number;
  cOffset: number;
  cStride: number;
  alpha: number;
  accumulate: boolean;
}

function launch(gpu: Gpu, piece: Piece, geometry: MatmulGeometry): void {
  const { orientation, a, b, c, m, n, k, alpha, accumulate } = piece;
  const { blockM, blockN, blockK, threadM, threadN, splits } = geometry;
  const perSplit = Math.ceil(Math.ceil(k / splits) / blockK) * blockK;
  const parts = Math.ceil(k / perSplit);
  const partial = parts > 1;
  const target = partial ? gpu.scratch(SPLIT_BYTES) : c;
  const add = accumulate && !partial;
  const tile = [blockM, blockN, blockK, threadM, threadN] as const;
  const program = tiled(orientation, a.dtype, b.dtype, target.dtype, add, ...tile, partial);
  const uniforms = {
    m,
    n,
    k,
    aOffset: piece.aOffset / 4,
    aStride: piece.aStride / 4,
    bOffset: 0,
    bStride: piece.bStride / 4,
    cOffset: piece.cOffset / 4,
    cStride: piece.cStride / 4,
    kPerSplit: perSplit,
    alpha,
  };
  gpu.run(program, [a, b, target], uniforms, [
    Math.ceil(m / blockM),
    Math.ceil(n / blockN),
    parts,
  ], {
    flops: 2 * m * n * k,
    bytes: m * k * bytesOf(a.dtype) + n * k * bytesOf(b.dtype) + m * n * bytesOf(c.dtype),
  });
  if (!partial) return;
  const vectors = m * n / 4;
  const { cOffset, cStride } = uniforms;
  gpu.run(
    sumSplits(c.dtype, accumulate),
    [target, c],
    { vectors, perRow: n / 4, splits: parts, cOffset, cStride, alpha },
    [Math.ceil(vectors / 64)],
    { flops: m * n * parts, bytes: m * n * 4 * (parts + 1) },
  );
}

/**
 * C = alpha·op(A)·op(B), added to C where `accumulate`.
 *
 * `rows` is the number of tokens: M for `nt` and `nn`, K for `tn`. The other sizes are those of the
 * weight-like operand: B for `nt` and `nn`, C `[M, N]` for `tn`.
 */
export function matmul(
  gpu: Gpu,
  { orientation, a, b, c, rows, alpha = 1, accumulate = false, geometry }: {
    orientation: Orientation;
    a: Tensor;
    b: Tensor;
    c: Tensor;
    rows: number;
    alpha?: number;
    accumulate?: boolean;
    geometry?: MatmulGeometry;
  },
): void {
  if (rows === 0) return;
  const weight = orientation === "tn" ? c : b;
  const [height, width] = weight.shape;
  if (width % 4 !== 0 || (orientation !== "nn" && height % 4 !== 0)) {
    throw new Error(`matmul: ${weight.name} [${weight.shape}] needs sizes that are multiples of 4`);
  }
  const parts = splitRows(height, width * bytesOf(weight.dtype), gpu.maxBinding);
  const whole = parts.length === 1;
  parts.forEach(({ start, count }, index) => {
    const part = whole ? weight : weight.rows(start, count);
    const shared = { orientation, a, alpha };
    const piece: Piece = orientation === "nt"
      ? {
        ...{ ...shared, b: part, c, m: rows, n: count, k: width, accumulate },
        ...{ aOffset: 0, aStride: width, bStride: width, cOffset: start, cStride: height },
      }
      : orientation === "nn"
      ? {
        ...{ ...shared, b: part, c, m: rows, n: width, k: count },
        accumulate: accumulate || index > 0,
        ...{ aOffset: start, aStride: height, bStride: width, cOffset: 0, cStride: width },
      }
      : {
        ...{ ...shared, b, c: part, m: count, n: width, k: rows, accumulate },
        ...{ aOffset: start, aStride: height, bStride: width, cOffset: 0, cStride: width },
      };
    launch(gpu, piece, geometry ?? matmulGeometry(piece.m, piece.n, piece.k, gpu));
  });
}
