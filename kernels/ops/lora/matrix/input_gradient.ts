/**
 * The adapters' part of the input's gradient on subgroup matrices, as WGSL.
 *
 * @module
 */
import { repeat } from "../../../wgsl/repeat.ts";
import { eachWord, type MatrixPlan, tileOf, type UpTile } from "./plan.ts";

/** The tiles of loraHiddenGrad and A, and the stride of the sums. */
function tilesOf({ upRows, upColumns, ranks }: MatrixPlan<UpTile>) {
  const hidden = tileOf(0, upRows, ranks);
  return {
    hidden,
    narrow: tileOf(hidden.size, ranks, upColumns),
    sumStride: upColumns / 4 + 1,
  };
}

/** Words of workgroup memory. */
export function inputGradientWords(plan: MatrixPlan<UpTile>): number {
  const { hidden, narrow, sumStride } = tilesOf(plan);
  return Math.max(hidden.size + narrow.size, plan.upRows * sumStride);
}

/** WGSL that leaves the sums of one module, over all ranks, in workgroup memory. */
function moduleSums(plan: MatrixPlan<UpTile>, modules: number, module: number): string {
  const { shape: { m, n, k }, matrix, threads, upRows, upColumns, ranks } = plan;
  const { hidden, narrow, sumStride } = tilesOf(plan);
  // Subgroups one below the other, and side by side.
  const down = Math.min(plan.subgroups / 2, upRows / m), across = plan.subgroups / down;
  const rows = upRows / down / m, columns = upColumns / across / n;
  const eachSum = (line: (i: number, j: number) => string) =>
    repeat(rows, (i) => repeat(columns, (j) => line(i, j)));
  const isRank = (word: string, second: number) => `first + ${word} * 2u + ${second}u < u.rank`;
  // All loads are under way before the first of them is waited for.
  const load = `${
    eachWord(hidden, threads, ({ s, row, word }) =>
      `let hidden${s} = (min(firstRow + ${row}, u.rows - 1u) * ${modules}u + ${module}u) * u.rank;
let hiddenLo${s} = load_loraHiddenGrad(hidden${s} + min(first + ${word} * 2u, u.rank - 1u));
let hiddenHi${s} = load_loraHiddenGrad(hidden${s} + min(first + ${word} * 2u + 1u, u.rank - 1u));`)
  }
${
    eachWord(narrow, threads, ({ s, row, word }) =>
      `let a${s} = min(first * 4u + ${row}, u.rank * 4u - 1u) * u.width + min(column + ${word} * 2u, u.width - 2u);
let aLo${s} = load_a${module}(a${s});
let aHi${s} = load_a${module}(a${s} + 1u);`)
  }`;
  const store = `${
    eachWord(hidden, threads, ({ s, word, to, within }) =>
      `${within}{
${to} = rounded(
  select(vec4<f32>(), hiddenLo${s}, ${isRank(word, 0)}),
  select(vec4<f32>(), hiddenHi${s}, ${isRank(word, 1)}),
);
}`)
  }
${
    eachWord(narrow, threads, ({ s, row, to, within }) =>
      `${within}{
let isOwn = first * 4u + ${row} < u.rank * 4u;
${to} = rounded(select(vec4<f32>(), aLo${s}, isOwn), select(vec4<f32>(), aHi${s}, isOwn));
}`)
  }`;
  const left = (i: number, step: number) => {
    const at = `subgroup / ${across}u * ${rows * m * hidden.stride}u + ${
      i * m * hidden.stride + step * k / 8
    }u`;
    return matrix.loadLeft({ array: "words", at, stride: hidden.stride, majority: "row" });
  };
  const right = (j: number, step: number) => {
    const at = `subgroup % ${across}u * ${upColumns / across / 8}u + ${
      narrow.first + step * k * narrow.stride + j * n / 8
    }u`;
    return matrix.loadRight({ array: "words", at, stride: narrow.stride, majority: "row" });
  };
  const multiply = repeat(ranks / k, (step) =>
    `{
${repeat(rows, (i) => `let left${i} = ${left(i, step)};`)}
${
      repeat(columns, (j) =>
        `let right${j} = ${right(j, step)};
${
          repeat(
            rows,
            (i) => `sum${i}_${j} = ${matrix.multiplyAdd(`left${i}`, `right${j}`, `sum${i}_${j}`)};`,
          )
        }`)
    }
}`);
  const stores = eachSum((i, j) => {
    const at = `subgroup / ${across}u * ${rows * m * sumStride}u + subgroup % ${across}u * ${
      upColumns / across / 4
    }u + ${i * m * sumStride + j * n / 4}u`;
    return matrix.store({ array: "words", at, stride: sumStride }, `sum${i}_${j}`);
  });
  return `${eachSum((i, j) => `var sum${i}_${j} = ${matrix.zeros};`)}
for (var first = 0u; first < u.rank; first += ${ranks / 4}u) {
${load}
workgroupBarrier();
${store}
workgroupBarrier();
${multiply}
}
workgroupBarrier();
${stores}
workgroupBarrier();`;
}

/** WGSL for each of a thread's vectors of a tile: its number, row, column and sum. */
function eachVector(
  { upRows, upColumns, threads }: MatrixPlan<UpTile>,
  line: (v: { s: number; row: string; vector: string; sum: string }) => string,
): string {
  const vectors = upColumns / 4;
  return repeat(upRows * vectors / threads, (s) => {
    const at = s === 0 ? "thread" : `(thread + ${s * threads}u)`;
    const row = `${at} / ${vectors}u`, vector = `${at} % ${vectors}u`;
    return line({
      s,
      row,
      vector,
      sum: `bitcast<vec4<f32>>(words[${row} * ${vectors + 1}u + ${vector}])`,
    });
  });
}

/**
 * dx[t, k] = u.factor · Σ_i mask_i ⊙ Σ_j loraHiddenGrad[t, i·r + j] · A_i[j, k], from vector u.dxFrom of dx on and added
 * to what is there where `accumulate`: `inputGradient(columnTile, rowTile, thread, subgroup)`.
 */
export function inputGradient(
  plan: MatrixPlan<UpTile>,
  modules: number,
  { drop, accumulate }: { drop: boolean; accumulate: boolean },
): string {
  return `
fn inputGradient(columnTile: u32, rowTile: u32, thread: u32, subgroup: u32) {
  let column = columnTile * ${plan.upColumns / 4}u;
  let firstRow = rowTile * ${plan.upRows}u;
${
    eachVector(plan, ({ s, row, vector }) =>
      `let at${s} = (firstRow + ${row}) * u.width + column + ${vector};
let within${s} = firstRow + ${row} < u.rows && column + ${vector} < u.width;
var total${s} = vec4<f32>();
${accumulate ? `if (within${s}) { total${s} = load_dx(u.dxFrom + at${s}); }` : ""}`)
  }
${
    repeat(modules, (module) =>
      `{
${moduleSums(plan, modules, module)}
${
        eachVector(plan, ({ s, sum }) => {
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
