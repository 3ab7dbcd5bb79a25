/**
 * Products of LoRA adapters down to the rank on subgroup matrices, as WGSL. The subgroups of a workgroup multiply
 * neighbouring ranges of a row, and add their sums up at the end.
 *
 * @module
 */
import { repeat } from "../../../wgsl/repeat.ts";
import { perModule } from "../snippets.ts";
import { type DownTile, eachWord, type MatrixPlan, tileOf, walk } from "./plan.ts";

/** Which product down: of x and A, or of dy and B. */
export type DownSide = { of: "a"; drop: boolean } | { of: "b" };

/** The tiles of the wide and of the narrow operand, and where sums meet. */
function tilesOf(plan: MatrixPlan<DownTile>, { of }: DownSide) {
  const { downRows, downDepth, ranks } = plan;
  const wide = tileOf(0, downRows, downDepth);
  const narrow = of === "a"
    ? tileOf(wide.size, ranks, downDepth)
    : tileOf(wide.size, downDepth, ranks);
  const sumStride = ranks / 4 + 1;
  return { wide, narrow, sumStride };
}

/** Words of workgroup memory. */
export function downWords(plan: MatrixPlan<DownTile>, side: DownSide): number {
  const { wide, narrow, sumStride } = tilesOf(plan, side);
  return Math.max(wide.size + narrow.size, plan.subgroups * plan.downRows * sumStride);
}

/**
 * `down(tile, thread, subgroup)`: loraHidden[t, i·r + j] = u.factor · Σ_k dropout_i(x)[t, k] · A_i[j, k] (`a`), or
 * loraHiddenGrad[t, i·r + j] = u.scale_i · Σ_k dy_i[t, k] · B_i[k, j] (`b`).
 */
export function down(plan: MatrixPlan<DownTile>, modules: number, side: DownSide): string {
  const { shape: { m, n, k }, matrix, threads, downRows: R, downDepth, ranks } = plan;
  const { wide, narrow, sumStride } = tilesOf(plan, side), isA = side.of === "a";
  const depth = downDepth / 8, steps = downDepth / plan.subgroups / k;
  const [rows, columns] = [R / m, ranks / n];
  const eachSum = (line: (i: number, j: number) => string) =>
    repeat(rows, (i) => repeat(columns, (j) => line(i, j)));

  /** Loads a set of registers from word `at` of a row on. */
  const load = (set: number, at: string) => `
${
    eachWord(wide, threads, ({ s, word }) =>
      `wide${set}_${s} = vec4<u32>();
if (${at} + ${word} < end) { wide${set}_${s} = ${isA ? "x" : "dy"}[wideAt${s} + ${at}]; }`)
  }
${
    perModule(modules, (module) =>
      eachWord(narrow, threads, ({ s, row, word }) => {
        const [lo, hi] = [`lo${set}_${s}`, `hi${set}_${s}`];
        return `${lo} = vec4<f32>();
${hi} = vec4<f32>();
${
          isA
            ? `if (firstRank + ${row} < u.rank * 4u && ${at} + ${word} < end) {
  let index = (firstRank + ${row}) * u.width + (${at} + ${word}) * 2u;
  ${lo} = load_a${module}(index);
  ${hi} = load_a${module}(index + 1u);
}`
            : `if (${at} * 8u + ${row} < end * 8u) {
  let vector = firstRank / 4u + ${word} * 2u;
  let index = (${at} * 8u + ${row}) * u.rank + vector;
  if (vector < u.rank) { ${lo} = load_b${module}(index); }
  if (vector + 1u < u.rank) { ${hi} = load_b${module}(index + 1u); }
}`
        }`;
      }))
  }`;
  const store = (set: number) => `
${
    eachWord(wide, threads, ({ s, to }) => {
      const kept = isA && side.drop
        ? `keepWord(wide${set}_${s}, (wideAt${s} + at) * 2u, subsequence)`
        : `wide${set}_${s}`;
      return `${to} = ${kept};`;
    })
  }
${eachWord(narrow, threads, ({ s, to }) => `${to} = rounded(lo${set}_${s}, hi${set}_${s});`)}`;

  const left = (i: number, step: number) => {
    const at = `subgroup * ${steps * k / 8}u + ${i * m * wide.stride + step * k / 8}u`;
    return matrix.loadLeft({ array: "words", at, stride: wide.stride, majority: "row" });
  };
  const right = (j: number, step: number) => {
    const { first, stride } = narrow;
    return isA
      ? matrix.loadRight({
        array: "words",
        at: `subgroup * ${steps * k / 8}u + ${first + j * n * stride + step * k / 8}u`,
        stride,
        majority: "column",
      })
      : matrix.loadRight({
        array: "words",
        at: `subgroup * ${steps * k * stride}u + ${first + step * k * stride + j * n / 8}u`,
        stride,
        majority: "row",
      });
  };
  const multiply = repeat(steps, (step) =>
    `{
${repeat(columns, (j) => `let right${j} = ${right(j, step)};`)}
${repeat(rows, (i) => `let left${i} = ${left(i, step)};`)}
${
      eachSum((i, j) =>
        `sum${i}_${j} = ${matrix.multiplyAdd(`left${i}`, `right${j}`, `sum${i}_${j}`)};`
      )
    }
}`);
  const cells = R * ranks / 4;
  return `
fn down(tile: u32, thread: u32, subgroup: u32) {
  let rowTiles = (u.rows + ${R - 1}u) / ${R}u;
  let firstRow = tile % rowTiles * ${R}u;
  let rankTiles = (u.rank * 4u + ${ranks - 1}u) / ${ranks}u;
  let firstRank = tile / rowTiles % rankTiles * ${ranks}u;
  let layer = tile / rowTiles / rankTiles;
  ${
    isA
      ? `let factor = u.factor;
  let end = u.width / 2u;
  var subsequence = 0u;
${perModule(modules, (module) => `subsequence = u.subsequence${module};`)}`
      : `var factor = 0.0;
  var end = 0u;
  var start = 0u;
${
        perModule(modules, (module) =>
          `factor = u.scale${module};
end = u.width${module} / 2u;
start = u.from${module} / 2u;`)
      }`
  }
${
    eachWord(wide, threads, ({ s, row, word }) => {
      const at = `min(firstRow + ${row}, u.rows - 1u)`;
      return `let wideAt${s} = ${
        isA ? `${at} * (u.width / 2u)` : `${at} * (u.dyStride / 2u) + start`
      } + ${word};
${repeat(plan.ahead, (set) => `var wide${set}_${s} = vec4<u32>();`)}`;
    })
  }
${
    eachWord(narrow, threads, ({ s }) =>
      repeat(plan.ahead, (set) =>
        `var lo${set}_${s} = vec4<f32>();
var hi${set}_${s} = vec4<f32>();`))
  }
${eachSum((i, j) => `var sum${i}_${j} = ${matrix.zeros};`)}
${walk({ sets: plan.ahead, depth, end: "end", load, store, multiply })}
${
    eachSum((i, j) => {
      const at = `subgroup * ${R * sumStride}u + ${i * m * sumStride + j * n / 4}u`;
      return matrix.store({ array: "words", at, stride: sumStride }, `sum${i}_${j}`);
    })
  }
  workgroupBarrier();
  for (var cell = thread; cell < ${cells}u; cell += ${threads}u) {
    let row = cell / ${ranks / 4}u;
    let vector = firstRank / 4u + cell % ${ranks / 4}u;
    let index = row * ${sumStride}u + cell % ${ranks / 4}u;
    var sum = vec4<f32>();
${
    repeat(plan.subgroups, (s) =>
      `    sum += bitcast<vec4<f32>>(words[index + ${s * R * sumStride}u]);`)
  }
    if (firstRow + row < u.rows && vector < u.rank) {
      store_${isA ? "loraHidden" : "loraHiddenGrad"}(
        ((firstRow + row) * ${modules}u + layer) * u.rank + vector,
        sum * factor,
      );
    }
  }
}`;
}
