/**
 * The adapters' update of a layer's output as a part of the layer's product on tensor cores: C[t, k] += s_i · Σ_j
 * loraHidden[t, i·r + j] · B_i[k, j] for the columns k of module i. The operands are a few more values of K, so C is
 * neither read nor written once more. s_i·loraHidden and B are rounded to f16, sums are f32.
 *
 * @module
 */
import { type Binding, type ProgramSource, reads } from "../../../gpu/program.ts";
import type { MatrixShape, SubgroupMatrix } from "../../../gpu/subgroup_matrix.ts";
import type { Dtype, Tensor } from "../../../gpu/tensor.ts";
import { repeat } from "../../../wgsl/repeat.ts";
import { counted, numbered } from "../programs.ts";
import { DECLARE_ROUNDED, eachWord, tileOf } from "./plan.ts";

/** Adapters whose update a product adds: their number, and the dtype of their B. */
export interface Updates {
  updates: number;
  up: Dtype;
}

/** The update of adapters that a product on tensor cores adds to C: what its program depends on, binds and reads. */
export interface ProductUpdate extends Updates {
  /** loraHidden, and every B. */
  tensors: readonly Tensor[];
  uniforms: Readonly<Record<string, number>>;
}

/** The tile of C that a workgroup has: subgroups one below the other and side by side, each with equal parts. */
interface ProductTile {
  blockM: number;
  blockN: number;
  subgroupsM: number;
  subgroupsN: number;
}

/** What B is bound as: `up` and the module's number. */
export function updateBindings(modules: number, b: Dtype): Binding[] {
  return [...reads("f32", "hidden"), ...counted(modules, (m) => reads(b, `up${m}`))];
}

/** Where C's first column is in a row of all modules, r, and of each module the columns and s; in vectors of four. */
export function updateUniforms(modules: number): ProgramSource["uniforms"] {
  return {
    firstColumn: "u32",
    rank: "u32",
    ...numbered<"u32" | "f32">(modules, {
      from: () => "u32",
      width: () => "u32",
      scale: () => "f32",
    }),
  };
}

/** The tiles of loraHidden and B: so many ranks at once as a matrix is deep. */
function tilesOf({ blockM, blockN }: ProductTile, { k }: MatrixShape) {
  const hidden = tileOf(0, blockM, k);
  return { hidden, up: tileOf(hidden.size, blockN, k) };
}

/** Words of workgroup memory. */
export function updateWords(tile: ProductTile, shape: MatrixShape): number {
  const { hidden, up } = tilesOf(tile, shape);
  return hidden.size + up.size;
}

/** What {@linkcode addUpdates} declares. */
export const DECLARE_UPDATES = DECLARE_ROUNDED;

/**
 * WGSL that adds the updates to the sums `sum<i>_<j>` of every subgroup, by way of workgroup memory `tile` that nothing
 * else uses any more. Names of the product: `rowBase`, `columnBase`, `thread`, `subgroup`.
 */
export function addUpdates(
  modules: number,
  tile: ProductTile,
  { shape, matrix }: { shape: MatrixShape; matrix: SubgroupMatrix },
): string {
  const { blockM, blockN, subgroupsM, subgroupsN } = tile, { m, n, lanes } = shape;
  const { hidden, up } = tilesOf(tile, shape), threads = subgroupsM * subgroupsN * lanes;
  const [partM, partN] = [blockM / subgroupsM, blockN / subgroupsN];
  const [down, across] = [partM / m, partN / n];
  // All loads are under way before the first of them is waited for: only then do they share one latency.
  const load = (module: number) =>
    `${
      eachWord(hidden, threads, ({ s, row, word }) =>
        `let hidden${s} = (min(rowBase + ${row}, u.m - 1u) * ${modules}u + ${module}u) * u.rank;
let hiddenLo${s} = load_hidden(hidden${s} + min(first + ${word} * 2u, u.rank - 1u));
let hiddenHi${s} = load_hidden(hidden${s} + min(first + ${word} * 2u + 1u, u.rank - 1u));`)
    }
${
      eachWord(up, threads, ({ s, row, word }) =>
        `let upOwn${s} = column * 4u + ${row} - u.from${module} * 4u;
let up${s} = min(upOwn${s}, u.width${module} * 4u - 1u) * u.rank;
let upLo${s} = load_up${module}(up${s} + min(first + ${word} * 2u, u.rank - 1u));
let upHi${s} = load_up${module}(up${s} + min(first + ${word} * 2u + 1u, u.rank - 1u));`)
    }`;
  const isRank = (word: string, second: number) => `first + ${word} * 2u + ${second}u < u.rank`;
  const store = (module: number) =>
    `${
      eachWord(hidden, threads, ({ s, word, at, within }) =>
        `${within}{
tile[${at}] = rounded(
  select(vec4<f32>(), hiddenLo${s} * u.scale${module}, ${isRank(word, 0)}),
  select(vec4<f32>(), hiddenHi${s} * u.scale${module}, ${isRank(word, 1)}),
);
}`)
    }
${
      eachWord(up, threads, ({ s, word, at, within }) =>
        `${within}{
let isOwn = upOwn${s} < u.width${module} * 4u;
tile[${at}] = rounded(
  select(vec4<f32>(), upLo${s}, isOwn && ${isRank(word, 0)}),
  select(vec4<f32>(), upHi${s}, isOwn && ${isRank(word, 1)}),
);
}`)
    }`;
  const left = (i: number) =>
    matrix.loadLeft({
      array: "tile",
      at: `subgroup / ${subgroupsN}u * ${partM * hidden.stride}u + ${i * m * hidden.stride}u`,
      stride: hidden.stride,
      majority: "row",
    });
  const right = (j: number) =>
    matrix.loadRight({
      array: "tile",
      at: `subgroup % ${subgroupsN}u * ${partN * up.stride}u + ${up.first + j * n * up.stride}u`,
      stride: up.stride,
      majority: "column",
    });
  const multiply = `${repeat(down, (i) => `let left${i} = ${left(i)};`)}
${
    repeat(across, (j) =>
      `let right${j} = ${right(j)};
${
        repeat(down, (i) =>
          `sum${i}_${j} = ${matrix.multiplyAdd(`left${i}`, `right${j}`, `sum${i}_${j}`)};`)
      }`)
  }`;
  return `let column = u.firstColumn + columnBase / 4u;
${
    repeat(modules, (module) =>
      `if (column < u.from${module} + u.width${module} && column + ${
        blockN / 4
      }u > u.from${module}) {
for (var first = 0u; first < u.rank; first += ${shape.k / 4}u) {
${load(module)}
${store(module)}
workgroupBarrier();
${multiply}
workgroupBarrier();
}
}`)
  }`;
}
