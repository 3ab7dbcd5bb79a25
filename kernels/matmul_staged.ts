/**
 * The matrix product for GPUs: a workgroup stages tiles of A and B in workgroup memory as f32, each
 * thread keeps its results in registers. The inner loop is unrolled, since wgpu guards every loop and
 * every index.
 *
 * @module
 */
import { workgroupThreads } from "./matmul_geometry.ts";
import { type Orientation, UNIFORMS } from "./matmul_orientation.ts";
import { programFamily } from "./program.ts";
import type { Dtype } from "./tensor.ts";

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
  // Unless every thread has the same number of squares, they begin where the other operand's end.
  const even = squares % threads === 0;
  const first = even ? 0 : firstThread;
  const count = Math.ceil((squares + first) / threads);
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
    const offset = (s * threads - first + squares * 8) % squares;
    // Neighbouring threads read neighbouring memory: k runs fastest where memory runs along k.
    declare += `  let ${id} = (thread + ${offset}u) % ${squares}u;\n`;
    declare += alongK
      ? `  let ${id}K = (${id} % ${inner}u) * 4u; let ${id}X = (${id} / ${inner}u) * 4u;\n`
      : `  let ${id}K = (${id} / ${inner}u) * 4u; let ${id}X = (${id} % ${inner}u) * 4u;\n`;
    // Where the squares run out before the threads do, the rest of the threads would repeat them.
    const guard = even ? "" : `thread + ${s * threads}u >= ${first}u && ` +
      `thread + ${s * threads}u < ${first + squares}u`;
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

/** The program of one orientation, three dtypes and one tile. */
export const stagedMatmul = programFamily(
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
          epilogue += `      { let column = columnBase + (tx + ${j * across}u) * 4u;\n` +
            `        if (column < u.n) {\n          let at = firstC + row * u.cStride + column / 4u;\n` +
            `          store_c(at, ${name} * u.alpha${
              accumulate ? " + load_c(at)" : ""
            });\n        } }\n`;
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
      uniforms: UNIFORMS,
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
  let firstC = u.cOffset + group.z * u.m * u.cStride;
${epilogue}
}`,
    };
  },
);
