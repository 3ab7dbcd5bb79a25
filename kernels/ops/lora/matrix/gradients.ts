/**
 * Gradients of LoRA adapters on subgroup matrices, as WGSL: sums of outer products over the rows. Each of a workgroup's
 * subgroups adds up a part of the rows that are in workgroup memory, for the columns of one matrix.
 *
 * @module
 */
import { repeat } from "../../../wgsl/repeat.ts";
import { perModule } from "../snippets.ts";
import { eachWord, type GradientTile, type MatrixPlan, tileOf, walk } from "./plan.ts";

/** Whose gradients: A's or B's. */
export type GradientSide = { of: "a"; drop: boolean } | { of: "b" };

/** The tiles of the wide and of the narrow operand, and the rows and the stride of the sums. */
function tilesOf(
  { gradColumns, gradDepth, ranks, subgroups, shape: { n } }: MatrixPlan<GradientTile>,
  { of }: GradientSide,
) {
  const across = gradColumns / n, parts = subgroups / across;
  const wide = tileOf(0, gradDepth, gradColumns), narrow = tileOf(wide.size, gradDepth, ranks);
  const [sumRows, sumColumns] = of === "a" ? [ranks, gradColumns] : [gradColumns, ranks];
  const sums = { sumRows, sumVectors: sumColumns / 4, sumStride: sumColumns / 4 + 1 };
  return { wide, narrow, across, parts, ...sums };
}

/** Words of workgroup memory. */
export function gradientWords(plan: MatrixPlan<GradientTile>, side: GradientSide): number {
  const { wide, narrow, parts, sumRows, sumStride } = tilesOf(plan, side);
  return Math.max(wide.size + narrow.size, parts * sumRows * sumStride);
}

/**
 * `gradients(tile, thread, subgroup)`: gradB[k, j] += u.scale_i · Σ_t dy[t, k] · loraHidden[t, j] (`b`) or
 * gradA[j, k] += u.factor · Σ_t loraHiddenGrad[t, j] · dropout(x)[t, k] (`a`).
 */
export function gradients(
  plan: MatrixPlan<GradientTile>,
  modules: number,
  side: GradientSide,
): string {
  const { shape: { m, n, k }, matrix, threads, gradColumns: N, gradDepth: depth, ranks } = plan;
  const { wide, narrow, across, parts, sumRows, sumVectors, sumStride } = tilesOf(plan, side);
  const isA = side.of === "a";
  const tensor = isA ? "loraHiddenGrad" : "loraHidden", columns = ranks / n;

  /** Loads a set of registers from row `at` on. */
  const load = (set: number, at: string) => `
${
    eachWord(wide, threads, ({ s, row }) =>
      `wide${set}_${s} = vec4<u32>();
if (within${s} && ${at} + ${row} < u.rows) {
  wide${set}_${s} = ${isA ? "x" : "dy"}[wideAt${s} + (${at}) * stride];
}`)
  }
${
    eachWord(narrow, threads, ({ s, row, word, within }) =>
      `${within}{
lo${set}_${s} = vec4<f32>();
hi${set}_${s} = vec4<f32>();
if (${at} + ${row} < u.rows) {
  let vector = firstRank / 4u + ${word} * 2u;
  let index = ((${at} + ${row}) * ${modules}u + layer) * u.rank + vector;
  if (vector < u.rank) { lo${set}_${s} = load_${tensor}(index); }
  if (vector + 1u < u.rank) { hi${set}_${s} = load_${tensor}(index + 1u); }
}
}`)
  }`;
  const store = (set: number) => `
${
    eachWord(wide, threads, ({ s, to }) => {
      const kept = isA && side.drop
        ? `keepWord(wide${set}_${s}, (wideAt${s} + at * stride) * 2u, subsequence)`
        : `wide${set}_${s}`;
      return `${to} = ${kept};`;
    })
  }
${
    eachWord(narrow, threads, ({ s, to, within }) =>
      `${within}{ ${to} = rounded(lo${set}_${s}, hi${set}_${s}); }`)
  }`;

  const steps = depth / parts / k;
  const wideAt = (step: number) =>
    `part * ${depth / parts * wide.stride}u + own * ${n / 8}u + ${step * k * wide.stride}u`;
  const narrowAt = (step: number, j: number) =>
    `part * ${depth / parts * narrow.stride}u + ${
      narrow.first + step * k * narrow.stride + j * n / 8
    }u`;
  const multiply = repeat(steps, (step) => {
    const wideMatrix = { array: "words", at: wideAt(step), stride: wide.stride };
    const narrowMatrix = (j: number) => ({
      array: "words",
      at: narrowAt(step, j),
      stride: narrow.stride,
    });
    return isA
      ? `{
let right = ${matrix.loadRight({ ...wideMatrix, majority: "row" })};
${
        repeat(columns, (j) =>
          `let left${j} = ${matrix.loadLeft({ ...narrowMatrix(j), majority: "column" })};
sum${j} = ${matrix.multiplyAdd(`left${j}`, "right", `sum${j}`)};`)
      }
}`
      : `{
let left = ${matrix.loadLeft({ ...wideMatrix, majority: "column" })};
${
        repeat(columns, (j) =>
          `let right${j} = ${matrix.loadRight({ ...narrowMatrix(j), majority: "row" })};
sum${j} = ${matrix.multiplyAdd("left", `right${j}`, `sum${j}`)};`)
      }
}`;
  });
  const sumAt = (j: number) =>
    `part * ${sumRows * sumStride}u + ` +
    (isA ? `own * ${n / 4}u + ${j * m * sumStride}u` : `own * ${m * sumStride}u + ${j * n / 4}u`);
  const add = (module: number) =>
    isA
      ? `if (firstRank + row < u.rank * 4u && firstColumn + vector < width) {
  let to = (firstRank + row) * width + firstColumn + vector;
  store_gradA${module}(to, load_gradA${module}(to) + sum * factor);
}`
      : `if (firstColumn * 4u + row < width * 4u && firstRank / 4u + vector < u.rank) {
  let to = (firstColumn * 4u + row) * u.rank + firstRank / 4u + vector;
  store_gradB${module}(to, load_gradB${module}(to) + sum * factor);
}`;
  return `
fn gradients(tile: u32, thread: u32, subgroup: u32) {
  let firstColumn = tile % u.columnTiles * ${N / 4}u;
  let rankTiles = (u.rank * 4u + ${ranks - 1}u) / ${ranks}u;
  let firstRank = tile / u.columnTiles % rankTiles * ${ranks}u;
  let layer = tile / u.columnTiles / rankTiles;
  let part = subgroup / ${across}u;
  let own = subgroup % ${across}u;
  ${
    isA
      ? `let factor = u.factor;
  let width = u.width;
  let stride = width / 2u;
  let start = 0u;
  var subsequence = 0u;
${perModule(modules, (module) => `subsequence = u.subsequence${module};`)}`
      : `let stride = u.dyStride / 2u;
  var factor = 0.0;
  var width = 0u;
  var start = 0u;
${
        perModule(modules, (module) =>
          `factor = u.scale${module};
width = u.width${module};
start = u.from${module} / 2u;`)
      }`
  }
  // Tiles of the narrower of several layers lie beyond them.
  if (firstColumn >= width) { return; }
${
    eachWord(wide, threads, ({ s, row, word }) =>
      `let within${s} = firstColumn / 2u + ${word} < width / 2u;
let wideAt${s} = ${row} * stride + start + firstColumn / 2u + ${word};
${
        repeat(plan.ahead, (set) => `var wide${set}_${s} = vec4<u32>();`)
      }`)
  }
${
    eachWord(narrow, threads, ({ s }) =>
      repeat(plan.ahead, (set) =>
        `var lo${set}_${s} = vec4<f32>();
var hi${set}_${s} = vec4<f32>();`))
  }
${repeat(columns, (j) => `var sum${j} = ${matrix.zeros};`)}
${walk({ sets: plan.ahead, depth, end: "u.rows", load, store, multiply })}
${
    repeat(columns, (j) =>
      matrix.store({ array: "words", at: sumAt(j), stride: sumStride }, `sum${j}`))
  }
  workgroupBarrier();
  for (var cell = thread; cell < ${sumRows * sumVectors}u; cell += ${threads}u) {
    let row = cell / ${sumVectors}u;
    let vector = cell % ${sumVectors}u;
    let index = row * ${sumStride}u + vector;
    var sum = vec4<f32>();
${
    repeat(parts, (p) =>
      `    sum += bitcast<vec4<f32>>(words[index + ${p * sumRows * sumStride}u]);`)
  }
${perModule(modules, add)}
  }
}`;
}
