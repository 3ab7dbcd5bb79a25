/**
 * Products of LoRA adapters up to a layer's width on subgroup matrices, as WGSL.
 *
 * @module
 */
import { repeat } from "../../../wgsl/repeat.ts";
import { perModule } from "../snippets.ts";
import { eachWord, type MatrixPlan, SUBGROUPS, tileOf, type UpTile } from "./plan.ts";

/** Subgroups one below the other, and side by side. */
function subgroupsOf({ upRows, shape: { m } }: MatrixPlan<UpTile>) {
  const down = Math.min(SUBGROUPS / 2, upRows / m);
  return { down, across: SUBGROUPS / down };
}

/** The tiles of the hidden rows and of B or A, and the stride of the sums. */
function tilesOf({ upRows, upColumns, ranks }: MatrixPlan<UpTile>, of: "a" | "b") {
  const hidden = tileOf(0, upRows, ranks);
  const narrow = of === "b"
    ? tileOf(hidden.size, upColumns, ranks)
    : tileOf(hidden.size, ranks, upColumns);
  return { hidden, narrow, sumStride: upColumns / 4 + 1 };
}

/** Words of workgroup memory. */
export function upWords(plan: MatrixPlan<UpTile>, of: "a" | "b"): number {
  const { hidden, narrow, sumStride } = tilesOf(plan, of);
  return Math.max(hidden.size + narrow.size, plan.upRows * sumStride);
}

/** WGSL that leaves module `module`'s product of all ranks in workgroup memory; of B that of the tile's layer. */
function product(
  plan: MatrixPlan<UpTile>,
  modules: number,
  { of, module }: { of: "a"; module: number } | { of: "b"; module: "layer" },
): string {
  const { shape: { m, n, k }, matrix, threads, upRows, upColumns, ranks } = plan;
  const { hidden, narrow, sumStride } = tilesOf(plan, of);
  const { down, across } = subgroupsOf(plan);
  const rows = upRows / down / m, columns = upColumns / across / n;
  const eachSum = (line: (i: number, j: number) => string) =>
    repeat(rows, (i) => repeat(columns, (j) => line(i, j)));
  const tensor = of === "b" ? "loraHidden" : "loraHiddenGrad";
  const stageHidden = eachWord(hidden, threads, ({ row, word, to, within }) =>
    `${within}{
let vector = first + ${word} * 2u;
let index = (min(firstRow + ${row}, u.rows - 1u) * ${modules}u + ${
      of === "b" ? module : `${module}u`
    }) * u.rank + vector;
var lo = vec4<f32>();
var hi = vec4<f32>();
if (vector < u.rank) { lo = load_${tensor}(index); }
if (vector + 1u < u.rank) { hi = load_${tensor}(index + 1u); }
${to} = rounded(lo, hi);
}`);
  const stageNarrow = (m: number) =>
    eachWord(narrow, threads, ({ row, word, to, within }) =>
      `${within}{
var lo = vec4<f32>();
var hi = vec4<f32>();
${
        of === "b"
          ? `let vector = first + ${word} * 2u;
let index = min(column * 4u + ${row}, width * 4u - 1u) * u.rank + vector;
if (vector < u.rank) { lo = load_b${m}(index); }
if (vector + 1u < u.rank) { hi = load_b${m}(index + 1u); }`
          : `if (first * 4u + ${row} < u.rank * 4u) {
  let index = (first * 4u + ${row}) * width + min(column + ${word} * 2u, width - 2u);
  lo = load_a${m}(index);
  hi = load_a${m}(index + 1u);
}`
      }
${to} = rounded(lo, hi);
}`);
  const right = (j: number, step: number) =>
    matrix.loadRight(
      of === "b"
        ? {
          array: "words",
          at: `subgroup % ${across}u * ${upColumns / across * narrow.stride}u + ${
            narrow.first + j * n * narrow.stride + step * k / 8
          }u`,
          stride: narrow.stride,
          majority: "column",
        }
        : {
          array: "words",
          at: `subgroup % ${across}u * ${upColumns / across / 8}u + ${
            narrow.first + step * k * narrow.stride + j * n / 8
          }u`,
          stride: narrow.stride,
          majority: "row",
        },
    );
  const left = (i: number, step: number) =>
    matrix.loadLeft({
      array: "words",
      at: `subgroup / ${across}u * ${rows * m * hidden.stride}u + ${
        i * m * hidden.stride + step * k / 8
      }u`,
      stride: hidden.stride,
      majority: "row",
    });
  return `
${eachSum((i, j) => `var sum${i}_${j} = ${matrix.zeros};`)}
for (var first = 0u; first < u.rank; first += ${ranks / 4}u) {
workgroupBarrier();
${stageHidden}
${of === "b" ? perModule(modules, stageNarrow) : stageNarrow(module)}
workgroupBarrier();
${
    repeat(ranks / k, (step) =>
      `{
${repeat(rows, (i) => `let left${i} = ${left(i, step)};`)}
${
        repeat(columns, (j) =>
          `let right${j} = ${right(j, step)};
${
            repeat(rows, (i) =>
              `sum${i}_${j} = ${matrix.multiplyAdd(`left${i}`, `right${j}`, `sum${i}_${j}`)};`)
          }`)
      }
}`)
  }
}
workgroupBarrier();
${
    eachSum((i, j) => {
      const at = `subgroup / ${across}u * ${rows * m * sumStride}u + subgroup % ${across}u * ${
        upColumns / across / 4
      }u + ${i * m * sumStride + j * n / 4}u`;
      return matrix.store({ array: "words", at, stride: sumStride }, `sum${i}_${j}`);
    })
  }
workgroupBarrier();`;
}

/** WGSL for each of a thread's vectors of a tile: its number, row and column. */
function eachVector(
  { upRows, upColumns, threads }: MatrixPlan<UpTile>,
  line: (v: { s: number; row: string; vector: string; from: string }) => string,
): string {
  const vectors = upColumns / 4;
  return repeat(upRows * vectors / threads, (s) => {
    const at = s === 0 ? "thread" : `(thread + ${s * threads}u)`;
    const row = `${at} / ${vectors}u`, vector = `${at} % ${vectors}u`;
    return line({ s, row, vector, from: `words[${row} * ${vectors + 1}u + ${vector}]` });
  });
}

/** `up(columnTile, rowTile, layer, thread, subgroup)`: y_i[t, k] += u.scale_i · Σ_j loraHidden[t, i·r + j] · B_i[k, j]. */
export function upY(plan: MatrixPlan<UpTile>, modules: number): string {
  return `
fn upY(columnTile: u32, rowTile: u32, layer: u32, thread: u32, subgroup: u32) {
  let column = columnTile * ${plan.upColumns / 4}u;
  let firstRow = rowTile * ${plan.upRows}u;
  var scale = 0.0;
  var width = 0u;
  var start = 0u;
${
    perModule(modules, (module) =>
      `scale = u.scale${module};
width = u.width${module};
start = u.from${module};`)
  }
  // Tiles of the narrower of several layers lie beyond them.
  if (column >= width) { return; }
${
    eachVector(plan, ({ s, row, vector }) =>
      `let to${s} = (firstRow + ${row}) * u.yStride + start + column + ${vector};
let within${s} = firstRow + ${row} < u.rows && column + ${vector} < width;
var before${s} = vec4<f32>();
if (within${s}) { before${s} = load_y(to${s}); }`)
  }
${product(plan, modules, { of: "b", module: "layer" })}
${
    eachVector(plan, ({ s, from }) =>
      `if (within${s}) { store_y(to${s}, before${s} + scale * bitcast<vec4<f32>>(${from})); }`)
  }
}`;
}

/**
 * dx[t, k] = u.factor · Σ_i mask_i ⊙ Σ_j loraHiddenGrad[t, i·r + j] · A_i[j, k], from vector u.dxFrom of dx on and added
 * to what is there where `accumulate`: `upX(columnTile, rowTile, thread, subgroup)`.
 */
export function upX(
  plan: MatrixPlan<UpTile>,
  modules: number,
  { drop, accumulate }: { drop: boolean; accumulate: boolean },
): string {
  return `
fn upX(columnTile: u32, rowTile: u32, thread: u32, subgroup: u32) {
  let column = columnTile * ${plan.upColumns / 4}u;
  let firstRow = rowTile * ${plan.upRows}u;
  let width = u.width;
${
    eachVector(plan, ({ s, row, vector }) =>
      `let at${s} = (firstRow + ${row}) * width + column + ${vector};
let within${s} = firstRow + ${row} < u.rows && column + ${vector} < width;
var total${s} = vec4<f32>();
${accumulate ? `if (within${s}) { total${s} = load_dx(u.dxFrom + at${s}); }` : ""}`)
  }
${
    repeat(modules, (module) =>
      `{
${product(plan, modules, { of: "a", module })}
${
        eachVector(plan, ({ s, from }) => {
          const sum = `bitcast<vec4<f32>>(${from})`;
          const kept = drop
            ? `select(vec4<f32>(), ${sum}, keepMask(at${s}, u.subsequence${module}))`
            : sum;
          return `total${s} += u.factor * ${kept};`;
        })
      }
}`)
  }
${eachVector(plan, ({ s }) => `if (within${s}) { store_dx(u.dxFrom + at${s}, total${s}); }`)}
}`;
}
