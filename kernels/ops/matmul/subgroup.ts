/**
 * The matrix product on tensor cores. A workgroup stages tiles of A and B in workgroup memory as f16; each
 * of its subgroups multiplies matrices out of them and keeps its sums, f32, in registers. The next tiles are loaded
 * into registers while the present ones are multiplied. Of shallow tiles the next two are loaded, as a load takes
 * about as long as 64 values of K.
 *
 * Workgroup memory is made of words of eight halves, written whole: an array of halves would be written
 * half by half. A row of a tile has an odd number of words, so that neither the rows of a matrix nor the
 * words that threads write meet in a bank.
 *
 * To launch: workgroups `[⌈m / blockM⌉, ⌈n / blockN⌉, splits of K]` with the uniforms of every product,
 * where splits are multiples of blockK. Split s of K makes rows s·m to (s + 1)·m of C.
 * {@linkcode subgroupFits} says which products it takes.
 *
 * @module
 */
import { programFamily, type ProgramSource, writes } from "../../gpu/program.ts";
import { repeat } from "../../wgsl/repeat.ts";
import {
  MATRIX_SHAPES,
  type MatrixName,
  type MatrixShape,
  subgroupMatrix,
} from "../../gpu/subgroup_matrix.ts";
import type { Dtype } from "../../gpu/tensor.ts";
import {
  addUpdates,
  DECLARE_UPDATES,
  updateBindings,
  type Updates,
  updateUniforms,
  updateWords,
} from "../lora/matrix/update.ts";
import type { WeightKind } from "../weights/kind.ts";
import { denseKind, weightKind } from "../weights/kinds.ts";
import { type Orientation, UNIFORMS } from "./orientation.ts";
import { depthOf, type SubgroupTile } from "./subgroup_geometry.ts";
import {
  codeStaging,
  pairStaging,
  type StagedTile,
  stagedTile,
  type Staging,
  staging,
} from "./subgroup_staging.ts";

/** Whether sizes, offsets and strides (in elements) suit words of eight halves. */
export function subgroupFits(
  orientation: Orientation,
  { m, n, k, aOffset, aStride, bStride }: {
    m: number;
    n: number;
    k: number;
    aOffset: number;
    aStride: number;
    bStride: number;
  },
): boolean {
  const along = { nt: [k], nn: [k, n], tn: [m, n] }[orientation];
  return [...along, aOffset, aStride, bStride].every((size) => size % 8 === 0);
}

/** Whether eight neighbouring loads of rows of so many values have scales in common that threads can share. */
export function sharesScales(kind: WeightKind, columns: number): boolean {
  const loads = kind.tileLoad?.("b").scale.loads;
  return loads !== undefined && columns % (8 * loads) === 0;
}

/** The entries of a product's program key, without the tile's. */
export type SubgroupProduct = {
  orientation: Orientation;
  a: Dtype;
  /** The kind of B's weights. */
  b: string;
  c: Dtype;
  /** Adds to C. */
  accumulate: boolean;
  /** K is no multiple of the tile's blockK. */
  ragged: boolean;
  /** Neighbouring threads share scales of B, see {@linkcode sharesScales}. */
  sharedScales: boolean;
};

/** Where the tiles of A and B lie in workgroup memory, and where results pass through it at the end. */
function memoryOf(orientation: Orientation, tile: SubgroupTile, { m }: MatrixShape) {
  const { blockM, blockN, subgroupsM, subgroupsN } = tile, depth = depthOf(tile);
  const a = stagedTile(orientation !== "tn", blockM, depth);
  const b = stagedTile(orientation === "nt", blockN, depth);
  // Each subgroup passes on one row of its matrices at a time, in words of four f32.
  const resultStride = blockN / subgroupsN / 4 + 1;
  const perSubgroup = m * resultStride;
  const words = Math.max(a.size + b.size, subgroupsM * subgroupsN * perSubgroup);
  return { a, b, resultStride, perSubgroup, words };
}

/** Bytes of workgroup memory on tensor cores, with tables of B's kind. */
export function subgroupMemory(
  { orientation, b }: Pick<SubgroupProduct, "orientation" | "b">,
  tile: SubgroupTile,
): number {
  const { words } = memoryOf(orientation, tile, MATRIX_SHAPES.tensor_cores);
  return words * 16 + weightKind(b).sharedBytes;
}

/**
 * Stores the sums of row i of every subgroup's matrices, by way of workgroup memory: only there can a
 * thread find its four of a row.
 */
function storeRow(
  i: number,
  accumulate: boolean,
  { blockN, subgroupsM, subgroupsN, blockM }: SubgroupTile,
  { perSubgroup, resultStride }: ReturnType<typeof memoryOf>,
  shape: MatrixShape,
): string {
  const threads = subgroupsM * subgroupsN * shape.lanes;
  const [partM, partN] = [blockM / subgroupsM, blockN / subgroupsN];
  const perRow = blockN / 4, perThread = subgroupsM * shape.m * perRow / threads;
  const stores = repeat(partN / shape.n, (j) => {
    const at = `subgroup * ${perSubgroup}u + ${j * shape.n / 4}u`;
    const rows = { array: "tile", at, stride: resultStride };
    return subgroupMatrix(shape).store(rows, `sum${i}_${j}`);
  });
  return `
${i > 0 ? "workgroupBarrier();" : ""}
${stores}
workgroupBarrier();
for (var s = 0u; s < ${perThread}u; s++) {
  let v = thread + s * ${threads}u;
  let y = v / ${perRow}u; let x = v % ${perRow}u;
  let owner = y / ${shape.m}u * ${subgroupsN}u + x / ${partN / 4}u;
  let row = rowBase + y / ${shape.m}u * ${partM}u + ${i * shape.m}u + y % ${shape.m}u;
  let column = columnBase + x * 4u;
  if (row < u.m && column < u.n) {
    let word = owner * ${perSubgroup}u + y % ${shape.m}u * ${resultStride}u + x % ${partN / 4}u;
    let at = u.cOffset + (group.z * u.m + row) * u.cStride + column / 4u;
    store_c(at, bitcast<vec4<f32>>(tile[word]) * u.alpha${accumulate ? " + load_c(at)" : ""});
  }
}`;
}

/**
 * The source of one kind and one tile, for subgroups that multiply matrices of this shape.
 *
 * @throws {Error} where the threads can't share the tiles evenly.
 */
export function subgroupMatmulSource(
  product: SubgroupProduct,
  tile: SubgroupTile,
  { shape = MATRIX_SHAPES.tensor_cores, updated }: {
    shape?: MatrixShape;
    updated?: Updates;
  } = {},
): ProgramSource {
  const { orientation, c, accumulate, ragged, sharedScales } = product;
  const a = denseKind(product.a), b = weightKind(product.b);
  const { blockM, blockN, blockK, subgroupsM, subgroupsN } = tile, depth = depthOf(tile);
  const threads = subgroupsM * subgroupsN * shape.lanes;
  const [partM, partN] = [blockM / subgroupsM, blockN / subgroupsN];
  const [down, across] = [partM / shape.m, partN / shape.n];
  const memory = memoryOf(orientation, tile, shape);
  const [tileA, tileB] = [memory.a, memory.b];
  const matrix = subgroupMatrix(shape);

  // Registers hold blockK values of K of operands with eight in a register: two tiles of depth 32 gain up to 8% over
  // one (336 instead of 312 TFLOP/s in tn). Of f32 they hold one tile.
  const tiles = [a, b].every((kind) => kind.registers(8).count === 1) ? blockK / depth : 1;
  const inPairs = ({ alongK }: StagedTile) => alongK && tiles === 2;
  const stage = (name: "a" | "b", staged: StagedTile, first: number, kind: WeightKind) =>
    inPairs(staged)
      ? pairStaging(name, staged, { first, kind, threads, ragged })
      : staging(name, staged, { first, kind, threads, ragged, sets: tiles });
  const codes = sharedScales ? b.tileLoad?.("b") : undefined;
  const stageA = stage("a", tileA, 0, a);
  const stageB = codes
    ? codeStaging("b", tileB, { first: tileA.size, load: codes, threads, ragged, sets: tiles })
    : stage("b", tileB, tileA.size, b);
  const pairs = [...inPairs(tileA) ? [stageA] : [], ...inPairs(tileB) && !codes ? [stageB] : []];
  const singles = [stageA, stageB].filter((staged) => !pairs.includes(staged));

  const load = (operands: Staging[], set: number, ahead: number) =>
    operands.length === 0 ? "" : `{ let kLoad = k0 + ${ahead}u;
if (kLoad < kEnd) {
${operands.map((operand) => operand.load(set)).join("\n")}
} }`;

  /** Matrix i of an operand's tile, at k. */
  const place = (at: StagedTile, first: string, width: number, i: number, k: number) => ({
    array: "tile",
    at: `${first} + ${at.alongK ? i * width * at.stride + k / 8 : k * at.stride + i * width / 8}u`,
    stride: at.stride,
  });
  const left = (i: number, k: number) =>
    matrix.loadLeft({
      ...place(tileA, "aFirst", shape.m, i, k),
      majority: tileA.alongK ? "row" : "column",
    });
  const right = (j: number, k: number) =>
    matrix.loadRight({
      ...place(tileB, "bFirst", shape.n, j, k),
      majority: tileB.alongK ? "column" : "row",
    });
  const multiply = repeat(depth / shape.k, (step) => {
    const k = step * shape.k;
    return `{\n${repeat(down, (i) => `let left${i} = ${left(i, k)};`)}\n` +
      repeat(across, (j) =>
        `let right${j} = ${right(j, k)};\n` +
        repeat(down, (i) => {
          const sum = `sum${i}_${j}`;
          return `${sum} = ${matrix.multiplyAdd(`left${i}`, `right${j}`, sum)};`;
        })) +
      "\n}";
  });

  const results = repeat(down, (i) => storeRow(i, accumulate, tile, memory, shape));
  // The first split of K adds them.
  const updates = updated && `
if (group.z == 0u) {
${addUpdates(updated.updates, tile, { shape, matrix })}
}`;
  const words = Math.max(memory.words, updated ? updateWords(tile, shape) : 0);

  const firstOf = ({ alongK, stride }: StagedTile, part: number) =>
    `${alongK ? part * stride : part / 8}u`;
  return {
    bindings: [
      ...a.bindings("a", 8),
      ...b.bindings("b", 8),
      ...updated ? updateBindings(updated.updates, updated.up) : [],
      ...writes(c, "c"),
    ],
    uniforms: updated ? { ...UNIFORMS, ...updateUniforms(updated.updates) } : UNIFORMS,
    extensions: matrix.extensions,
    body: `${matrix.declare}
var<workgroup> tile: array<vec4<u32>, ${words}>;${codes?.functions ?? b.functions("b", 8, true)}${
      updated ? DECLARE_UPDATES : ""
    }
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
${codes ? "  @builtin(subgroup_invocation_id) lane: u32,\n" : ""}) {
let rowBase = group.x * ${blockM}u;
let columnBase = group.y * ${blockN}u;
let aFirst = subgroup / ${subgroupsN}u * ${firstOf(tileA, partM)};
let bFirst = ${tileA.size}u + subgroup % ${subgroupsN}u * ${firstOf(tileB, partN)};
var k0 = group.z * u.kPerSplit;
let kEnd = min(u.k, k0 + u.kPerSplit);
${stageA.declare}${stageB.declare}${
      repeat(down, (i) => repeat(across, (j) => `var sum${i}_${j} = ${matrix.zeros};`))
    }
${load(pairs, 0, 0)}
${repeat(tiles, (set) => load(singles, set, set * depth))}${b.setup?.("b", threads) ?? ""}
loop {
${
      repeat(tiles, (set) => `
if (k0 >= kEnd) { break; }
${stageA.store(set)}
${stageB.store(set)}
${set === tiles - 1 ? load(pairs, 0, depth) : ""}
${load(singles, set, tiles * depth)}
workgroupBarrier();
${multiply}
workgroupBarrier();
k0 += ${depth}u;`)
    }
}${updates ?? ""}
${results}
}`,
  };
}

/** What a program on tensor cores depends on. */
type SubgroupVariant = { matrices: MatrixName } & SubgroupProduct & SubgroupTile;

/** The source of a variant, with or without updates. */
function sourceOf(
  { matrices, orientation, a, b, c, accumulate, ragged, sharedScales, ...tile }: SubgroupVariant,
  updated?: Updates,
): ProgramSource {
  const product = { orientation, a, b, c, accumulate, ragged, sharedScales };
  return subgroupMatmulSource(product, tile, { shape: MATRIX_SHAPES[matrices], updated });
}

/** The program of one kind of product and one tile. */
export const subgroupMatmul = programFamily(
  "matmul_subgroup",
  (variant: SubgroupVariant) => sourceOf(variant),
);

/** The same with adapters' updates. */
export const updatedMatmul = programFamily(
  "matmul_subgroup_updated",
  ({ updates, up, ...variant }: SubgroupVariant & { updates: number; up: Dtype }) =>
    sourceOf(variant, { updates, up }),
);
